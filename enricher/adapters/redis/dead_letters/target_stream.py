"""Retries by whoever reads a stream: the message is appended there, and the letter goes when it is done.

With a consumer group the letter stays until the group has finished the entry: acknowledged it, and not put
it off (a worker of ours that will try again later acknowledges too). A worker of ours that fails again
leaves a fresh dead letter under a known task id, which is merged with the old one. Readers of another kind
say nothing but their acknowledgement, which then counts. Without a group nobody answers, and the letter has
gone once the message is in the stream.

A message is appended once per attempt, however often this is repeated: ``{stream}:sent:{...}`` remembers
its entry for a day. So who was interrupted, or waited in vain, goes on waiting for the same entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import anyio
import msgspec
from redis.asyncio import Redis

from enricher.adapters.redis.scripts import load
from enricher.adapters.redis.sink import packed_entry
from enricher.adapters.redis.stream.entry import BODY, TOPIC, GroupKeys
from enricher.dead_letters.edits import NO_EDIT, Edit
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.replay import FAILED, MOVED, UNANSWERED, Outcome, Prepared, prepared, settle
from enricher.dead_letters.store import LetterStore
from enricher.errors import EnricherError
from enricher.texts import as_bytes, as_text, from_json

IDENTITY = b"enricher-id"
SENT_TTL = 86_400
_POLL = 0.05


def as_entry(message: Prepared) -> dict[bytes, bytes]:
    """The entry that a source of ours reads: fields ``body`` and ``topic``."""
    return {BODY: message.body, TOPIC: message.topic.encode()}


def as_fields(message: Prepared) -> dict[bytes, bytes]:
    """The entry whose fields are those of the message, a JSON object, as an intake of mails wants it.

    Text stays text, {"base64": ...} becomes its bytes, everything else is written as JSON. Raises ValueError
    where the message is no JSON object with fields.
    """
    try:
        values = msgspec.json.decode(message.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        values = {}
    if not values:
        raise ValueError("the message is not a JSON object, so it has no fields for an entry")
    return {name.encode(): as_bytes(from_json(value)) for name, value in values.items()}


async def groups_of(client: Redis, stream: str) -> list[str]:
    """The names of the consumer groups of a stream; none where there is no such stream."""
    if not await client.exists(stream):
        return []
    return [as_text(group["name"]) for group in await client.xinfo_groups(stream)]


class TargetStream:
    """Attempts by whoever reads ``stream`` in the Redis of ``client``; call it with a letter.

    It waits ``seconds`` for ``group`` to finish an entry; without a ``group`` it does not wait. With
    ``fields`` the entry is made of the message's own fields (`as_fields`).
    """

    def __init__(
        self,
        store: LetterStore,
        client: Redis,
        stream: str,
        *,
        group: str = "",
        fields: bool = False,
        seconds: float = 30.0,
        edit: Edit = NO_EDIT,
    ) -> None:
        stream, group = as_text(stream), as_text(group)
        if store.name == f"stream {stream}":
            raise EnricherError(f"{stream} is where the dead letters are; give another stream")
        self.stream = stream
        self.group = group
        self._client = client
        self._store = store
        self._fields = as_fields if fields else as_entry
        self._seconds = seconds
        self._edit = edit

    async def __call__(self, letter: StoredLetter) -> Outcome:
        """Retry ``letter``; it goes when that went well, and is brought up to date if it failed again."""
        message = prepared(letter, self._edit)
        if isinstance(message, Outcome):
            return message
        try:
            fields: Mapping[bytes, bytes] = self._fields(message)
        except ValueError as error:
            return Outcome(FAILED, str(error))
        if self.group:
            fields = {**fields, IDENTITY: message.identity.encode()}
            await self._store.expect(message.fresh)
        packed = packed_entry(fields)
        guard = f"{self.stream}:sent:{hashlib.sha256(message.identity.encode() + packed).hexdigest()[:32]}"
        keys = [self.stream, guard]
        if self.group:
            keys.append(GroupKeys(self.stream, self.group).place(message.identity))
        sent = as_text(await load("dead_letter_send")(self._client, keys, SENT_TTL, packed))
        if not self.group:
            await self._store.remove(letter)
            return Outcome(MOVED)
        return await self._answer(letter, message, sent)

    async def _answer(self, letter: StoredLetter, message: Prepared, sent: str) -> Outcome:
        own = GroupKeys(self.stream, self.group)
        keys, script = (self.stream, own.again, own.place(message.identity)), load("dead_letter_finished")
        pause, finished = _POLL / 10, 0
        with anyio.move_on_after(self._seconds):
            while not (finished := int(await script(self._client, keys, self.group, sent))):
                await anyio.sleep(pause)
                pause = min(pause * 2, _POLL)
        if finished < 0:
            return Outcome(UNANSWERED, f"{self.stream} has no group {self.group}; the entry stays as it was")
        if not finished:
            waited = f"{self.group} has not finished {sent} after {self._seconds:g} s"
            return Outcome(UNANSWERED, f"{waited}; the entry stays as it was")
        label = "processed" if await self._store.fresh(message.fresh) is None else "dead"
        return await settle(self._store, letter, message, label)
