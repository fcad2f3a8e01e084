"""Seeing from outside what a worker did: documents at the null server, messages on the enriched channels."""

from __future__ import annotations

import time
from contextlib import ExitStack
from typing import Any

import msgspec
import pymongo

from benchmarks.load import listener

COLLECTIONS = ("underlying_ticks", "option_quotes", "option_chains")
LOOK_EVERY = 0.02  # seconds


class Seen(msgspec.Struct, frozen=True):
    """Documents of the three collections, and messages on the two channels."""

    documents: int = 0
    published: int = 0

    def __add__(self, more: Seen) -> Seen:
        return Seen(self.documents + more.documents, self.published + more.published)

    def __sub__(self, before: Seen) -> Seen:
        return Seen(self.documents - before.documents, self.published - before.published)

    def reaches(self, wanted: Seen) -> bool:
        """Whether both are at least as many."""
        return self.documents >= wanted.documents and self.published >= wanted.published


class Watch:
    """Counts both while the block lasts, with next to no work of this process."""

    def __init__(self, redis_url: str, mongo_url: str) -> None:
        self._redis_url = redis_url
        self._mongo: Any = pymongo.MongoClient(mongo_url, directConnection=True)
        self._stack = ExitStack()
        self._published = 0

    def __enter__(self) -> Watch:
        self._listener = self._stack.enter_context(listener(self._redis_url))
        self._stack.callback(self._mongo.close)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def seen(self) -> Seen:
        """All so far."""
        documents = self._mongo.admin.command("nullStats")["documents"]
        self._published += self._listener.report().total
        return Seen(sum(documents.get(name, 0) for name in COLLECTIONS), self._published)

    def until(self, wanted: Seen, quiet: float) -> tuple[Seen, float]:
        """What was seen once it is as much as ``wanted``, or once nothing came for ``quiet`` seconds, and the
        moment of the last that came (`time.perf_counter`)."""
        last, moment = self.seen(), time.perf_counter()
        while not last.reaches(wanted) and time.perf_counter() - moment < quiet:
            time.sleep(LOOK_EVERY)
            now = self.seen()
            if now != last:
                last, moment = now, time.perf_counter()
        return last, moment
