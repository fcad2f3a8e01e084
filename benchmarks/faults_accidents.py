"""A function of mails that does to its task what none should: which accident, the subject says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

HANDLER = f"{__name__}:on_mail"


async def _fails() -> None:
    await asyncio.sleep(0)
    raise ValueError("a child")


async def _child_fails_while_the_group_is_left() -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_fails())


async def _child_fails_in_the_body() -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_fails)
        await asyncio.sleep(60)


async def _cancels_itself() -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(60)


async def _swallows_its_timeout() -> None:
    for _ in range(2):
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            continue
    raise ValueError("and then fails")


def _raises(error: type[BaseException]) -> Callable[[], Awaitable[None]]:
    async def raises() -> None:
        raise error

    return raises


ACCIDENTS: tuple[Callable[[], Awaitable[None]], ...] = (
    _child_fails_while_the_group_is_left,
    _child_fails_in_the_body,
    _cancels_itself,
    _swallows_its_timeout,
    *map(_raises, (SystemExit, KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)),
)


async def on_mail(mail: Any) -> None:
    """Have the accident whose number the subject gives."""
    await ACCIDENTS[int(mail.subject) % len(ACCIDENTS)]()
