"""The threads of motor's blocking client: few, kept, and none waits for who has given up."""

from __future__ import annotations

import asyncio
import threading

import pytest

from enricher.adapters.command_threads import CommandThreads


async def test_what_a_function_returns_or_raises_comes_back() -> None:
    threads = CommandThreads(2)
    assert await threads.run(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        await threads.run(divmod, 7, 0)
    assert await threads.run(divmod, 9, 2) == (4, 1)
    threads.close()


async def test_one_thread_serves_what_comes_one_after_the_other_and_the_limit_holds() -> None:
    threads, both = CommandThreads(2), threading.Barrier(2)
    first = {await threads.run(threading.get_ident) for _ in range(5)}
    assert len(first) == 1
    waiting = [threads.run(lambda: (both.wait(60), threading.get_ident())) for _ in range(4)]
    assert len({ident for _, ident in await asyncio.gather(*waiting)} | first) == 2
    threads.close()


@pytest.mark.parametrize("limit", [1, 2])
async def test_what_is_given_up_goes_on_and_keeps_nobody_waiting_while_it_hangs(limit: int) -> None:
    threads, gate = CommandThreads(limit), threading.Event()
    given_up = asyncio.create_task(threads.run(gate.wait, 60))
    await asyncio.sleep(0)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    if limit == 1:  # else there is a thread that is free
        gate.set()
    assert await asyncio.wait_for(threads.run(divmod, 7, 2), 30) == (3, 1)
    gate.set()
    threads.close()


async def test_a_closed_one_leaves_no_thread_behind_and_begins_another_if_need_be() -> None:
    threads = CommandThreads(1)
    ident = await threads.run(threading.get_ident)
    (thread,) = [each for each in threading.enumerate() if each.ident == ident]
    threads.close()
    await asyncio.to_thread(thread.join, 60)
    assert not thread.is_alive()
    assert await threads.run(divmod, 7, 2) == (3, 1)
    threads.close()
