"""The visible sink: caches, channels and claims in Redis, by one atomic script.

Many messages travel in one script call, because redis-py's cost is per command (about 15 us in a pipeline,
90 us alone), not per byte. A call carries at most `script_messages` writes or `script_bytes`, so that
Redis is never held for long.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, NamedTuple

from redis.asyncio import Redis

from enricher.adapters.redis.client import is_outage, unavailable
from enricher.adapters.redis.raw_connection import Part, RawConnection
from enricher.adapters.redis.scripts import Script, load
from enricher.engine.effects import (
    LIVE,
    Ack,
    Append,
    Delay,
    DropMembers,
    Effect,
    KeyClaim,
    Publish,
    SetClaim,
    SetKey,
    SetMember,
)
from enricher.engine.ports import Answer, Claimed, Failed, Refused, Write
from enricher.errors import SinkUnavailable, WrongSetting
from enricher.metrics import Kind, Metric, single
from enricher.texts import as_text


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


def packed_entry(fields: Mapping[bytes, bytes]) -> bytes:
    """The fields of a stream entry as the scripts take them: a MessagePack list of names and values."""
    # The servers' decoder does not know MessagePack's type for bytes, and its strings need not be text.
    parts = [part for field in fields.items() for part in field]
    texts = (b"\xdb" + len(part).to_bytes(4, "big") + part for part in parts)
    return b"".join((b"\xdd", len(parts).to_bytes(4, "big"), *texts))


_FENCE, _ACK, _CLAIM, _STATE, _SEEN = range(5)
_Known = tuple[int, str, Callable[[Any], tuple[Part, ...]]]
# Each effect's rank, its letter and its arguments, which `commit.lua` describes. An acknowledgement is asked
# before any claim, for a write that is no longer ours must not leave one. What somebody sees comes last
# (_SEEN): a write that is refused on the way has shown nobody anything.
_KNOWN: dict[type[Effect], _Known] = {
    Ack: (_ACK, "A", lambda e: (e.stream, e.group, e.id)),
    KeyClaim: (_CLAIM, "K", lambda e: (e.key, e.value, e.ttl_s)),
    SetClaim: (_CLAIM, "M", lambda e: (e.key, e.member, e.ttl_s)),
    SetKey: (_STATE, "S", lambda e: (e.key, e.value, e.ttl_ms)),
    SetMember: (_STATE, "Z", lambda e: (e.key, e.field, e.twin, e.member, e.score, e.version)),
    DropMembers: (_STATE, "X", lambda e: (e.key, e.before)),
    Publish: (_SEEN, "P", lambda e: (e.channel, e.message)),
    Append: (_SEEN, "E", lambda e: (e.stream, e.max_length, packed_entry(e.fields))),
    Delay: (_SEEN, "L", lambda e: (e.key, e.delay_ms, e.place, packed_entry(e.fields))),
}
_SET_NEWEST: _Known = (_STATE, "V", lambda e: (e.key, e.value, e.ttl_ms, e.version))


def _rank(effect: Effect) -> int:
    known = _KNOWN.get(type(effect))
    return _SEEN if known is None else known[0]


_INFO: Sequence[tuple[str, str, str, Kind]] = (
    ("memory_bytes", "Memory that Redis uses.", "used_memory", "gauge"),
    ("memory_limit_bytes", "Memory that Redis may use; missing without a limit.", "maxmemory", "gauge"),
    ("keyspace_hits", "Keys that clients of Redis asked for and found.", "keyspace_hits", "counter"),
    ("keyspace_misses", "Keys that they asked for and did not find.", "keyspace_misses", "counter"),
    ("evicted_keys", "Keys that Redis threw away to stay below its limit.", "evicted_keys", "counter"),
)


class _Call(NamedTuple):
    """One call of the script: its arguments, and which writes they are of."""

    arguments: list[Part]
    indices: list[int]


class RedisLive:
    """Writes every effect for ``live`` (keys, members, publishing, entries, claims) to one Redis primary.

    The acknowledgement of a dead letter is left to the store of dead letters, which writes both at once.

    ``record`` names a stream to which the script appends whatever it publishes, so that anybody can count
    what channels said: fields `channel`, `identity` (the claim or the entry) and `message`, about
    ``record_length`` entries. ``fence`` gives a key and the number it must hold: writes with state are
    written only while it does.
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
            raise WrongSetting("streams.record_effects", self._record, expected)

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Write the visible effects, in order, in as few script calls as the limits allow."""
        newest = _last_of_each_key(writes)
        calls = self._calls(writes, newest)
        if not calls:
            return {}
        answers = await self._run(writes, calls)
        refused = {i for i, answer in answers.items() if isinstance(answer, Refused)}
        if refused:
            await self._set_what_was_left_out(writes, refused, newest)
        return answers

    async def metrics(self) -> Sequence[Metric]:
        """Memory and hits of the server, as INFO tells them."""
        given = await self._client.info("memory", "stats")
        return [
            single(f"enricher_redis_{name}", text, float(given[key]), kind)
            for name, text, key, kind in _INFO
            # A server without a limit has none to come near to.
            if key in given and (given[key] or key != "maxmemory")
        ]

    def _calls(self, writes: Sequence[Write], newest: Mapping[str, SetKey]) -> list[_Call]:
        calls: list[_Call] = []
        arguments: list[Part] = []
        indices: list[int] = []
        size = 0
        fence = None if self._fence is None else self._fence()
        for index, write in enumerate(writes):
            word, parts = _packed(write, write.effects, newest)
            if not word:
                continue
            if fence is not None and write.stateful:
                word, parts = "F" + word, [*fence, *parts]
            arguments.append(word)
            arguments += parts
            size += write.body_size
            indices.append(index)
            if len(indices) >= self._script_messages or size >= self._script_bytes:
                calls.append(_Call(arguments, indices))
                arguments, indices, size = [], [], 0
        if indices:
            calls.append(_Call(arguments, indices))
        return calls

    async def _set_what_was_left_out(
        self, writes: Sequence[Write], refused: Container[int], newest: Mapping[str, SetKey]
    ) -> None:
        """Assignments that were not sent in favour of one that was refused with its write."""
        written = [write for index, write in enumerate(writes) if index not in refused]
        missing = {
            key: effect for key, effect in _last_of_each_key(written).items() if newest[key] is not effect
        }
        if missing:
            left_out = [Write((effect,)) for effect in missing.values()]
            await self._run(left_out, self._calls(left_out, missing))

    async def _run(self, writes: Sequence[Write], calls: Sequence[_Call]) -> dict[int, Answer]:
        """The script's answers for the writes that were not simply written; all calls travel at once."""
        # Groups of routes may commit at the same time; each conversation has a connection to itself.
        connection = self._idle.pop() if self._idle else RawConnection(self._client, timeout=self._timeout)
        try:
            results = await connection.run(
                self._script, *([0, len(call.indices), *call.arguments] for call in calls)
            )
        except Exception as error:
            raise unavailable(self.name, error) or error from error
        finally:
            self._idle.append(connection)
        answers: dict[int, Answer] = {}
        for call, replies in zip(calls, results, strict=True):
            if not any(replies):
                continue
            for index, reply in zip(call.indices, replies, strict=True):
                if reply:
                    answers[index] = await self._answer(writes[index], reply)
        return answers

    async def _answer(self, write: Write, reply: bytes | str) -> Answer:
        """What the reply to a write that was not simply written means. Raises `SinkUnavailable`."""
        text = as_text(reply)
        if text == "=":
            return Claimed()
        text, _, seen = text.partition("\n")
        code = text.split(" ", 1)[0]
        if text.startswith(_REFUSALS):
            return Refused(text, code)
        if seen:
            _take_out(write, int(seen))
        if is_outage(text):
            # The address may lead to another server by now: after a failover this one stays read-only.
            await self.close()
            raise SinkUnavailable(self.name, text)
        return Failed(text, code)

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


def _take_out(write: Write, seen: int) -> None:
    """Take out of ``write`` its first effects that somebody has ``seen``: once is enough."""
    shown = [effect for effect in write.effects if type(effect) in _KNOWN and _rank(effect) == _SEEN]
    gone = {id(effect) for effect in shown[:seen]}
    write.effects = [effect for effect in write.effects if id(effect) not in gone]


def _last_of_each_key(writes: Sequence[Write]) -> dict[str, SetKey]:
    """Per key the assignment that would be left after all: the others of one commit need not be sent.

    Nobody can see between two writes of a commit for longer than a script call, and a version that is
    older than one already there would be refused anyway.
    """
    last: dict[str, SetKey] = {}
    for effect in [effect for write in writes for effect in write.effects if type(effect) is SetKey]:
        earlier = last.get(effect.key)
        if earlier is None or (effect.version or 0) >= (earlier.version or 0):
            last[effect.key] = effect
    return last


def _packed(
    write: Write, effects: Sequence[Effect], newest: Mapping[str, SetKey]
) -> tuple[str, list[Part]]:
    """The visible ones of ``effects``, those of ``write``: a letter for each, and what they take."""
    word, highest = "", _FENCE
    parts: list[Part] = []
    for effect in effects:
        known = _KNOWN.get(type(effect))
        if known is None:
            if effect.sink == LIVE:
                raise TypeError(f"the Redis sink cannot write {type(effect).__name__}")
            continue
        rank, letter, arguments = known
        if type(effect) is SetKey:
            if newest[effect.key] is not effect:
                continue
            if effect.version is not None:
                _, letter, arguments = _SET_NEWEST
        elif rank == _ACK and write.label == "dead":
            continue
        if rank < highest:
            return _packed(write, sorted(effects, key=_rank), newest)
        word, highest = word + letter, rank
        parts += arguments(effect)
    return word, parts
