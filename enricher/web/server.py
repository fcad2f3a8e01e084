"""The HTTP server: uvicorn in the loop of the engine, without its signals and its logging.

A client that takes long to send its headers, or sends too many, is hung up on: many connections that do
nothing must cost nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from enricher.config import WebSettings
from enricher.config.listen import Address
from enricher.errors import EnricherError
from enricher.log import log
from enricher.web.app import App
from enricher.web.port_owner import owner
from enricher.web.requests import THROWN_AWAY

_MOST_HEADERS = 64 * 1024
_HEADERS_EXPECTED = "an address and headers of at most 65536 bytes together were expected"
# Files that are left to connections with servers, logs and the like.
_FILES = 200
# Seconds that requests under way get when the server ends: the engine has been drained by then.
_GRACE = 2
_BACKLOG = 2048
# How long a client may leave an answer unread: Linux then ends the connection, and lets go of the answer.
_UNREAD_MS = 60_000


class CannotListen(EnricherError):
    """Another program listens there, or the address is none of this machine's."""


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are the command line's business."""
        yield


def _protocol(header_timeout: float, most: int) -> type[asyncio.Protocol]:
    class Protocol(HttpToolsProtocol):
        """A connection whose requests must begin in time, with headers of a sane size.

        ``_loose`` counts the bytes since the last that belong to a body: of headers, of trailers, of the
        sizes of chunks. The parser keeps those of a header until it ends.
        """

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            self._loose = self._thrown_away = 0
            self._in_headers, self._refused = True, False
            self._status, self._why = 400, "a request as HTTP/1.1 has it was expected"
            self._late: asyncio.TimerHandle | None = self.loop.call_later(header_timeout, transport.abort)
            if len(self.connections) > most:
                log.warning("connection_refused", what=f"more than {most} connections")
                self._refuse(503, f"{most} connections are open, which is as many as are allowed here")
                transport.close()

        def connection_lost(self, exc: Exception | None) -> None:
            self._in_time()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            answered = self.cycle is not None and self.cycle.response_complete
            if self._refused or (answered and self.cycle.more_body):
                # Its answer is there already: it may end, but not go on for ever.
                self._thrown_away += len(data)
                if self._thrown_away > THROWN_AWAY:
                    self.transport.abort()
                if self._refused or self.transport.is_closing():
                    return
            # What came with the headers may be a body already; it is not parsed yet.
            if self._loose > _MOST_HEADERS:
                self._refuse(431, _HEADERS_EXPECTED)
                return
            self._loose += len(data)
            super().data_received(data)
            # Whatever this was, a request must come of it in time, and what is left of an answered one end.
            if self._late is None and (self._in_headers or (self.cycle and self.cycle.response_complete)):
                self._late = self.loop.call_later(header_timeout, self.transport.abort)

        def on_message_begin(self) -> None:
            self._in_headers = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_time()
            self._in_headers = False
            self._loose = self._thrown_away = 0
            size = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
            # What is raised here ends the parser, and comes back to `send_400_response`.
            if size > _MOST_HEADERS:
                self._status, self._why = 431, _HEADERS_EXPECTED
                raise ValueError(self._why)
            hosts = sum(name == b"host" for name, _ in self.headers)
            if hosts > 1 or self.parser.get_http_version() not in ("1.1", "1.0"):
                raise ValueError(self._why)
            super().on_headers_complete()

        def on_body(self, body: bytes) -> None:
            self._loose = 0
            super().on_body(body)

        def on_message_complete(self) -> None:
            self._loose = 0
            super().on_message_complete()
            self.cycle.more_body = False

        def send_400_response(self, msg: str) -> None:
            self._refuse(self._status, self._why)

        def _in_time(self) -> None:
            if self._late is not None:
                self._late.cancel()
                self._late = None

        def _refuse(self, status: int, why: str) -> None:
            if self.cycle and not self.cycle.response_complete and not self.cycle.more_body:
                # This follows a request whose answer is under way: ours would be taken for that.
                self.cycle.keep_alive = False
                return
            body = b'{"detail":"%s"}' % why.encode()
            head = STATUS_LINE[status] + b"content-type: application/json\r\n"
            end = b"content-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(head + end + body)
            # Not closed yet: that would take the answer from a client that still writes.
            self.transport.write_eof()
            self._refused = True
            self._in_time()
            self._late = self.loop.call_later(header_timeout, self.transport.abort)

    return Protocol


async def bind(address: Address) -> socket.socket:
    """A socket that listens there. Raises `CannotListen`, which says who does."""
    try:
        return _bound(address)
    except OSError as error:
        why = error.strerror or str(error)
        if error.errno == errno.EADDRINUSE and (found := await anyio.to_thread.run_sync(owner, address)):
            why = f"{found} does; another address in the setting 'listen' would be free, or none"
        raise CannotListen(f"cannot listen on {address}: {why}") from error


def _bound(address: Address) -> socket.socket:
    if address.path:
        _clear(address.path)
        bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    else:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_MS)
    try:
        bound.bind(address.path or (address.host, address.port))
        # Two may be bound to one address; of those that listen there is one.
        bound.listen(_BACKLOG)
    except OSError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


def _clear(path: str) -> None:
    """Remove the socket that a dead process has left there. Raises OSError for one that is in use."""
    if not Path(path).is_socket():
        return  # what else is there stays, and is in the way
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(1)
        try:
            asked.connect(path)
        except ConnectionRefusedError:
            Path(path).unlink(missing_ok=True)
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _most(settings: WebSettings) -> int:
    """How many connections there may be: what else the process opens must have files left."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return settings.max_connections
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    most = settings.max_connections if files < 0 else min(settings.max_connections, max(files - _FILES, 16))
    if most < settings.max_connections:
        log.warning("few_connections", most=most, wanted=settings.max_connections, open_files=files)
    return most


async def serve(app: App, listening: socket.socket, address: Address, settings: WebSettings) -> None:
    """Serve what comes to a socket until cancelled; requests under way are then answered."""
    # What uvicorn has to say of bad requests is theirs, who sent them, and may be a million lines.
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    config = uvicorn.Config(
        app,
        http=_protocol(settings.header_timeout, _most(settings)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=int(settings.keep_alive),
        timeout_graceful_shutdown=_GRACE,
        backlog=_BACKLOG,
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
