"""One server as a child process: started until it answers, watched, stopped for sure."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import bson

from enricher.embedded.binaries import LOOPBACK, bound_to_this_process
from enricher.errors import EmbeddedError
from enricher.log import log

ATTEMPTS = 4
POLL_SECONDS = 0.02
PROBE_SECONDS = 1.0
REPORT_SECONDS = 5.0
LAST_LINES = 8

_HELLO = b"\0\0\0\0\0" + bson.encode({"hello": 1, "$db": "admin"})
_OP_MSG = 2013


@dataclass(frozen=True, slots=True)
class ServerKind:
    """How one kind of server is started and recognised.

    ``command`` gives the command line for a port; ``answers(port, pid)`` says whether the server
    with that pid is ready there. ``port`` None means a free one, another at each attempt. It works in
    ``folder``, or where its log is.
    """

    name: str
    log: Path
    command: Callable[[int], list[str]]
    answers: Callable[[int, int], Awaitable[bool]]
    port: int | None = None
    folder: Path | None = None


class Child:
    """A running server. ``wait_for_end()`` returns only when it ends; ``stop()`` ends it."""

    def __init__(self, kind: ServerKind, port: int, process: asyncio.subprocess.Process) -> None:
        self.kind = kind
        self.port = port
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    def activity(self) -> tuple[int, int]:
        """Two numbers that grow while it works: its processor time (on Linux), the size of its log."""
        used = 0
        with contextlib.suppress(OSError, ValueError, IndexError):
            # What stands before the last parenthesis is a name, in which anything may be.
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
            used = int(fields[11]) + int(fields[12])
        try:
            return used, self.kind.log.stat().st_size
        except OSError:
            return used, 0

    async def wait_for_end(self) -> EmbeddedError:
        """Wait until the server ends and return what to report about it."""
        status = await self._process.wait()
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        return EmbeddedError(
            f"the embedded {self.kind.name} (pid {self.pid}) {how}; {last_lines(self.kind.log)}"
        )

    async def stop(self, timeout: float) -> None:
        """End the server: SIGTERM, up to ``timeout`` seconds, SIGKILL.

        If the wait is interrupted, the server is killed at once.
        """
        with anyio.CancelScope(shield=True):
            self._signal(signal.SIGTERM)
            try:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._process.wait(), timeout)
            finally:
                self._signal(signal.SIGKILL)
            await self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        # The whole group: the child leads one of its own, and whatever it started goes with it.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


async def start(kind: ServerKind, *, timeout: float) -> Child:
    """Start a server and return once it answers.

    A server that ends before it answers is started again, up to four times, on another port unless one is
    prescribed: another program may have taken the port, or a killed predecessor may still hold the folder. A
    server that is busy, such as with reading its data, is waited for, with a line in the log every few
    seconds. Raises EmbeddedError, with the last lines of its log, when for ``timeout`` seconds it neither
    answers nor works.
    """
    for attempt in range(1, ATTEMPTS + 1):
        port = kind.port or free_port()
        if kind.port and not is_free(port):
            # Not left to the server: its stranger would answer in its place.
            if attempt == ATTEMPTS:
                raise EmbeddedError(
                    f"port {port} of the embedded {kind.name} is taken (Address already in use): stop the "
                    "program that uses it, choose another port, or name none to get a free one"
                )
            await asyncio.sleep(0.1 * attempt)
            continue
        child = await spawn(kind, port)
        try:
            if await _ready(child, timeout):
                return child
        except BaseException:
            await child.stop(timeout=0.5)
            raise
        if attempt < ATTEMPTS:
            await asyncio.sleep(0.1 * attempt)
    raise EmbeddedError(
        f"the embedded {kind.name} ended {ATTEMPTS} times while starting; {last_lines(kind.log)}"
    )


async def spawn(kind: ServerKind, port: int = 0) -> Child:
    """Start a process that ends with this one, without waiting for an answer. Raises EmbeddedError."""
    try:
        with kind.log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal reaches us, who drain first, not it.
            process = await asyncio.create_subprocess_exec(
                *bound_to_this_process(kind.command(port)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=kind.folder or kind.log.parent,
                start_new_session=True,
            )
    except OSError as error:
        raise EmbeddedError(f"cannot start the embedded {kind.name}: {error}") from error
    return Child(kind, port, process)


async def _ready(child: Child, timeout: float) -> bool:
    """True when the server answers, False when it ended; EmbeddedError when it is silent for too long."""
    clock = asyncio.get_running_loop().time
    ended = asyncio.ensure_future(child.wait_for_end())
    began = moved = clock()
    reports, before = 0, child.activity()
    try:
        while not ended.done():
            if await child.kind.answers(child.port, child.pid):
                return not ended.done()
            now, activity = clock(), child.activity()
            if activity != before:
                moved, before = now, activity
            if now - began >= (reports + 1) * REPORT_SECONDS:
                reports = int((now - began) / REPORT_SECONDS)
                seconds, file = round(now - began), str(child.kind.log)
                log.info("embedded_server_starting", server=child.kind.name, seconds=seconds, log=file)
            if now - moved > timeout:
                raise EmbeddedError(
                    f"the embedded {child.kind.name} does not answer on port {child.port}; "
                    f"{last_lines(child.kind.log)}"
                )
            await asyncio.wait((ended,), timeout=POLL_SECONDS)
        return False
    finally:
        ended.cancel()


async def redis_answers(port: int, pid: int) -> bool:
    """Whether the Redis-compatible server with this pid has loaded its data and serves ``port``.

    The pid is compared so that a stranger who took the port is not mistaken for our child.
    """
    reply = await _exchange(port, b"INFO server\r\nPING\r\n", until=b"+PONG\r\n")
    return b"process_id:%d\r\n" % pid in reply and reply.endswith(b"+PONG\r\n")


async def mongo_answers(port: int, pid: int) -> bool:
    """Whether a MongoDB-compatible server answers ``hello`` on ``port`` as a writable primary."""
    header = struct.pack("<iiii", 16 + len(_HELLO), 1, 0, _OP_MSG)
    reply = await _exchange(port, header + _HELLO)
    return b"isWritablePrimary\0\x01" in reply


async def _exchange(port: int, request: bytes, until: bytes | None = None) -> bytes:
    """Send ``request``; return what came until ``until`` was seen (or the first piece)."""
    reply = b""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(PROBE_SECONDS):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            try:
                writer.write(request)
                while piece := await reader.read(65536):
                    reply += piece
                    if until is None or until in reply:
                        break
            finally:
                writer.close()
    return reply


def free_port() -> int:
    """A TCP port of the loopback interface that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether nobody listens at a TCP port of the loopback interface."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def last_lines(log: Path) -> str:
    """The name of a log file and its last lines, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            lines = file.read().decode("utf-8", "replace").splitlines()[-LAST_LINES:]
    except OSError:
        lines = []
    return f"log: {log}" + "".join(f"\n    {line}" for line in lines)
