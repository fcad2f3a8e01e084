"""Both embedded servers as one `async with`."""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

import anyio

from enricher.embedded.binaries import (
    LOOPBACK,
    mongo_arguments,
    mongo_command,
    redis_arguments,
    redis_binary,
)
from enricher.embedded.child import Child, ServerKind, mongo_answers, redis_answers, start
from enricher.embedded.endpoints import Endpoints, hold_folder, remove_endpoints, write_endpoints
from enricher.errors import EmbeddedError


@dataclass(frozen=True, slots=True)
class EmbeddedOptions:
    """How the embedded servers run.

    ``database`` is the path of the MongoDB URL. Ports are chosen freely unless prescribed.
    ``start_timeout`` (without an answer and without activity) and ``stop_timeout`` are seconds for each
    server; ``mongo_cache`` is the memory that its storage engine may use.
    """

    database: str = "deltastream"
    redis_port: int | None = None
    mongo_port: int | None = None
    start_timeout: float = 30.0
    stop_timeout: float = 10.0
    mongo_cache: str = "256M"


class EmbeddedServers:
    """Valkey and a MongoDB-compatible server with their data in ``data_dir``.

        servers = EmbeddedServers(Path("data"))
        async with servers as endpoints:
            ...  # endpoints.redis_url, endpoints.mongo_url
            # in a task of its own: await servers.watch()

    Entering returns when both answer and raises EmbeddedError when they are not installed, do not
    start, or another process holds the folder. Both listen on the loopback interface only. They
    do not get the terminal's Ctrl-C, end when this process ends (on Linux even by SIGKILL), and
    leave logs in ``data_dir/valkey.log`` and ``mongo.log``. Data stays and is there next time;
    what a server acknowledged survives its own crash, and a crash of the machine may cost Valkey
    the last second. While they run, ``data_dir/endpoints.json`` says where.
    """

    def __init__(self, data_dir: Path, *, options: EmbeddedOptions | None = None) -> None:
        self.data_dir = data_dir
        self._folder = data_dir.absolute()
        self._options = options or EmbeddedOptions()
        self._children: list[Child] = []
        self._exit = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Endpoints:
        options = self._options
        redis, mongo = redis_binary(), mongo_command()  # before any folder is made
        async with contextlib.AsyncExitStack() as undo:
            undo.enter_context(hold_folder(self._folder))
            kinds = (self._valkey(redis), self._mongo(mongo))
            undo.push_async_callback(self._stop_all)
            await self._start_all(kinds)
            ports = {child.kind.name: child.port for child in self._children}
            endpoints = Endpoints(
                redis_url=f"redis://{LOOPBACK}:{ports['valkey']}/0",
                mongo_url=f"mongodb://{LOOPBACK}:{ports['mongo']}/{options.database}?w=majority&journal=true",
                pid=os.getpid(),
                started_at=datetime.now(UTC).isoformat(timespec="milliseconds"),
            )
            undo.callback(remove_endpoints, self._folder)
            write_endpoints(self._folder, endpoints)
            self._exit = undo.pop_all()
        return endpoints

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._exit.aclose()

    async def watch(self) -> None:
        """Wait until a server ends by itself; then raise EmbeddedError with the end of its log.

        Returns when the servers have been stopped on purpose or never ran.
        """
        ends = [asyncio.ensure_future(child.wait_for_end()) for child in self._children]
        if not ends:
            return
        try:
            done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
        if self._children:
            raise done.pop().result()

    def _valkey(self, binary: Path) -> ServerKind:
        folder = self._subfolder("valkey")
        return ServerKind(
            name="valkey",
            log=self._folder / "valkey.log",
            command=lambda port: [str(binary), *redis_arguments(port, folder)],
            answers=redis_answers,
            port=self._options.redis_port,
        )

    def _mongo(self, command: list[str]) -> ServerKind:
        folder = self._subfolder("mongo")
        cache = self._options.mongo_cache
        return ServerKind(
            name="mongo",
            log=self._folder / "mongo.log",
            command=lambda port: [*command, *mongo_arguments(port, folder, cache_size=cache)],
            answers=mongo_answers,
            port=self._options.mongo_port,
        )

    def _subfolder(self, name: str) -> Path:
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        return folder

    async def _start_all(self, kinds: tuple[ServerKind, ...]) -> None:
        async def start_one(kind: ServerKind) -> None:
            self._children.append(await start(kind, timeout=self._options.start_timeout))

        failed: BaseException | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                for kind in kinds:
                    tasks.create_task(start_one(kind))
        except* EmbeddedError as group:
            failed = group.exceptions[0]  # raised in here it would come out as a group again
        if failed is not None:
            raise failed

    async def _stop_all(self) -> None:
        # The list is emptied first: watch() then knows that these ends were wanted.
        children, self._children = self._children, []
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for child in children:
                    tasks.start_soon(child.stop, self._options.stop_timeout)
