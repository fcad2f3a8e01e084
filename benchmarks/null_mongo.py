"""A server that speaks enough of the MongoDB wire protocol to be written to, and keeps nothing.

It decodes every document it is sent and counts them, so that a benchmark sees our own cost and not a
server's. Run as a process: ``python -m benchmarks.null_mongo [PORT]``, a free port by default; the port is
printed once it listens, and counts are answered to the command ``{nullStats: 1}``.
"""

from __future__ import annotations

import asyncio
import itertools
import struct
import sys
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import bson

_HEADER = struct.Struct("<iiii")
_INT = struct.Struct("<i")
OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013


class NullMongo:
    """Answers hello, insert, update, find and what drivers ask on the way."""

    def __init__(self) -> None:
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
        while at < end:
            kind = body[at]
            at += 1
            size = _INT.unpack_from(body, at)[0]
            if kind == 0:
                command = bson.decode(body[at : at + size])
            else:
                name_end = body.index(b"\0", at + 4)
                name = body[at + 4 : name_end].decode()
                documents = bson.decode_all(body[name_end + 1 : at + size])
                sent[name] = len(documents)
            at += size
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
            return {"cursor": {"id": 0, "ns": where, "firstBatch": []}, "ok": 1.0}
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


async def main(port: int = 0) -> None:
    """Serve on loopback until killed."""
    server = await asyncio.start_server(NullMongo().serve, "127.0.0.1", port, limit=64 * 1024 * 1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
