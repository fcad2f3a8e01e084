"""Which mails were processed: claims in Redis sets that expire whole.

A claim is a digest of 16 characters in the set of its time slice, ``{prefix}:{slice}``; a slice is an eighth
of the lifetime, and its set expires one lifetime after its last claim. So a claim lives for one lifetime at
least and nine eighths of it at most, nine sets are looked into, and the next one, where the clock of somebody
else may be already; memory is bounded by what came in that time: about 60 bytes a mail. The set
``processed_messages:set``, which never expires, is honoured too.

With a handler of one's own a mail must not only be claimed once but be handled by one at a time:
`begin` reserves it for whoever asks first, until the claim is made, `release` gives it up, or the lease ends.
"""

from __future__ import annotations

import hashlib
from base64 import urlsafe_b64encode
from collections.abc import Callable, Sequence
from enum import Enum
from time import time
from typing import TYPE_CHECKING, Any

import msgspec

from enricher.adapters.redis.client import unavailable
from enricher.log import log
from enricher.texts import as_bytes, as_text

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.commands.core import AsyncScript

PREFIX = "processed:mail"
OLD_SET = "processed_messages:set"
WEEK = 7 * 24 * 3600
SLICES = 8

# KEYS: reservation, old set, sets of claims, newest first. ARGV: claim, token ("" reserves nothing), lease
# (ms), names in the old set. Replies the key in which the claim was found and the member there; "" if it is
# the caller's now; the time (ms) for which somebody else has it.
BEGIN = """
for i = 3, #KEYS do
  if redis.call('SISMEMBER', KEYS[i], ARGV[1]) == 1 then return {KEYS[i], ARGV[1]} end
end
for i = 4, #ARGV do
  local held = redis.pcall('SISMEMBER', KEYS[2], ARGV[i])
  if held == 1 then return {KEYS[2], ARGV[i]} end
  if type(held) == 'table' and not string.find(held.err, '^WRONGTYPE') then return held end
end
if ARGV[2] == '' or redis.call('SET', KEYS[1], ARGV[2], 'NX', 'PX', ARGV[3]) then return '' end
if redis.call('GET', KEYS[1]) == ARGV[2] then return '' end
return redis.call('PTTL', KEYS[1])
"""

RENEW = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('PEXPIRE', KEYS[1], ARGV[2]) or 0"
RELEASE = "return redis.call('GET', KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0"

# KEYS: set. ARGV: claim, lifetime (s). Replies 1 if it is new.
MARK = """
local new = redis.call('SADD', KEYS[1], ARGV[1])
if new == 1 then redis.call('EXPIRE', KEYS[1], ARGV[2]) end
return new
"""

COUNT = """
local all = 0
for _, key in ipairs(KEYS) do all = all + redis.call('SCARD', key) end
return all
"""


class State(Enum):
    """What `Idempotency.begin` found."""

    OURS = "ours"
    PROCESSED = "processed"
    BUSY = "busy"


class Found(msgspec.Struct, frozen=True):
    """``key`` and ``member`` say where the claim of a processed mail is."""

    state: State
    key: str = ""
    member: str = ""


class Idempotency:
    """Claims of processed mails, in the Redis of ``client`` (asyncio); ``ttl`` is their lifetime in seconds.

        seen = Idempotency(client)
        if not await seen.is_duplicate(message_id):
            ...
            await seen.mark_processed(message_id)

    ``clock`` gives seconds since 1970. While Redis is away every question raises `SinkUnavailable`; other
    errors of the client are passed on.
    """

    def __init__(
        self,
        client: Redis,
        *,
        ttl: int = WEEK,
        prefix: str = PREFIX,
        old_set: str = OLD_SET,
        clock: Callable[[], float] = time,
    ) -> None:
        if ttl < 1:
            raise ValueError(f"ttl is {ttl}: expected a lifetime of at least 1 s")
        self.ttl = ttl
        self.prefix = prefix
        self.old_set = old_set
        self._client = client
        self._clock = clock
        self._away = False
        self._begin = client.register_script(BEGIN)
        self._mark = client.register_script(MARK)
        self._renew = client.register_script(RENEW)
        self._release = client.register_script(RELEASE)
        self._count = client.register_script(COUNT)

    def claim(self, message_id: str) -> tuple[str, str]:
        """Key and member of the claim that a commit makes for a mail now."""
        return self.sets()[0], member(message_id)

    def sets(self) -> list[str]:
        """The keys in which claims may be now, newest first; last that of whoever's clock is ahead."""
        length = slice_length(self.ttl)
        newest = int(self._clock()) // length
        numbers = (*range(newest, newest - SLICES - 1, -1), newest + 1)
        return [f"{self.prefix}:{number * length}" for number in numbers]

    async def is_duplicate(self, message_id: str) -> bool:
        """Whether the mail was processed within the lifetime, or by an old worker."""
        return (await self.begin(message_id)).state is State.PROCESSED

    async def begin(
        self, message_id: str, token: str = "", lease_ms: int = 0, others: Sequence[str] = ()
    ) -> Found:
        """Look a mail up and, with a ``token`` (unique to this attempt), reserve it for ``lease_ms``.

        ``others`` are further names that the mail may have in the old set.
        """
        message_id = as_text(message_id)
        names = [message_id, f"<{message_id}>", *others]
        keys = [self._reservation(message_id), self.old_set, *self.sets()]
        return found_of(await self._ask(self._begin, keys, [member(message_id), token, lease_ms, *names]))

    async def mark_processed(self, message_id: str) -> bool:
        """Claim the mail; False if it was claimed in this slice already."""
        key, claim = self.claim(message_id)
        return bool(await self._ask(self._mark, [key], [claim, self.ttl]))

    async def renew(self, message_id: str, token: str, lease_ms: int) -> bool:
        """Keep a reservation; False if it is no longer ours."""
        return bool(await self._ask(self._renew, [self._reservation(message_id)], [token, lease_ms]))

    async def release(self, message_id: str, token: str) -> None:
        """Give a reservation up, so that the next attempt may begin at once."""
        await self._ask(self._release, [self._reservation(message_id)], [token])

    async def count(self) -> int:
        """How many claims there are (those of the old set are not among them)."""
        return int(await self._ask(self._count, self.sets(), []))

    async def count_old(self) -> int:
        """How many ids the old worker's set holds."""
        return int(await self._ask(self._count, [self.old_set], []))

    async def _ask(self, script: AsyncScript, keys: list[str], arguments: list[Any]) -> Any:
        try:
            reply = await script(keys=keys, args=arguments)
        except Exception as error:
            raise self._wrong(error) from error
        self._answered()
        return reply

    def _wrong(self, error: Exception) -> Exception:
        """What to raise for an error of the client; the first of an outage is logged."""
        found = unavailable("claims", error)
        if found is not None and not self._away:
            self._away = True
            log.warning("outage_begin", sink="claims", reason=found.reason)
        return found or error

    def _answered(self) -> None:
        if self._away:
            self._away = False
            log.warning("outage_end", sink="claims")

    def _reservation(self, message_id: str) -> str:
        return f"{self.prefix}:doing:{member(message_id)}"


def member(message_id: str) -> str:
    """The claim of a mail: 96 bits, so that even a billion mails a week do not meet."""
    return urlsafe_b64encode(hashlib.blake2b(as_bytes(message_id), digest_size=12).digest()).decode("ascii")


def slice_length(ttl: int) -> int:
    """Seconds of a time slice: an eighth of the lifetime, rounded up."""
    return -(-ttl // SLICES)


def found_of(reply: Any) -> Found:
    """What the script's reply says."""
    if isinstance(reply, list):
        return Found(State.PROCESSED, *(_text(part) for part in reply))
    return Found(State.BUSY) if isinstance(reply, int) else Found(State.OURS)


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
