"""Which messages were processed: claims in Redis sets that expire whole, and reservations.

A claim is a digest of 16 characters in the set of its time slice, ``{prefix}:{slice}``; a slice is an eighth
of the lifetime, and its set expires one lifetime after its last claim. So a claim lives for one lifetime at
least and nine eighths of it at most, nine sets are looked into, and the next one, where the clock of somebody
else may be already; memory is bounded by what came in that time: about 60 bytes a message. The set
``processed_messages:set``, which never expires, is honoured too.

With a handler that acts on its own a message must not only be claimed once but be handled by one at a time:
`begin` reserves it for whoever asks first, until the claim is made, `release` gives it up, or the lease ends.
"""

from __future__ import annotations

import asyncio
import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from time import time
from typing import TYPE_CHECKING, Any

from enricher.adapters.redis.client import unavailable
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.adapters.redis.scripts import Script, load
from enricher.engine.claims import Found, State
from enricher.log import log
from enricher.texts import as_bytes, as_text

if TYPE_CHECKING:
    from redis.asyncio import Redis

PREFIX = "processed:mail"
OLD_SET = "processed_messages:set"
WEEK = 7 * 24 * 3600
SLICES = 8
MOST = 200
"""Questions in one call."""


class _Question:
    """What is asked about one message; ``reply`` is the script's, or an error, None until there is one."""

    __slots__ = ("arguments", "key", "reply")

    def __init__(self, key: str, arguments: tuple[str | int, ...]) -> None:
        self.key = key
        self.arguments = arguments
        self.reply: Any = None


class Idempotency:
    """Claims of processed messages, in the Redis of ``client`` (asyncio), for ``ttl`` seconds each.

        seen = Idempotency(client)
        if not await seen.is_duplicate(message_id):
            ...
            await seen.mark_processed(message_id)

    ``clock`` gives seconds since 1970. Questions of the same turn of the loop, and those that come while an
    answer is awaited, travel in one call: over ``connection`` if there is one (`close` closes it; it costs
    less than the client's own). While Redis is away every question raises `SinkUnavailable`; other errors of
    the client are passed on. Belongs to one loop.
    """

    def __init__(
        self,
        client: Redis,
        *,
        ttl: int = WEEK,
        prefix: str = PREFIX,
        old_set: str = OLD_SET,
        clock: Callable[[], float] = time,
        connection: RawConnection | None = None,
    ) -> None:
        if ttl < 1:
            raise ValueError(f"ttl is {ttl}: expected a lifetime of at least 1 s")
        self.ttl = ttl
        self.prefix = prefix
        self.old_set = old_set
        self._client = client
        self._clock = clock
        self._connection = connection
        self._unreachable = False
        self._waiting: dict[_Question, None] = {}
        self._call: asyncio.Event | None = None  # set when the call under way has ended

    def claim(self, message_id: str) -> tuple[str, str]:
        """Key and member of the claim that a commit makes for a message now."""
        return self.sets()[0], member(message_id)

    def sets(self) -> list[str]:
        """The keys in which claims may be now, newest first; last that of whoever's clock is ahead."""
        length = -(-self.ttl // SLICES)  # seconds, rounded up
        newest = int(self._clock()) // length
        numbers = (*range(newest, newest - SLICES - 1, -1), newest + 1)
        return [f"{self.prefix}:{number * length}" for number in numbers]

    async def is_duplicate(self, message_id: str) -> bool:
        """Whether the message was processed within the lifetime, or by an old worker."""
        return (await self.begin(message_id)).state is State.PROCESSED

    async def begin(
        self, message_id: str, token: str = "", lease_ms: int = 0, others: Sequence[str] = ()
    ) -> Found:
        """Look a message up and, with a ``token`` (unique to this attempt), reserve it for ``lease_ms``.

        ``others`` are further names that the message may have in the old set.
        """
        message_id = as_text(message_id)
        names = (message_id, f"<{message_id}>", *others)
        arguments: tuple[str | int, ...] = (member(message_id), token, lease_ms, len(names), *names)
        question = _Question(self._reservation(message_id), arguments)
        self._waiting[question] = None
        try:
            while question.reply is None:
                if self._call is not None:
                    await self._call.wait()
                    continue
                self._call = asyncio.Event()
                try:
                    await asyncio.sleep(0)  # whoever is about to ask joins
                    await self._ask_for_all()
                finally:
                    self._call.set()
                    self._call = None
        finally:
            del self._waiting[question]
        if isinstance(question.reply, Exception):
            raise question.reply
        return _found(question.reply)

    async def mark_processed(self, message_id: str) -> bool:
        """Claim the message; False if it was claimed in this slice already."""
        key, claim = self.claim(message_id)
        return bool(await self._run(load("claim_mark"), key, claim, self.ttl))

    async def renew(self, message_id: str, token: str, lease_ms: int) -> bool:
        """Keep a reservation; False if it is no longer ours."""
        key = self._reservation(as_text(message_id))
        return bool(await self._run(load("renew_lease"), key, token, lease_ms))

    async def release(self, message_id: str, token: str) -> None:
        """Give a reservation up, so that the next attempt may begin at once."""
        await self._run(load("release_lease"), self._reservation(as_text(message_id)), token)

    async def count(self) -> int:
        """How many claims there are (those of the old set are not among them)."""
        return sum([await self._count(key) for key in self.sets()])

    async def count_old(self) -> int:
        """How many ids the old worker's set holds."""
        return await self._count(self.old_set)

    async def close(self) -> None:
        """Close the connection for questions; the client belongs to who made it."""
        if self._connection is not None:
            await self._connection.close()

    async def _count(self, key: str) -> int:
        try:
            return int(await self._client.scard(key))
        except Exception as error:
            raise self._problem(error) from error

    async def _run(self, script: Script, key: str, *arguments: str | int) -> Any:
        try:
            reply = await script(self._client, (key,), *arguments)
        except Exception as error:
            raise self._problem(error) from error
        self._answered()
        return reply

    async def _ask_for_all(self) -> None:
        """Answer what waits, in one call. Whoever gives up meanwhile leaves the others' questions open."""
        asked = [question for question in self._waiting if question.reply is None][:MOST]
        sets = self.sets()
        keys = [self.old_set, *sets, *(question.key for question in asked)]
        arguments = (len(sets), *(part for question in asked for part in question.arguments))
        try:
            replies = await self._send(load("claim_begin"), keys, arguments)
        except Exception as error:  # noqa: BLE001  it is everybody's
            replies = [error] * len(asked)
        answers = [self._problem(reply) if isinstance(reply, Exception) else reply for reply in replies]
        if answers == replies:
            self._answered()
        for question, answer in zip(asked, answers, strict=True):
            question.reply = answer

    async def _send(self, script: Script, keys: list[str], arguments: tuple[str | int, ...]) -> list[Any]:
        if self._connection is None:
            return await script(self._client, keys, *arguments)  # type: ignore[no-any-return]
        (replies,) = await self._connection.run(script, (len(keys), *keys, *arguments))
        return replies  # type: ignore[no-any-return]

    def _problem(self, error: Exception) -> Exception:
        """What to raise for an error of the client; the first of an outage is logged."""
        outage = unavailable("claims", error)
        if outage is not None and not self._unreachable:
            self._unreachable = True
            log.warning("outage_begin", sink="claims", reason=outage.reason)
        return outage or error

    def _answered(self) -> None:
        if self._unreachable:
            self._unreachable = False
            log.warning("outage_end", sink="claims")

    def _reservation(self, message_id: str) -> str:
        return f"{self.prefix}:doing:{member(message_id)}"


def member(message_id: str) -> str:
    """The claim of a message: 96 bits, so that even a billion messages a week do not meet."""
    return urlsafe_b64encode(hashlib.blake2b(as_bytes(message_id), digest_size=12).digest()).decode("ascii")


def _found(reply: Any) -> Found:
    """What the script's reply to one question says."""
    if isinstance(reply, list):
        return Found(State.PROCESSED, *map(as_text, reply))
    return Found(State.BUSY) if isinstance(reply, int) else Found(State.OURS)
