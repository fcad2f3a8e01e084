"""Sends events over connections that stay open, and waits for each answer."""

from __future__ import annotations

import asyncio
import json
import time

NAME = "user-4711@example.com"


def request(number: int) -> bytes:
    """A POST of an event."""
    text = f"ticket {number} of {NAME}: the parcel has not come, and nobody answers"
    body = json.dumps({"text": text, "user": number}).encode()
    head = "POST /events/ HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Connection:
    """One that stays open."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int) -> Connection:
        """Open one."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, number: int) -> int:
        """Send an event and wait for its answer, which must be 202: microseconds. Raises RuntimeError."""
        began = time.perf_counter_ns()
        status, body = await self.ask(request(number))
        took = (time.perf_counter_ns() - began) // 1000
        if status != 202:
            raise RuntimeError(f"event {number} was answered {status}: {body!r}")
        return took

    async def ask(self, given: bytes) -> tuple[int, bytes]:
        """Status and body of the answer to a request."""
        self._writer.write(given)
        head = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split()[1]), await self._reader.readexactly(length)

    def close(self) -> None:
        """Close it."""
        self._writer.close()


async def flood(port: int, count: int, connections: int) -> list[int]:
    """Send so many events over these connections, each one after the other; microseconds of each."""
    numbers = iter(range(count))

    async def one() -> list[int]:
        connection = await Connection.to(port)
        try:
            return [await connection.post(number) for number in numbers]
        finally:
            connection.close()

    found = await asyncio.gather(*(one() for _ in range(connections)))
    return [us for each in found for us in each]
