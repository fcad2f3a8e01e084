"""Jobs whose answers a client waits for."""

from __future__ import annotations

import asyncio
import time
from datetime import date
from decimal import Decimal
from typing import Any

from enricher.jobs import AsyncResult, Cancel, Worker, WrongPlace


class Answer(Worker):
    """What it was given, in a thread."""

    @classmethod
    def perform(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return {"args": args, "kwargs": kwargs}


class AsyncPrice(Worker):
    """The price after tax, as text."""

    @classmethod
    async def perform(cls, price: Decimal, day: date) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"gross": str(price * 2), "day": day}


class UnpaidError(Exception):
    """What a client may have imported, or not."""


class Refuses(Worker):
    """Fails, or gives up."""

    max_retries = 0

    @classmethod
    def perform(cls, how: str) -> None:
        if how == "cancel":
            raise Cancel("not needed any more")
        if how == "unknown":
            raise type("OnlyHere", (Exception,), {"__module__": "tests.jobs_app.only_here"})("seldom")
        raise UnpaidError(how, 7)


class AsksAnother(Worker):
    """Enqueues another job, at once, and waits for it as one may in a coroutine."""

    @classmethod
    async def perform(cls, number: int) -> Any:
        other = await Answer.enqueue(number)
        try:
            other.get(timeout=1)
        except WrongPlace as error:
            return [str(error).partition(":")[0], await other.wait(60)]
        return "it has stopped the loop"


class AsksInThread(Worker):
    """The same in a thread, which may wait."""

    @classmethod
    def perform(cls, number: int) -> Any:
        other = Answer.perform_async(number)
        return AsyncResult(other.id).get(timeout=60)


class Sleeps(Worker):
    """Runs until somebody cancels it."""

    @classmethod
    def perform(cls) -> None:
        while True:
            time.sleep(0.01)
