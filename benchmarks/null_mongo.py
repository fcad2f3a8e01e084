"""A server that speaks enough of the MongoDB wire protocol to be written to, and keeps nothing.

It decodes every document it is sent and counts them, so that a benchmark sees our own cost and not a
server's. Run as a process: ``python -m benchmarks.null_mongo [PORT [KEPT]]``, a free port by default; the
port is printed once it listens, and counts are answered to the command ``{nullStats: 1}``.

With KEPT it remembers that many documents of each product in each collection, the newest to come, and answers
a find by product and a range of ``timestamp`` from them, for programs that read their windows back.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import sys
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument

_HEADER = struct.Struct("<iiii")
_INT = struct.Struct("<i")
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013

Stamped = tuple[datetime, RawBSONDocument]


class NullMongo:
    """Answers hello, insert, update, find and what drivers ask on the way."""

    def __init__(self, kept: int = 0) -> None:
        self._kept = Kept(kept) if kept else None
        self.documents: Counter[str] = Counter()
        self.commands: Counter[str] = Counter()
        self._ids = itertools.count(1)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until the client leaves."""
        try:
            while True:
                length, request, _, opcode = _HEADER.unpack(await reader.readexactly(16))
                body = await reader.readexactly(length - 16)
                if opcode == OP_MSG:
                    reply = self._message(body)
                    if reply is not None:
                        writer.write(self._op_msg(reply, request))
                elif opcode == OP_QUERY:
                    writer.write(self._op_reply(self._hello(), request))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _message(self, body: bytes) -> dict[str, Any] | None:
        flags = _INT.unpack_from(body)[0]
        at, end = 4, len(body) - (4 if flags & 1 else 0)
        command: dict[str, Any] = {}
        sent: dict[str, int] = {}
        inserted = b""
        while at < end:
            kind = body[at]
            at += 1
            size = _INT.unpack_from(body, at)[0]
            if kind == 0:
                command = bson.decode(body[at : at + size])
            else:
                name_end = body.index(b"\0", at + 4)
                name = body[at + 4 : name_end].decode()
                inserted = body[name_end + 1 : at + size]
                sent[name] = len(bson.decode_all(inserted))
            at += size
        if self._kept is not None and "insert" in command:
            self._kept.keep(command["insert"], inserted)
        if flags & 2:  # more to come: no reply is wanted
            self._answer(command, sent)
            return None
        return self._answer(command, sent)

    def _answer(self, command: dict[str, Any], sent: dict[str, int]) -> dict[str, Any]:
        name = next(iter(command))
        self.commands[name] += 1
        if name in ("hello", "isMaster", "ismaster"):
            return self._hello()
        if name == "insert":
            count = sent.get("documents", 0) or len(command.get("documents", ()))
            self.documents[command["insert"]] += count
            return {"n": count, "ok": 1.0}
        if name == "update":
            count = sent.get("updates", 0) or len(command.get("updates", ()))
            self.documents[command["update"]] += count
            return {"n": count, "nModified": count, "ok": 1.0}
        if name in ("find", "listCollections", "listIndexes"):
            where = f"{command.get('$db')}.{command[name]}"
            found = self._kept.find(command) if self._kept is not None and name == "find" else []
            return {"cursor": {"id": 0, "ns": where, "firstBatch": found}, "ok": 1.0}
        if name == "nullStats":
            return {"documents": dict(self.documents), "commands": dict(self.commands), "ok": 1.0}
        return {"ok": 1.0}

    @staticmethod
    def _hello() -> dict[str, Any]:
        return {
            "helloOk": True,
            "ismaster": True,
            "isWritablePrimary": True,
            "maxBsonObjectSize": 16 * 1024 * 1024,
            "maxMessageSizeBytes": 48_000_000,
            "maxWriteBatchSize": 100_000,
            "localTime": datetime.now(UTC),
            "minWireVersion": 0,
            "maxWireVersion": 21,
            "readOnly": False,
            "connectionId": 1,
            "ok": 1.0,
        }

    def _op_msg(self, reply: dict[str, Any], request: int) -> bytes:
        body = b"\0\0\0\0\0" + bson.encode(reply)
        return _HEADER.pack(16 + len(body), next(self._ids), request, OP_MSG) + body

    def _op_reply(self, reply: dict[str, Any], request: int) -> bytes:
        body = struct.pack("<iqii", 8, 0, 0, 1) + bson.encode(reply)
        return _HEADER.pack(16 + len(body), next(self._ids), request, OP_REPLY) + body


class Kept:
    """The newest ``most`` documents of each product in each collection, as they were sent."""

    def __init__(self, most: int) -> None:
        self._documents: defaultdict[tuple[str, Any], deque[Stamped]] = defaultdict(
            lambda: deque(maxlen=most)
        )

    def keep(self, collection: str, documents: bytes) -> None:
        """Take in what an insert carries."""
        for document in split(documents):
            raw = RawBSONDocument(document)
            if "timestamp" in raw:
                self._documents[collection, raw.get("product")].append((raw["timestamp"], raw))

    def find(self, command: Mapping[str, Any]) -> list[RawBSONDocument]:
        """The product's documents with ``timestamp`` from ``$gte`` to ``$lte``, in ascending order, whole;
        nothing where another question is asked."""
        match command.get("filter"):
            case {"product": product, "timestamp": {"$gte": first, "$lte": last}}:
                kept = self._documents[command["find"], product]
            case _:
                return []
        found = [stamped for stamped in kept if first <= stamped[0] <= last]
        return [document for _, document in sorted(found, key=lambda stamped: stamped[0])]


def split(documents: bytes) -> Iterator[bytes]:
    """One document after the other."""
    at = 0
    while at < len(documents):
        size = _INT.unpack_from(documents, at)[0]
        yield documents[at : at + size]
        at += size


async def main(port: int = 0, kept: int = 0) -> None:
    """Serve on loopback until killed."""
    null = NullMongo(kept)
    server = await asyncio.start_server(null.serve, "127.0.0.1", port, limit=64 * 1024 * 1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
