"""Reprocess dead letters: an entry goes when its message was processed, and stays once when it was not.

A reprocessed message gets an id made from its letter and the number of the attempt. Should it fail again,
its fresh dead letter therefore has a task id that is known beforehand: the two are merged in the old one's
place, in one script. Whoever dies between the failure and the merge leaves two entries, but the next retry
of the old one gives the same task id, so no third is added and the two are merged then.

A message may be reprocessed by whoever has an engine:

    here     in a process of its own, which loads the state it needs. A worker that runs at the same time
             learns nothing of it: what it keeps in memory (rolling windows, open bars) lacks the message
             until it starts anew.
    worker   by the running worker. It waits (`RetryListener`) on the list ``enricher:retry:{service}``. A
             request carries the entry and an id; the worker reprocesses it, removes or merges the entry
             itself, and pushes the outcome to the list ``enricher:retry:{service}:{id}``, which expires. A
             request that gets lost loses nothing, since the entry is still there. The key
             ``enricher:retry:{service}:listening`` exists while somebody listens.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any, cast

import anyio
import anyio.abc
import msgspec
import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from enricher.deadletters.store import LetterStore, StoredLetter, UnknownLetter
from enricher.engine.ports import Clock, Delivery, Intake
from enricher.engine.retry import Backoff
from enricher.sources.memory import MemoryDelivery

log = structlog.get_logger("enricher")

Reprocess = Callable[[str, bytes, str], Awaitable[str]]
"""Topic, body and id of a message -> the label under which it left the engine."""

REPROCESSED = ("processed", "duplicate")
FAILED, UNANSWERED = "failed", "unanswered"
ANSWER_TTL = 300
LISTENING_TTL = 10
_AT_ONCE = 64
_WAIT = 1.0
_Raw = dict[str, msgspec.Raw]


class Outcome(msgspec.Struct, frozen=True):
    """How a retry ended: `processed`, `duplicate`, `failed` (again) or `unanswered`; and why."""

    label: str
    error: str = ""

    @property
    def done(self) -> bool:
        """Whether the message was processed, now or before, and its entry has gone."""
        return self.label in REPROCESSED


class Request(msgspec.Struct, frozen=True):
    """What a worker is asked: to reprocess the entry ``raw`` and to answer under ``id``."""

    id: str
    raw: bytes


def through(put: Callable[[Delivery], Awaitable[None]], clock: Clock) -> Reprocess:
    """A way to reprocess by an engine in this process; ``put`` is the engine's or its intake's."""

    async def reprocess(topic: str, body: bytes, identity: str) -> str:
        done: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def settled(label: str) -> None:
            if not done.done():
                done.set_result(label)

        delivery = MemoryDelivery(topic, body, clock(), settled)
        delivery.id = identity
        await put(delivery)
        return await done

    return reprocess


async def retry(store: LetterStore, letter: StoredLetter, reprocess: Reprocess) -> Outcome:
    """Reprocess ``letter``; remove it if that went well, bring it up to date if it failed again."""
    if not letter.readable:
        return Outcome(FAILED, "the entry is not a dead letter")
    if letter.topic is None:
        name = letter.record.get("task_name")
        return Outcome(FAILED, f"the entry names no topic, and no route is called {name!r}")
    identity = f"retry:{letter.task_id}:{letter.attempts}"
    try:
        body = letter.body
    except (ValueError, TypeError) as error:
        return Outcome(FAILED, f"the entry's body cannot be read: {error}")
    label = await reprocess(letter.topic, body, identity)
    if label in REPROCESSED:
        await store.remove(letter)
        return Outcome(label)
    if label != "dead":
        return Outcome(UNANSWERED, f"the message was {label}; the entry stays as it was")
    try:
        fresh = await store.get(fresh_task_id(letter.topic, identity))
    except UnknownLetter:
        return Outcome(FAILED, letter.error)  # somebody else has merged or discarded it meanwhile
    await store.replace(letter, merged(letter, fresh), fresh)
    return Outcome(FAILED, fresh.error)


def fresh_task_id(topic: str, identity: str) -> str:
    """The task id of the dead letter that a message with this id becomes."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{topic}\n{identity}"))


def merged(letter: StoredLetter, fresh: StoredLetter) -> bytes:
    """The entry that stays: the old letter's identity and beginning, the fresh one's failure.

    Fields that nobody changes keep their bytes, so numbers of any size survive.
    """
    decode = msgspec.json.Decoder(_Raw).decode
    old, new = decode(letter.raw), decode(fresh.raw)
    entry: dict[str, Any] = {**old, **new}
    for field in ("task_id", "task_name", "args"):
        if field in old:
            entry[field] = old[field]
    if (first := old.get("first_at") or old.get("timestamp")) is not None:
        entry["first_at"] = first
    entry["attempts"] = letter.attempts + fresh.attempts
    return msgspec.json.encode(entry)


class RetryListener:
    """A source that reprocesses what `ask_worker` asks for; give it to the worker's engine.

    ``client`` (with a socket timeout above two seconds) stays open.
    """

    name = "retries"
    can_wait = True

    def __init__(self, client: Redis, store: LetterStore, *, service: str, clock: Clock) -> None:
        self._client = client
        self._store = store
        self._clock = clock
        self._key = f"enricher:retry:{service}"
        self._scope = anyio.CancelScope()
        self._limiter = anyio.Semaphore(_AT_ONCE)
        self._under_way = 0
        self.outcomes = {"processed": 0, "duplicate": 0, FAILED: 0, UNANSWERED: 0}

    async def start(self) -> None:
        """Nothing to wait for: `run` keeps trying while the server is away."""

    async def run(self, intake: Intake) -> None:
        """Listen until `stop_intake`; what was asked before that is still answered."""
        reprocess, backoff, attempt = through(intake.put, self._clock), Backoff(base=0.05, cap=5.0), 0
        async with anyio.create_task_group() as tasks:
            with self._scope:
                while True:
                    try:
                        await self._listen_once(tasks, reprocess)
                        attempt = 0
                    except (RedisError, OSError) as error:
                        attempt += 1
                        if attempt == 1:
                            log.warning("connection_lost", source=self.name, reason=str(error))
                        await anyio.sleep(backoff.delay(attempt))

    async def _listen_once(self, tasks: anyio.abc.TaskGroup, reprocess: Reprocess) -> None:
        await self._client.set(f"{self._key}:listening", b"1", ex=LISTENING_TTL)
        found = await cast("Awaitable[Any]", self._client.blpop([self._key], timeout=_WAIT))
        if found is None:
            return
        try:
            request = msgspec.json.decode(found[1], type=Request)
        except msgspec.DecodeError as error:
            log.error("retry_request_unreadable", key=self._key, error=str(error))
            return
        await self._limiter.acquire()
        self._under_way += 1
        tasks.start_soon(self._answer, request, reprocess)

    async def _answer(self, request: Request, reprocess: Reprocess) -> None:
        try:
            outcome = await retry(self._store, self._store.read(request.raw), reprocess)
            self.outcomes[outcome.label] += 1
            key = f"{self._key}:{request.id}"
            async with self._client.pipeline(transaction=True) as pipeline:
                pipeline.rpush(key, msgspec.json.encode(outcome))
                pipeline.expire(key, ANSWER_TTL)
                await pipeline.execute()
        except Exception as error:  # noqa: BLE001  one odd entry must not end the worker
            log.warning("retry_unanswered", id=request.id, error=f"{type(error).__name__}: {error}")
        finally:
            self._under_way -= 1
            self._limiter.release()

    async def stop_intake(self) -> None:
        """Stop listening."""
        self._scope.cancel()
        with suppress(RedisError, OSError):
            await self._client.delete(f"{self._key}:listening")

    async def close(self) -> None:
        """Let the last answers go out; the client belongs to who made it."""
        with anyio.move_on_after(2):
            while self._under_way:  # noqa: ASYNC110  the tasks have no event in common
                await anyio.sleep(0.01)

    def health(self) -> Mapping[str, Any]:
        """Always ready, as nobody's messages depend on it; retries by outcome."""
        return {"ready": True, "outcomes": dict(self.outcomes)}


async def listening(client: Redis, service: str) -> bool:
    """Whether a running worker of that name takes requests."""
    return bool(await client.exists(f"enricher:retry:{service}:listening"))


async def ask_worker(client: Redis, service: str, letter: StoredLetter, seconds: float) -> Outcome:
    """Let the running worker reprocess ``letter``; `unanswered` after ``seconds`` without an answer."""
    request = Request(uuid.uuid4().hex, letter.raw)
    key, encoded = f"enricher:retry:{service}", msgspec.json.encode(request)
    await client.rpush(key, encoded)
    waited, found = 0.0, None
    while found is None and waited < seconds:
        # In pieces, for a client gives up on a reply that takes longer than its socket timeout.
        piece = min(_WAIT, seconds - waited)
        found = await cast("Awaitable[Any]", client.blpop([f"{key}:{request.id}"], timeout=piece))
        waited += piece
    if found is not None:
        return msgspec.json.decode(found[1], type=Outcome)
    taken = not await client.lrem(key, 1, encoded)  # type: ignore[arg-type]
    state = "is still at it" if taken else "did not take it"
    return Outcome(UNANSWERED, f"the worker {state} after {seconds:g} s; the entry stays as it was")
