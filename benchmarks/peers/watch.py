"""Seeing from outside what a worker did: documents at the null server, messages on the enriched channels."""

from __future__ import annotations

import socket
import threading
import time
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

import hiredis
import msgspec
import pymongo

COLLECTIONS = ("underlying_ticks", "option_quotes", "option_chains")
CHANNELS = ("enriched:underlying", "enriched:option_chain")
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
    """Counts both while the block lasts, with little work of its own: plain frames, read in a thread."""

    def __init__(self, redis_url: str, mongo_url: str) -> None:
        where = urlsplit(redis_url)
        self._socket = socket.create_connection((where.hostname, where.port))
        self._mongo: Any = pymongo.MongoClient(mongo_url, directConnection=True)
        self._published: Counter[bytes] = Counter()
        self._thread = threading.Thread(target=self._count, daemon=True)

    def __enter__(self) -> Watch:
        self._socket.sendall(" ".join(("SUBSCRIBE", *CHANNELS)).encode() + b"\r\n")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        self._mongo.close()

    def _count(self) -> None:
        reader = hiredis.Reader()
        while data := self._socket.recv(1 << 20):
            reader.feed(data)
            while (frame := reader.gets()) is not False:
                if frame[0] == b"message":
                    self._published[frame[1]] += 1

    def seen(self) -> Seen:
        """All so far."""
        documents = self._mongo.admin.command("nullStats")["documents"]
        return Seen(
            sum(documents.get(name, 0) for name in COLLECTIONS), sum(self._published.values())
        )

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
