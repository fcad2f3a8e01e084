"""The HTTP server: uvicorn in the loop of the engine, without its signals and its logging.

A client that takes long to send its headers, or sends too many, is hung up on: many connections that do
nothing must cost nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from enricher.config import WebSettings
from enricher.config.listen import Address
from enricher.errors import EnricherError
from enricher.log import log
from enricher.web.app import App

_MOST_HEADERS = 64 * 1024
# Seconds that requests under way get when the server ends: the engine has been drained by then.
_GRACE = 2


class CannotListen(EnricherError):
    """Another program listens there, or the address is none of this machine's."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command line's business."""
        yield


def _protocol(header_timeout: float) -> type[asyncio.Protocol]:
    class Protocol(HttpToolsProtocol):
        """A connection whose requests must begin in time, with headers of a sane size."""

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._header_bytes: int | None = 0
            self._late = self.loop.call_later(header_timeout, transport.abort)

        def connection_lost(self, exc: Exception | None) -> None:
            self._late.cancel()
            super().connection_lost(exc)

        def on_message_begin(self) -> None:
            self._late.cancel()
            self._late = self.loop.call_later(header_timeout, self.transport.abort)
            super().on_message_begin()

        def data_received(self, data: bytes) -> None:
            if self._header_bytes is not None:
                self._header_bytes += len(data)
                # What came with the headers may be a body already; it is not parsed yet.
                if self._header_bytes - len(data) > _MOST_HEADERS:
                    self._refuse_headers()
                    return
            super().data_received(data)

        def on_headers_complete(self) -> None:
            self._late.cancel()
            self._header_bytes = None
            size = sum(len(name) + len(value) for name, value in self.headers)
            if size > _MOST_HEADERS:
                self._refuse_headers()
                return
            super().on_headers_complete()

        def on_message_complete(self) -> None:
            self._header_bytes = 0
            if self.cycle is not None:
                super().on_message_complete()

        def on_body(self, body: bytes) -> None:
            if self.cycle is not None:
                super().on_body(body)

        def _refuse_headers(self) -> None:
            body = b'{"detail": "headers of at most 65536 bytes were expected"}'
            head = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-type: application/json\r\n"
            end = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(head + end + body)
            self.transport.close()

    return Protocol


def _bind(address: Address) -> socket.socket:
    """A socket that listens there. Raises OSError."""
    if address.path:
        Path(address.path).unlink(missing_ok=True)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        bound.bind(address.path)
    else:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind((address.host, address.port))
    bound.setblocking(False)
    return bound


async def serve(app: App, address: Address, settings: WebSettings) -> None:
    """Serve until cancelled; requests under way are then answered. Raises `CannotListen`."""
    # What uvicorn has to say of bad requests is theirs, who sent them, and may be a million lines.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    try:
        listening = _bind(address)
    except OSError as error:
        raise CannotListen(f"cannot listen on {address}: {error.strerror or error}") from error
    config = uvicorn.Config(
        app,
        http=_protocol(settings.header_timeout),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=int(settings.keep_alive),
        timeout_graceful_shutdown=_GRACE,
        backlog=2048,
    )
    server = _Server(config)

    async def run() -> None:
        with anyio.CancelScope(shield=True):
            await server.serve(sockets=[listening])

    log.info("listening", address=str(address))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        try:
            await anyio.sleep_forever()
        finally:
            server.should_exit = True
