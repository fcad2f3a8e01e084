"""The store of jobs in Redis, for coroutines and for plain code."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Self, TypeVar

import anyio
import redis as blocking
import redis.exceptions as errors
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry
from redis.sentinel import Sentinel

from enricher.adapters.redis.client import redis_client, unavailable
from enricher.adapters.redis.jobs.calls import wire
from enricher.adapters.redis.jobs.waiting import ResultChannels
from enricher.adapters.redis.jobs.wires import Wire
from enricher.adapters.redis.raw_connection import Part, pack
from enricher.config.sentinels import is_sentinel_url, sentinel_address
from enricher.job_store import (
    BlockingJobStore,
    Call,
    Forget,
    JobQueueSettings,
    JobStore,
    Result,
    StoreUnavailable,
)
from enricher.redaction import redact, redact_text

T = TypeVar("T")

_ENDED = (b'"SUCCESS"', b'"FAILURE"', b'"REVOKED"')
_OF_RESULTS = (Result, Forget)
_AT_ONCE = 8
_LOOK_AGAIN = 1.0


def job_store(settings: JobQueueSettings) -> JobStore:
    """A store for coroutines of one event loop. It connects when it is asked."""
    return AsyncStore(settings)


def blocking_store(settings: JobQueueSettings) -> BlockingJobStore:
    """A store for plain code in any thread, also after a fork. It connects when it is asked."""
    return BlockingStore(settings)


class AsyncStore:
    """`JobStore` over redis-py; ``client`` and ``results`` are its own unless they are given."""

    def __init__(
        self, settings: JobQueueSettings, client: Redis | None = None, results: Redis | None = None
    ) -> None:
        self.settings = settings
        self.client = client or redis_client(settings.url, socket_timeout=settings.timeout)
        if results is None and settings.results_url not in ("", settings.url):
            results = redis_client(settings.results_url, socket_timeout=settings.timeout)
        self.results = results or self.client
        self._channels = ResultChannels(self.results, settings.timeout)
        # The client may be that of others too: jobs that ask in great number leave them its connections.
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._answers = 0

    async def ask(self, call: Call[T]) -> T:
        await (self._turn() if self._slots.locked() else self._slots.acquire())
        try:
            answer = await self._ask(call)
        finally:
            self._slots.release()
        self._answers += 1
        return answer

    async def _turn(self) -> None:
        """Wait for a slot for as long as others are answered: of many calls the last one waits long."""
        mine, before = asyncio.create_task(self._slots.acquire()), -1
        try:
            while not mine.done() and before < self._answers:
                before = self._answers
                await asyncio.wait((mine,), timeout=self.settings.timeout)
            if mine.done():
                return
        except asyncio.CancelledError:
            if not mine.cancel():
                self._slots.release()
            raise
        mine.cancel()
        reason = f"{_AT_ONCE} calls have no answer, and none had one for {self.settings.timeout:g} s"
        raise StoreUnavailable(f"the jobs' Redis {redact(self.settings.url)}: {reason}")

    async def _ask(self, call: Call[T]) -> T:
        sent = wire(call, self.settings)
        client: Any = self.results if isinstance(call, _OF_RESULTS) else self.client
        try:
            if sent.script is None:
                reply: Any = await client.execute_command(*sent.arguments)
            else:
                try:
                    reply = await client.execute_command("EVALSHA", sent.script.sha, *sent.arguments)
                except errors.NoScriptError:
                    reply = await client.execute_command("EVAL", sent.script.text, *sent.arguments)
            answer: T = sent.read(reply)
            if sent.elsewhere is not None and self.results is not self.client:
                results: Any = self.results
                for command in sent.elsewhere(answer):
                    await results.execute_command(*command)
        except Exception as error:
            raise _problem(error, self.settings) from error
        return answer

    async def wait(self, id: str, timeout: float | None) -> bytes | None:  # noqa: A002
        newest: bytes | None = None

        async def look() -> bytes | None:
            nonlocal newest
            newest = await self.ask(Result(id))
            return newest if _is_end(newest) else None

        with anyio.move_on_after(timeout):
            return await self._channels.wait(f"celery-task-meta-{id}", look)
        return newest

    async def close(self) -> None:
        await self._channels.close()
        for client in {id(each): each for each in (self.client, self.results)}.values():
            await client.aclose()


class BlockingStore:
    """`BlockingJobStore` over redis-py: a lazy pool, which a forked process makes anew."""

    def __init__(self, settings: JobQueueSettings) -> None:
        self.settings = settings
        self._client = blocking_client(settings.url, settings.timeout)
        elsewhere = settings.results_url not in ("", settings.url)
        self._results = blocking_client(settings.results_url, settings.timeout) if elsewhere else self._client

    def ask(self, call: Call[T]) -> T:
        sent = wire(call, self.settings)
        client = self._results if isinstance(call, _OF_RESULTS) else self._client
        try:
            answer: T = sent.read(_execute(client, sent))
            if sent.elsewhere is not None and self._results is not self._client:
                for command in sent.elsewhere(answer):
                    self._results.execute_command(*command)
        except (errors.RedisError, OSError) as error:
            raise _problem(error, self.settings) from error
        return answer

    def wait(self, id: str, timeout: float | None) -> bytes | None:  # noqa: A002
        ends = None if timeout is None else time.monotonic() + timeout
        with _ResultChannel(self._results, f"celery-task-meta-{id}") as channel:
            while True:
                result = self.ask(Result(id))
                left = _LOOK_AGAIN if ends is None else min(ends - time.monotonic(), _LOOK_AGAIN)
                if _is_end(result) or left <= 0:
                    return result
                channel.pause(left)

    def close(self) -> None:
        self._client.close()
        self._results.close()


class _ResultChannel:
    """What is published of one result; a connection that is lost is made anew."""

    def __init__(self, client: Any, name: str) -> None:
        self._client = client
        self._name = name
        self._pubsub: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._pubsub is not None:
            self._pubsub.close()

    def pause(self, seconds: float) -> None:
        """Return when something is heard, when listening begins, or after so long."""
        try:
            if self._pubsub is None:
                self._pubsub = self._client.pubsub()
                self._pubsub.subscribe(self._name)
            self._pubsub.get_message(timeout=seconds)
        except (errors.RedisError, OSError):
            # Whoever waits asks for the result, and hears by that of a server that is away.
            self.__exit__()
            self._pubsub = None
            time.sleep(min(seconds, 0.1))


def _is_end(result: bytes | None) -> bool:
    return result is not None and any(word in result[:400] for word in _ENDED)


def _execute(client: Any, sent: Wire) -> Any:
    if sent.script is None:
        return client.execute_command(*sent.arguments)
    try:
        return _call(client.connection_pool, "EVALSHA", sent.script.sha, *sent.arguments)
    except errors.NoScriptError:
        return client.execute_command("EVAL", sent.script.text, *sent.arguments)


def _call(pool: Any, *parts: Part) -> Any:
    """The reply to one command. The way through a client's retries and metrics takes half as long again."""
    connection = pool.get_connection()
    try:
        connection.send_packed_command([pack(*parts)])
        return connection.read_response()
    finally:
        pool.release(connection)


def blocking_client(url: str, timeout: float) -> Any:
    """A client of redis-py for plain code; it never repeats a command."""
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "retry": Retry(NoBackoff(), 0),
        "protocol": 2,
    }
    if not is_sentinel_url(url):
        client: Any = blocking.Redis.from_url(url, **options)
    else:
        address = sentinel_address(url)
        own: dict[str, Any] = {**options, **parse_url(address.redis_url)}  # type: ignore[no-untyped-call]
        secure = own.pop("connection_class", None) is not None
        own.pop("host", None)
        asked = {**options, "ssl": secure, **address.credentials}
        sentinel: Any = Sentinel(address.sentinels, sentinel_kwargs=asked)  # type: ignore[no-untyped-call]
        client = sentinel.master_for(address.service, ssl=secure, **own)
    # An address that is shared with other programs may ask for text.
    client.connection_pool.connection_kwargs.update(decode_responses=False)
    return client


def _problem(error: Exception, settings: JobQueueSettings) -> Exception:
    # What is no Redis, such as the error page of a proxy, is none that can be used.
    if unavailable("", error) is None and not isinstance(error, errors.InvalidResponse):
        return error
    reason = redact_text(f"{type(error).__name__}: {error}")
    servers = redact(settings.url)
    if settings.results_url not in ("", settings.url):
        servers += f", or that of their results {redact(settings.results_url)},"
    return StoreUnavailable(f"the jobs' Redis {servers} cannot be used: {reason}")
