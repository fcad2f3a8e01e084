"""An HTTP proxy that answers in the place of its server when told to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from types import TracebackType
from typing import NamedTuple, Self

from tests.servers import LOOPBACK


class Request(NamedTuple):
    """A request as it came: its first line, its headers in lower case, its body."""

    line: str
    headers: dict[str, str]
    body: bytes


class Reply(NamedTuple):
    """What to answer instead of the server."""

    status: int
    body: bytes = b"{}"
    kind: str = "application/json"


class HttpFaults:
    """Passes requests on, one connection each, and keeps them in ``requests``.

    ``answer`` is asked first: a `Reply` is sent in the server's place, None lets the request through.
    """

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.port = 0
        self.requests: list[Request] = []
        self.answer: Callable[[Request], Reply | None] = lambda request: None
        self._server: asyncio.Server | None = None

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, LOOPBACK, 0, limit=2**26)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            raw = await reader.readuntil(b"\r\n\r\n")
            line, *others = raw.decode().strip().split("\r\n")
            headers = {name.lower(): text for name, _, text in (each.partition(": ") for each in others)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            request = Request(line, headers, body)
            self.requests.append(request)
            reply = self.answer(request)
            writer.write(await self._passed_on(raw, body) if reply is None else _bytes(reply, line))
            await writer.drain()
        writer.close()

    async def _passed_on(self, raw: bytes, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(LOOPBACK, self.target_port)
        writer.write(raw + body)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(each[15:]) for each in head.lower().split(b"\r\n") if each.startswith(b"content-length:")), 0
        )
        answer = await reader.readexactly(length)
        writer.close()
        return head[:-2] + b"connection: close\r\n\r\n" + answer


def _bytes(reply: Reply, line: str) -> bytes:
    head = f"HTTP/1.1 {reply.status} X\r\ncontent-type: {reply.kind}\r\nconnection: close\r\n"
    body = b"" if line.startswith("HEAD") else reply.body
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
