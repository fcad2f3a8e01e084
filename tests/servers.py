"""Real servers for the tests, and a proxy that breaks connections on request.

``RedisProcess``, ``MongoProcess`` and ``SearchProcess`` keep their port and their data over stop and
start, so an outage is ``kill()`` ... ``start()`` and a frozen server ``pause()`` ... ``resume()``. All are
synchronous: usable from fixtures and, being quick, from within asyncio tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import random
import shutil
import signal
import socket
import struct
import subprocess
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import bson

from enricher.embedded import binaries

LOOPBACK = binaries.LOOPBACK
START_TIMEOUT = 60.0
# Below what Linux (32768), macOS and Windows (49152) hand out.
PORTS = range(18_000, 32_000)


def debian_redis_binary() -> Path | None:
    """The path of a ``redis-server`` on the PATH, or None."""
    found = shutil.which("redis-server")
    return Path(found) if found else None


def redis_binaries() -> dict[str, Path]:
    """Every Redis-compatible server to test with, by name; Valkey is always the first."""
    found = {"valkey": binaries.redis_binary()}
    debian = debian_redis_binary()
    if debian is not None and debian != found["valkey"]:
        found["redis"] = debian
    return found


def free_port() -> int:
    """A TCP port of the loopback interface that was free a moment ago, and that nobody is given by chance.

    The system gives ports of `PORTS` to nobody who asks for any, neither to servers nor to connections: so
    one stays free while its server is away.
    """
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return port


class Urls(NamedTuple):
    """Where a test finds its servers."""

    redis: str
    mongo: str


class ServerProcess(ABC):
    """A server on a fixed port that can be started, stopped, killed and frozen at will."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.port = port or free_port()
        self.log = folder.with_name(folder.name + ".log")
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """The command line that starts the server."""

    @abstractmethod
    def answers(self) -> bool:
        """Whether the server takes requests."""

    @property
    def pid(self) -> int:
        assert self._process is not None, "the server is not running"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Start the server and wait until it answers."""
        assert not self.running, "the server is running already"
        deadline = time.monotonic() + START_TIMEOUT
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                binaries.bound_to_this_process(self.command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                start_new_session=True,
            )
        while not self.answers():
            if not self.running or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"server did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.02)
        return self

    def stop(self) -> None:
        """End the server as an administrator would, and wait until it has gone."""
        if self._process is None:
            return
        self._signal(signal.SIGCONT)
        self._signal(signal.SIGTERM)
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End the server with SIGKILL: the crash."""
        if self._process is None:
            return
        self._signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def pause(self) -> None:
        """Freeze the server: connections stay open, nothing is answered."""
        self._signal(signal.SIGSTOP)
        # On a busy machine its threads run, and answer, until one of them has a core to take the signal.
        os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self.running:
            os.kill(self.pid, number)

    def __enter__(self) -> Self:
        return self if self.running else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()  # the data is thrown away with the test: no reason to wait for a clean stop


class RedisProcess(ServerProcess):
    """A Valkey or Redis server; ``extra`` are further arguments of its command line."""

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        binary: Path | None = None,
        extra: tuple[str, ...] = (),
    ) -> None:
        super().__init__(folder, port)
        self.binary = binary or binaries.redis_binary()
        self.extra = extra

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    def command(self) -> list[str]:
        return [str(self.binary), *binaries.redis_arguments(self.port, self.folder), *self.extra]

    def answers(self) -> bool:
        return first_reply(self.port, b"PING\r\n").startswith(b"+PONG")

    def call(self, *arguments: str) -> bytes:
        """Send one command and return the start of the raw reply (for set-up)."""
        packed = b"".join(b"$%d\r\n%b\r\n" % (len(a.encode()), a.encode()) for a in arguments)
        return first_reply(self.port, b"*%d\r\n" % len(arguments) + packed, timeout=60.0)

    def flush(self) -> None:
        """Empty every database and forget scripts."""
        for command in (("FLUSHALL",), ("SCRIPT", "FLUSH")):
            reply = self.call(*command)
            assert reply.startswith(b"+OK"), (command, reply)


class MongoProcess(ServerProcess):
    """The bundled MongoDB-compatible server, with ``configureFailPoint`` switched on.

    ``extra`` are further arguments of its command line.
    """

    extra: tuple[str, ...] = ()

    def command(self) -> list[str]:
        arguments = binaries.mongo_arguments(self.port, self.folder)
        return [*binaries.mongo_command(), *arguments, "--enable-test-commands", *self.extra]

    def answers(self) -> bool:
        body = b"\0\0\0\0\0" + bson.encode({"hello": 1, "$db": "admin"})
        return bool(first_reply(self.port, struct.pack("<iiii", 16 + len(body), 1, 0, 2013) + body))

    def url(self, database: str = "") -> str:
        """The URL of the server, with ``database`` as its path, for durable writes."""
        return f"mongodb://{LOOPBACK}:{self.port}/{database}?w=majority&journal=true"


class SearchProcess(ServerProcess):
    """A small server that speaks like Elasticsearch."""

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    def command(self) -> list[str]:
        found = importlib.util.find_spec("noida_db")
        assert found is not None
        assert found.origin is not None
        binary = str(Path(found.origin).with_name("noida-db"))
        port, data = str(self.port), str(self.folder)
        return [binary, "start", "--only", "elasticsearch", "--elasticsearch-port", port, "--data-dir", data]

    def answers(self) -> bool:
        reply = first_reply(self.port, b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return reply.startswith(b"HTTP/1.1 200")

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The reply to one request; None if there is nothing at the path."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(self.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                return json.loads(reply.read() or b"null")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise
            return None

    def documents(self, index: str) -> dict[str, Any]:
        """Everything in an index by its id."""
        self.ask("POST", f"/{index}/_refresh")
        found = self.ask("POST", f"/{index}/_search", {"size": 10_000})
        return {hit["_id"]: hit["_source"] for hit in found["hits"]["hits"]} if found else {}

    def version(self, index: str, id_: str) -> int | None:
        """The version of what is indexed under an id."""
        found = self.ask("GET", f"/{index}/_doc/{id_}")
        return found["_version"] if found and found["found"] else None


def first_reply(port: int, request: bytes, timeout: float = 10.0) -> bytes:
    """Send ``request`` and return what arrives first; empty when nobody answers."""
    try:
        with socket.create_connection((LOOPBACK, port), timeout=timeout) as connection:
            connection.sendall(request)
            return connection.recv(4096)
    except OSError:
        return b""


class FaultyProxy:
    """A TCP proxy in front of a server that delays, swallows and cuts on request.

    Set the attributes at any time; they hold for bytes that arrive from then on:

    - ``delay``: seconds each piece waits, in each direction
    - ``drop``: swallow everything in both directions, connections stay open
    - ``swallow_replies``: requests reach the server, its replies do not come back
    - ``refuse``: close new connections at once

    ``cut()`` resets every open connection. ``lose_next_reply()`` lets the next request through,
    swallows the reply and resets that connection: the write happened and nobody knows;
    ``only_if`` narrows it to a connection whose latest request satisfies it.
    """

    def __init__(self, target_port: int, port: int | None = None) -> None:
        self.target_port = target_port
        self.port = port or 0
        self.delay = 0.0
        self.drop = False
        self.swallow_replies = False
        self.refuse = False
        self.accepted = 0
        self.lost_replies = 0
        self._to_lose: Callable[[bytes], bool] | None = None
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    def redis_url(self, database: int = 0) -> str:
        return f"redis://{LOOPBACK}:{self.port}/{database}"

    def mongo_url(self, database: str = "") -> str:
        # Directly, for the replica set's own member list would lead around the proxy.
        options = "w=majority&journal=true&directConnection=true"
        return f"mongodb://{LOOPBACK}:{self.port}/{database}?{options}"

    def cut(self) -> None:
        """Reset every open connection."""
        for writer in list(self._open):
            writer.transport.abort()

    def lose_next_reply(self, only_if: Callable[[bytes], bool] = lambda request: True) -> None:
        """Swallow the next reply and reset its connection (see the class)."""
        self._to_lose = only_if

    def heal(self) -> None:
        """Be a faithful proxy again; connections that were cut stay cut."""
        self.delay, self.drop, self.swallow_replies, self.refuse = 0.0, False, False, False
        self._to_lose = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
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
        self.refuse = True
        self.cut()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._server.wait_closed(), 2)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refuse:
            writer.transport.abort()
            return
        self.accepted += 1
        try:
            server_reader, server_writer = await asyncio.open_connection(LOOPBACK, self.target_port)
        except OSError:
            writer.transport.abort()
            return
        latest = [b""]
        pair = (writer, server_writer)
        self._open.update(pair)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._requests(reader, server_writer, pair, latest))
                tasks.create_task(self._replies(server_reader, writer, pair, latest))
        finally:
            self._open.difference_update(pair)

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, ...],
        latest: list[bytes],
    ) -> None:
        async for piece in self._pieces(reader, pair):
            latest[0] = piece
            if not self.drop:
                await _send(writer, piece)

    async def _replies(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, ...],
        latest: list[bytes],
    ) -> None:
        async for piece in self._pieces(reader, pair):
            if self._to_lose is not None and self._to_lose(latest[0]):
                self._to_lose = None
                self.lost_replies += 1
                return
            if not self.drop and not self.swallow_replies:
                await _send(writer, piece)

    async def _pieces(
        self, reader: asyncio.StreamReader, pair: tuple[asyncio.StreamWriter, ...]
    ) -> AsyncIterator[bytes]:
        try:
            with contextlib.suppress(OSError):
                while piece := await reader.read(65536):
                    if self.delay:
                        await asyncio.sleep(self.delay)
                    yield piece
        finally:
            # Whichever side ends first ends both: a half-open pair would look like a frozen server.
            for writer in pair:
                writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, piece: bytes) -> None:
    with contextlib.suppress(OSError):
        writer.write(piece)
        await writer.drain()
