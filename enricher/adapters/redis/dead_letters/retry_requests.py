"""Retries by the running worker, which answers.

The worker waits (`RetryListener`) on the list ``enricher:retry:{service}``. A request names the store and
carries the entry and an id; the worker retries it, removes or merges the entry itself, and pushes the
outcome to the list ``enricher:retry:{service}:{id}``, which expires. A request that gets lost loses nothing,
since the entry is still there. The key ``enricher:retry:{service}:listening`` exists while somebody listens.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from typing import Any, cast

import anyio
import anyio.abc
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from enricher.adapters.redis.reconnect import Connection, reconnecting
from enricher.dead_letters.edits import NO_EDIT, Edit
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.replay import FAILED, UNANSWERED, Attempt, Outcome, Process, retry_letter, through
from enricher.dead_letters.store import LetterStore
from enricher.engine.ports import Clock, Intake
from enricher.log import log
from enricher.texts import as_text

ANSWER_TTL = 300
LISTENING_TTL = 10
_AT_ONCE = 64
_WAIT = 1.0


class Request(msgspec.Struct, frozen=True):
    """What a worker is asked: to retry an entry of ``store`` with ``edit``, and to answer under ``id``.

    ``raw``, ``entry`` and ``position`` are those of the `StoredLetter`.
    """

    id: str
    raw: bytes
    entry: bytes = b""
    position: int = -1
    store: str = ""
    edit: Edit = NO_EDIT


class RetryListener:
    """A source that retries what `ask_worker` asks for; give it to the worker's engine.

    ``client`` (with a socket timeout above two seconds) stays open. It retries letters of ``store`` and
    of ``others``; the entries of any store that it does not have stay as they are, and it says so.
    """

    name = "retries"

    def __init__(
        self, client: Redis, store: LetterStore, *others: LetterStore, service: str, clock: Clock
    ) -> None:
        self._client = client
        self._stores = {"": store, **{each.name: each for each in (store, *others)}}
        self._clock = clock
        self._key = f"enricher:retry:{as_text(service)}"
        self._scope = anyio.CancelScope()
        self._limiter = anyio.Semaphore(_AT_ONCE)
        self.outcomes = {"processed": 0, "duplicate": 0, FAILED: 0, UNANSWERED: 0}

    async def run(self, intake: Intake) -> None:
        """Listen until `stop_intake`; what was asked before that is still answered."""
        process, connection = through(intake.put, self._clock), Connection(self.name)
        async with anyio.create_task_group() as tasks:

            async def listen() -> None:
                while True:
                    await self._listen_once(tasks, process)
                    connection.up()

            with self._scope:
                await reconnecting(connection, listen)

    async def _listen_once(self, tasks: anyio.abc.TaskGroup, process: Process) -> None:
        await self._client.set(f"{self._key}:listening", b"1", ex=LISTENING_TTL)
        item = await cast("Awaitable[Any]", self._client.blpop([self._key], timeout=_WAIT))
        if item is None:
            return
        try:
            request = msgspec.json.decode(item[1], type=Request)
        except msgspec.DecodeError as error:
            log.error("retry_request_unreadable", key=self._key, error=str(error))
            return
        await self._limiter.acquire()
        tasks.start_soon(self._answer, request, process)

    async def _answer(self, request: Request, process: Process) -> None:
        try:
            outcome = await self._outcome(request, process)
            self.outcomes[outcome.label] += 1
            key = f"{self._key}:{request.id}"
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.rpush(key, msgspec.json.encode(outcome))
                pipeline.expire(key, ANSWER_TTL)
                await pipeline.execute()
        except Exception as error:  # noqa: BLE001  one odd entry must not end the worker
            log.warning("retry_unanswered", id=request.id, error=f"{type(error).__name__}: {error}")
        finally:
            self._limiter.release()

    async def _outcome(self, request: Request, process: Process) -> Outcome:
        store = self._stores.get(request.store)
        if store is None:
            known = ", ".join(name for name in self._stores if name)
            return Outcome(UNANSWERED, f"the worker has no letters in {request.store}; it has {known}")
        letter = store.read(request.raw, request.position, request.entry)
        return await retry_letter(store, letter, process, request.edit)

    async def stop_intake(self) -> None:
        self._scope.cancel()
        with suppress(RedisError, OSError):
            await self._client.delete(f"{self._key}:listening")

    async def close(self) -> None:
        """Let the last answers go out; the client belongs to who made it."""
        with anyio.move_on_after(2):
            while self._limiter.value < _AT_ONCE:  # noqa: ASYNC110  the tasks have no event in common
                await anyio.sleep(0.01)

    def health(self) -> Mapping[str, Any]:
        """Always ready, as nobody's messages depend on it; retries by outcome."""
        return {"ready": True, "outcomes": dict(self.outcomes)}


async def listening(client: Redis, service: str) -> bool:
    """Whether a running worker of that name takes requests."""
    return bool(await client.exists(f"enricher:retry:{service}:listening"))


def by_worker(
    client: Redis, service: str, store: LetterStore, *, seconds: float = 30.0, edit: Edit = NO_EDIT
) -> Attempt:
    """Attempts by the running worker of that name, which has ``store`` too."""

    async def attempt(letter: StoredLetter) -> Outcome:
        return await ask_worker(client, as_text(service), letter, seconds, store=store.name, edit=edit)

    return attempt


async def ask_worker(
    client: Redis,
    service: str,
    letter: StoredLetter,
    seconds: float,
    *,
    store: str = "",
    edit: Edit = NO_EDIT,
) -> Outcome:
    """Let the running worker retry ``letter``; `unanswered` after ``seconds`` without an answer.

    ``store`` is the name of the letter's store; empty means the worker's first.
    """
    request = Request(uuid.uuid4().hex, letter.raw, letter.id, letter.position, store, edit)
    key, encoded = f"enricher:retry:{service}", msgspec.json.encode(request)
    await client.rpush(key, encoded)
    waited, item = 0.0, None
    while item is None and waited < seconds:
        # In pieces, for a client gives up on a reply that takes longer than its socket timeout.
        piece = min(_WAIT, seconds - waited)
        item = await cast("Awaitable[Any]", client.blpop([f"{key}:{request.id}"], timeout=piece))
        waited += piece
    if item is not None:
        return msgspec.json.decode(item[1], type=Outcome)
    taken = not await client.lrem(key, 1, encoded)  # type: ignore[arg-type]
    state = "is still at it" if taken else "did not take it"
    return Outcome(UNANSWERED, f"the worker {state} after {seconds:g} s; the entry stays as it was")
