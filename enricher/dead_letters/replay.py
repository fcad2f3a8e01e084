"""Retry dead letters: an entry goes when its message was processed, and stays once when it was not.

A retried message gets an id made from its letter and the number of the attempt. Should it fail again,
its fresh dead letter therefore has a task id that is known beforehand: the two are merged in the old one's
place, in one script. Whoever dies between the failure and the merge leaves two entries, but the next retry
of the old one gives the same task id, so no third is added and the two are merged then.

A message may be retried by whoever has an engine:

    here     (`here`) in a process of its own, which loads the state it needs. A worker that runs at the
             same time learns nothing of it: what it keeps in memory (rolling windows, open bars) lacks the
             message until it starts anew.
    worker   (`by_worker`) by the running worker, which answers.
    stream   (`TargetStream`) by whoever reads a stream.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import msgspec

from enricher.dead_letters.edits import NO_EDIT, Edit
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.store import LetterStore
from enricher.engine.ports import AwaitedDelivery, Clock, Delivery

Process = Callable[[str, bytes, str], Awaitable[str]]
"""Topic, body and id of a message -> the label under which it left the engine."""

DONE = ("processed", "duplicate")
MOVED, FAILED, UNANSWERED = "moved", "failed", "unanswered"
_Raw = dict[str, msgspec.Raw]
_MESSAGE = ("args", "body", "body_base64", "original_data")


class Outcome(msgspec.Struct, frozen=True):
    """How a retry ended, and why.

    ``processed``, ``duplicate`` (it had been processed before) and ``moved`` (to a stream): the entry has
    gone. ``failed`` (again) and ``unanswered``: it stays.
    """

    label: str
    error: str = ""

    @property
    def done(self) -> bool:
        """Whether the entry has gone."""
        return self.label in DONE or self.label == MOVED


Attempt = Callable[[StoredLetter], Awaitable[Outcome]]
"""A way to retry one letter."""


class Prepared(msgspec.Struct, frozen=True):
    """A letter's message, ready to be tried again under ``identity``."""

    topic: str
    body: bytes
    identity: str

    @property
    def fresh(self) -> str:
        """The task id of the dead letter that it becomes if it fails again."""
        return fresh_task_id(self.topic, self.identity)


def prepared(letter: StoredLetter, edit: Edit = NO_EDIT) -> Prepared | Outcome:
    """The message of ``letter`` with the edit made; an `Outcome` says why there is none."""
    if not letter.readable:
        return Outcome(FAILED, "the entry is not a dead letter")
    if letter.topic is None:
        name = letter.record.get("task_name")
        return Outcome(FAILED, f"the entry names no topic, and no route is called {name!r}")
    try:
        body = letter.body
    except (ValueError, TypeError) as error:
        return Outcome(FAILED, f"the entry's body cannot be read: {error}")
    try:
        body = edit.apply(body)
    except ValueError as error:
        return Outcome(FAILED, str(error))
    return Prepared(letter.topic, body, f"retry:{letter.task_id}:{letter.attempts}")


def through(put: Callable[[Delivery], Awaitable[None]], clock: Clock) -> Process:
    """A way to process a message by an engine of this process; ``put`` is the engine's or its intake's."""

    async def process(topic: str, body: bytes, identity: str) -> str:
        delivery = AwaitedDelivery(topic, body, clock(), identity)
        await put(delivery)
        return await delivery.ended

    return process


def here(
    store: LetterStore, process: Process, edit: Edit = NO_EDIT, *, seconds: float | None = None
) -> Attempt:
    """Attempts by ``process``: an engine of this process (`through`), or any coroutine function.

    One is given up, and the entry stays as it was, after ``seconds`` (None: never).
    """

    async def attempt(letter: StoredLetter) -> Outcome:
        with anyio.move_on_after(seconds):
            return await retry_letter(store, letter, process, edit)
        return Outcome(UNANSWERED, f"not committed after {seconds:g} s; the entry stays as it was")

    return attempt


async def retry_letter(
    store: LetterStore, letter: StoredLetter, process: Process, edit: Edit = NO_EDIT
) -> Outcome:
    """Retry ``letter``; remove it if that went well, bring it up to date if it failed again."""
    message = prepared(letter, edit)
    if isinstance(message, Outcome):
        return message
    await store.expect(message.fresh)
    label = await process(message.topic, message.body, message.identity)
    return await settle(store, letter, message, label)


async def settle(store: LetterStore, letter: StoredLetter, message: Prepared, label: str) -> Outcome:
    """Draw the consequence of how the message of ``letter`` ended."""
    if label in DONE:
        await store.remove(letter)
        await store.forget(message.fresh)
        return Outcome(label)
    if label != "dead":
        await store.forget(message.fresh)
        return Outcome(UNANSWERED, f"the message was {label}; the entry stays as it was")
    fresh = await store.fresh(message.fresh)
    if fresh is None:
        return Outcome(FAILED, letter.error)  # somebody else has merged or discarded it meanwhile
    await store.replace(letter, merged(letter, fresh), fresh)
    return Outcome(FAILED, fresh.error)


def fresh_task_id(topic: str, identity: str) -> str:
    """The task id of the dead letter that a message with this id becomes."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{topic}\n{identity}"))


def merged(letter: StoredLetter, fresh: StoredLetter) -> bytes:
    """The entry that stays: the old letter's identity, message and beginning, the fresh one's failure.

    The message is the old one also where an edited one has failed. Fields that nobody changes keep their
    bytes, so numbers of any size survive.
    """
    decode = msgspec.json.Decoder(_Raw).decode
    old, new = decode(letter.raw), decode(fresh.raw)
    kept: tuple[str, ...] = ("task_id", "task_name")
    if any(field in old for field in _MESSAGE):
        kept += _MESSAGE
    entry: dict[str, Any] = {field: value for field, value in {**old, **new}.items() if field not in kept}
    entry |= {field: old[field] for field in kept if field in old}
    if "task_id" not in entry:
        # What has no id of its own is called by a digest of its bytes, which change now.
        entry["task_id"] = letter.task_id
    if (first := old.get("first_at") or old.get("timestamp") or old.get("failed_at")) is not None:
        entry["first_at"] = first
    entry["attempts"] = letter.attempts + fresh.attempts
    return msgspec.json.encode(entry)
