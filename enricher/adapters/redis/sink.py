"""The visible sink: caches, channels and claims in Redis, by one atomic script.

Many messages travel in one script call, because redis-py's cost is per command (about 15 us in a pipeline,
90 us alone), not per byte. A call carries at most `script_messages` writes or `script_bytes`, so that
Redis is never held for long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from redis.asyncio import Redis

from enricher.adapters.redis.client import is_outage, unavailable
from enricher.adapters.redis.raw_connection import Part, RawConnection
from enricher.adapters.redis.scripts import Script, load
from enricher.engine.effects import (
    LIVE,
    Ack,
    Append,
    DropMembers,
    Effect,
    KeyClaim,
    Later,
    Publish,
    SetClaim,
    SetKey,
    SetMember,
)
from enricher.engine.ports import Answer, Claimed, Failed, Refused, Write
from enricher.errors import ConfigError, SinkUnavailable


def commit_script(record: str = "", record_length: int = 0) -> Script:
    """The commit script; ``record`` is the stream that gets a copy of everything published."""
    # A Lua string whose every byte is escaped: the name may be anything.
    name = "'" + "".join(f"\\{byte:03d}" for byte in record.encode()) + "'"
    constants = f"local RECORD, RECORDED = {name if record else 'false'}, '{record_length}'\n"
    return load("commit", "ack", constants=constants)


# Errors that speak of one key or one value, or come from what a script made of it.
_REFUSALS = (
    "WRONGTYPE",
    "ERR Invalid stream ID",
    "ERR The ID specified",
    "ERR invalid expire",
    "ERR string exceeds",
    "ERR syntax error",
    "ERR value is not",
    "ERR Wrong number of args",
    "user_script:",
    "@user_script:",
)


def _key_claim(e: KeyClaim) -> tuple[Part, ...]:
    return ("K", e.key, e.value, e.ttl_s)


def _set_claim(e: SetClaim) -> tuple[Part, ...]:
    return ("M", e.key, e.member, e.ttl_s)


def _set_key(e: SetKey) -> tuple[Part, ...]:
    if e.version is None:
        return ("S", e.key, e.value, e.ttl_ms)
    return ("V", e.key, e.value, e.ttl_ms, e.version)


def _set_member(e: SetMember) -> tuple[Part, ...]:
    return ("Z", e.key, e.field, e.twin, e.member, e.score, e.version)


def _drop_members(e: DropMembers) -> tuple[Part, ...]:
    return ("X", e.key, e.before)


def _publish(e: Publish) -> tuple[Part, ...]:
    return ("P", e.channel, e.message)


def packed_entry(fields: Mapping[bytes, bytes]) -> bytes:
    """The fields of a stream entry as the scripts take them: a MessagePack list of names and values."""
    # The servers' decoder does not know MessagePack's type for bytes, and its strings need not be text.
    parts = [part for field in fields.items() for part in field]
    texts = (b"\xdb" + len(part).to_bytes(4, "big") + part for part in parts)
    return b"".join((b"\xdd", len(parts).to_bytes(4, "big"), *texts))


def _append(e: Append) -> tuple[Part, ...]:
    return ("E", e.stream, e.max_length, packed_entry(e.fields))


def _later(e: Later) -> tuple[Part, ...]:
    return ("L", e.key, e.delay_ms, e.place, packed_entry(e.fields))


def _ack(e: Ack) -> tuple[Part, ...]:
    return ("A", e.stream, e.group, e.id)


_ARGUMENTS: dict[type[Effect], Callable[[Any], tuple[Part, ...]]] = {
    KeyClaim: _key_claim,
    SetClaim: _set_claim,
    SetKey: _set_key,
    SetMember: _set_member,
    DropMembers: _drop_members,
    Publish: _publish,
    Append: _append,
    Later: _later,
    Ack: _ack,
}
# An acknowledgement is asked before any claim: a write that is no longer ours must not leave one.
_RANKS: dict[type[Effect], int] = {
    Ack: -1,
    KeyClaim: 0,
    SetClaim: 0,
    Publish: 2,
    Append: 2,
    Later: 2,
}


class RedisLive:
    """Lands every effect for ``live`` (keys, members, publishing, entries, claims) on one Redis primary.

    The acknowledgement of a dead letter is left to the store of dead letters, which lands both at once.

    ``record`` names a stream to which the script appends whatever it publishes, so that anybody can count
    what channels said: fields `channel`, `identity` (the claim or the entry) and `message`, about
    ``record_length`` entries. ``fence`` gives a key and the number it must hold: writes of lanes with state
    land only while it does.
    """

    name = LIVE
    durable = False

    def __init__(
        self,
        client: Redis,
        *,
        script_messages: int = 100,
        script_bytes: int = 256 * 1024,
        server: str = "",
        record: str = "",
        record_length: int = 1_000_000,
        fence: Callable[[], tuple[str, int]] | None = None,
    ) -> None:
        self.server = server
        self._client = client
        self._record = record
        self._script = commit_script(record, record_length)
        self._fence = fence
        self._script_messages = script_messages
        self._script_bytes = script_bytes
        self._idle: list[RawConnection] = []
        self._timeout: float | None = _own_timeout(client)

    async def open(self) -> None:
        """Load the script. Raises `SinkUnavailable` if the server is away."""
        try:
            await self._client.script_load(self._script.text)
            kind = await self._client.type(self._record) if self._record else "none"
        except Exception as error:
            raise unavailable(self.name, error) or error from error
        if kind not in (b"none", "none", b"stream", "stream"):
            expected = "the name of a stream, or of no key yet"
            raise ConfigError("settings", "streams.record_effects", self._record, expected)

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Land the visible effects, in order, in as few script calls as the limits allow."""
        answers: dict[int, Answer] = {}
        newest = _last_of_each_key(writes)
        calls: list[tuple[list[Part], list[int]]] = []
        arguments: list[Part] = []
        indices: list[int] = []
        size = 0
        fence = None if self._fence is None else ("F", *self._fence())
        for index, write in enumerate(writes):
            mine: list[Effect] = []
            for effect in write.effects:
                kind = type(effect)
                if kind not in _ARGUMENTS:
                    if effect.sink == LIVE:
                        raise TypeError(f"the Redis sink cannot land {kind.__name__}")
                elif kind is SetKey:
                    if newest[effect.key] is effect:  # type: ignore[attr-defined]
                        mine.append(effect)
                elif kind is not Ack or write.label != "dead":
                    mine.append(effect)
            if not mine:
                continue
            if len(mine) > 1:
                mine.sort(key=_rank)
            if fence is not None and write.stateful:
                arguments.append(len(mine) + 1)
                arguments += fence
            else:
                arguments.append(len(mine))
            for effect in mine:
                arguments += _ARGUMENTS[type(effect)](effect)
            size += write.body_size
            indices.append(index)
            if len(indices) >= self._script_messages or size >= self._script_bytes:
                calls.append((arguments, indices))
                arguments, indices, size = [], [], 0
        if indices:
            calls.append((arguments, indices))
        if calls:
            await self._call(writes, calls, answers)
        refused = [i for i, answer in answers.items() if isinstance(answer, Refused)]
        if refused:
            await self._set_what_was_left_out(writes, refused, newest)
        return answers

    async def _set_what_was_left_out(
        self, writes: Sequence[Write], refused: Sequence[int], newest: Mapping[str, SetKey]
    ) -> None:
        """Assignments that were not sent in favour of one that was refused with its write."""
        gone = set(refused)
        failed = {
            effect.key
            for i in refused
            for effect in writes[i].effects
            if type(effect) is SetKey and newest[effect.key] is effect
        }
        others = _last_of_each_key([write for i, write in enumerate(writes) if i not in gone])
        again = [effect for key, effect in others.items() if key in failed]
        if again:
            arguments = [argument for effect in again for argument in (1, *_set_key(effect))]
            await self._call(writes, [(arguments, list(range(len(again))))], {})

    async def _call(
        self,
        writes: Sequence[Write],
        calls: Sequence[tuple[list[Part], list[int]]],
        answers: dict[int, Answer],
    ) -> None:
        try:
            results = await self._send(calls)
        except Exception as error:
            raise unavailable(self.name, error) or error from error
        try:
            for (_, indices), replies in zip(calls, results, strict=True):
                self._note(writes, indices, replies, answers)
        except SinkUnavailable:
            # The address may lead to another server by now: after a failover this one stays read-only.
            await self.close()
            raise

    def _note(
        self,
        writes: Sequence[Write],
        indices: Sequence[int],
        replies: Sequence[bytes | str],
        answers: dict[int, Answer],
    ) -> None:
        for index, reply in zip(indices, replies, strict=True):
            if not reply:
                continue
            if reply in (b"=", "="):
                answers[index] = Claimed()
                continue
            text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else str(reply)
            text, _, told = text.partition("\n")
            if text.startswith(_REFUSALS):
                answers[index] = Refused(text, text.split(" ", 1)[0])
                continue
            if told:
                _take_out(writes[index], int(told))
            if is_outage(text):
                raise SinkUnavailable(self.name, text)
            answers[index] = Failed(text, text.split(" ", 1)[0])

    async def _send(self, calls: Sequence[tuple[list[Part], list[int]]]) -> list[list[bytes | str]]:
        """The replies of the script to each call, in order; all calls travel in one write."""
        # Groups of routes may commit at the same time; each conversation has a connection to itself.
        connection = self._idle.pop() if self._idle else RawConnection(self._client, timeout=self._timeout)
        try:
            return await connection.run(
                self._script, *([0, len(indices), *arguments] for arguments, indices in calls)
            )
        finally:
            self._idle.append(connection)

    async def close(self) -> None:
        """Close its own connections; the client belongs to who made it."""
        for connection in self._idle:
            await connection.close()
        self._idle.clear()


def _own_timeout(client: Redis) -> float | None:
    """What ``client`` waits for a reply (seconds), which may be its library's default and in no setting."""
    pool: Any = client.connection_pool
    timeout: float | None = pool.make_connection().socket_timeout
    return timeout


def _take_out(write: Write, told: int) -> None:
    """Take out of ``write`` the first ``told`` effects that somebody has been told by: once is enough."""
    telling = [effect for effect in write.effects if _rank(effect) == 2]
    gone = {id(effect) for effect in telling[:told]}
    write.effects = [effect for effect in write.effects if id(effect) not in gone]


def _rank(effect: Effect) -> int:
    """Claims first, publishing last: a write that is refused on the way has told nobody anything."""
    return _RANKS.get(type(effect), 1)


def _last_of_each_key(writes: Sequence[Write]) -> dict[str, SetKey]:
    """Per key the assignment that would be left after all: the others of one commit need not be sent.

    Nobody can see between two writes of a commit for longer than a script call, and a version that is
    older than one already there would be refused anyway.
    """
    last: dict[str, SetKey] = {}
    for write in writes:
        for effect in write.effects:
            if type(effect) is SetKey:
                held = last.get(effect.key)
                if held is None or (effect.version or 0) >= (held.version or 0):
                    last[effect.key] = effect
    return last
