"""How a program reaches the store of its jobs: nothing is connected before the first job.

Where Redis is: as `connect` says, else as the environment does (ENRICHER_JOBS__URL, CELERY_BROKER_URL,
ENRICHER_REDIS__URL, or the file that ENRICHER_CONFIG names). Inside of an enricher its own store is used.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

from enricher.config import Settings
from enricher.job_store import BlockingJobStore, JobQueueSettings, JobStore
from enricher.jobs.settings import JobSettings
from enricher.system import code_of

_BLOCKING = "enricher.adapters.redis.jobs.client:blocking_store"
_IN_LOOP = "enricher.adapters.redis.jobs.client:job_store"
_LOAD = "enricher.systems:load"
_TIMEOUT = 1.0
"""Seconds that a program waits for Redis before it gets an error instead."""


class Stores(Protocol):
    """Where jobs are enqueued and asked for."""

    @property
    def max_payload(self) -> int:
        """Bytes that the arguments of a job may have."""
        ...

    def blocking(self) -> BlockingJobStore:
        """The store for plain code, of this process."""
        ...

    def in_loop(self) -> JobStore:
        """The store for coroutines of the loop that runs."""
        ...


class Connection:
    """The stores that settings lead to, made when they are first asked for: one a process, one a loop.

    ``store`` is that of an engine, for its own loop; whoever made it closes it.
    """

    def __init__(self, settings: Callable[[], Settings], store: JobStore | None = None) -> None:
        self._settings = settings
        self._engine = store
        # Nothing here has a lock (`cached_property` has one): what another thread holds at a fork would
        # never be released in the child, which has a process id and connections of its own.
        self._read: Settings | None = None
        self._max_payload: int | None = None
        self._blocking: dict[int, BlockingJobStore] = {}
        self._loops: dict[asyncio.AbstractEventLoop, JobStore] = {}

    @property
    def settings(self) -> Settings:
        """The settings, read once. Raises `ConfigError`."""
        if self._read is None:
            self._read = self._settings()
        return self._read

    @property
    def max_payload(self) -> int:
        if self._max_payload is None:
            self._max_payload = self.settings.section(JobSettings).max_payload
        return self._max_payload

    def blocking(self) -> BlockingJobStore:
        found = self._blocking.get(os.getpid())
        if found is None:
            made: BlockingJobStore = code_of(_BLOCKING)(self._queue_settings())
            found = self._blocking.setdefault(os.getpid(), made)
        return found

    def in_loop(self) -> JobStore:
        if self._engine is not None and in_engine():
            return self._engine
        loop = asyncio.get_running_loop()
        found = self._loops.get(loop)
        if found is None:
            # What ended without a close holds its loop, and its sockets, for as long as it is known here.
            for ended in [each for each in self._loops if each.is_closed()]:
                del self._loops[ended]
            found = self._loops[loop] = code_of(_IN_LOOP)(self._queue_settings())
        return found

    def _queue_settings(self) -> JobQueueSettings:
        return self.settings.section(JobSettings).queue_settings(self.settings.redis.url, _TIMEOUT)

    def close(self) -> None:
        """Close this process's connection for plain code."""
        store = self._blocking.pop(os.getpid(), None)
        if store is not None:
            store.close()

    async def aclose(self) -> None:
        """Close the connections of the loop that runs, and that for plain code."""
        store = self._loops.pop(asyncio.get_running_loop(), None)
        if store is not None:
            await store.close()
        self.close()


def _from_environment(overrides: Mapping[str, Any] | None = None) -> Callable[[], Settings]:
    def read() -> Settings:
        # Not the config.toml of the working folder: in a program of somebody's own it may be anybody's.
        # Who enqueues uses jobs: the old names of their settings count.
        given = {"jobs.enabled": True, **(overrides or {})}
        settings: Settings = code_of(_LOAD)(
            environ=os.environ, overrides=given, sections={"jobs": JobSettings}
        )
        return settings

    return read


_default = Connection(_from_environment())
_bound: ContextVar[tuple[Stores, asyncio.AbstractEventLoop | None] | None]
_bound = ContextVar("enricher_jobs_stores", default=None)
_replaced: list[Stores] = []
_serving: list[asyncio.AbstractEventLoop] = []


def current() -> Stores:
    """The stores that count here: those of a test, else those of the engine around, else the process's."""
    if _replaced:
        return _replaced[-1]
    bound = _bound.get()
    return _default if bound is None else bound[0]


def in_engine() -> bool:
    """Whether the loop that runs in this thread is that of the engine around."""
    bound = _bound.get()
    return bound is not None and bound[1] is not None and bound[1] is _running_loop()


def runs_jobs_here() -> bool:
    """Whether the loop that runs in this thread runs jobs, those of its host too: nothing may stop it."""
    return in_engine() or _running_loop() in _serving


@contextmanager
def serving() -> Iterator[None]:
    """Inside of it jobs are run in the loop that runs."""
    loop = asyncio.get_running_loop()
    _serving.append(loop)
    try:
        yield
    finally:
        _serving.remove(loop)


def connect(url: str, settings: Mapping[str, Any] | None = None) -> None:
    """Keep the jobs of this process in the Redis at ``url``. Connects to nothing yet.

    ``settings`` are others that the environment does not say: {"jobs.prefix": "jobs"}.
    """
    global _default
    _default.close()
    _default = Connection(_from_environment({**(settings or {}), "jobs.url": url}))


def settings() -> Settings:
    """The settings of the engine around, else of this process's jobs. Raises `ConfigError`."""
    bound = _bound.get()
    around = _default if bound is None else bound[0]
    return (around if isinstance(around, Connection) else _default).settings


async def close() -> None:
    """Close the connections that jobs made, in this loop and for plain code; the next job makes new ones."""
    await _default.aclose()


def of_engine(settings: Settings, store: JobStore) -> Connection:
    """The stores of an engine, to be made once; its own ``store`` is for its loop."""
    return Connection(lambda: settings, store)


@contextmanager
def bound(stores: Stores) -> Iterator[None]:
    """Inside of it, and of tasks and threads begun there, jobs go to these stores; entered in their loop."""
    token = _bound.set((stores, _running_loop()))
    try:
        yield
    finally:
        _bound.reset(token)


@contextmanager
def replaced(stores: Stores) -> Iterator[None]:
    """Inside of it all jobs of the process go to these stores, in every thread: for tests."""
    _replaced.append(stores)
    try:
        yield
    finally:
        _replaced.remove(stores)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
