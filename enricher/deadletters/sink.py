"""The sink of dead letters: a Redis list, newest first, one entry per delivery."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog
from redis.asyncio import Redis

from enricher.deadletters.record import encode
from enricher.engine.effects import DEAD_LETTERS, Answer, DeadLetter, Write
from enricher.errors import SinkUnavailable

log = structlog.get_logger("enricher")

# KEYS: list, guard. ARGV: entry, guard's lifetime (s), longest list. Replies how many entries fell off.
PUSH = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local length = redis.call('LPUSH', KEYS[1], ARGV[1])
redis.call('SET', KEYS[2], '1', 'EX', ARGV[2])
local over = length - tonumber(ARGV[3])
if over > 0 then redis.call('LTRIM', KEYS[1], 0, tonumber(ARGV[3]) - 1) return over end
return 0
"""


class RedisDeadLetters:
    """Lands `DeadLetter`. A letter's guard key (its task_id) makes repeating harmless.

    The list holds ``max_length`` entries; the oldest fall off and are counted in ``evicted``. There is no
    place for a dead letter that cannot be stored, so every failure is an outage: it is logged and repeated.
    """

    name = DEAD_LETTERS
    durable = False

    def __init__(
        self,
        client: Redis,
        key: str,
        *,
        max_length: int = 100_000,
        guard_ttl: int = 86_400,
        on_evicted: Callable[[int], None] | None = None,
        server: str = "",
    ) -> None:
        self.server = server
        self._client = client
        self._key = key
        self._max_length = max_length
        self._guard_ttl = guard_ttl
        self._on_evicted = on_evicted
        self._push = client.register_script(PUSH)
        self.evicted = 0

    async def open(self) -> None:
        """Nothing to prepare."""

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Store the letters, in order."""
        for write in writes:
            for effect in write.effects:
                if isinstance(effect, DeadLetter):
                    await self._store(effect)
        return {}

    async def _store(self, letter: DeadLetter) -> None:
        guard = f"{self._key}:seen:{letter.task_id}"
        entry = encode(letter)
        try:
            over = await self._push(
                keys=[self._key, guard], args=[entry, self._guard_ttl, self._max_length]
            )
        except Exception as error:
            raise SinkUnavailable(self.name, f"{type(error).__name__}: {error}") from error
        if over:
            self.evicted += int(over)
            if self._on_evicted is not None:
                self._on_evicted(int(over))
            log.warning("dead_letters_evicted", key=self._key, evicted=int(over))
        log.warning(
            "dead_letter",
            task_id=letter.task_id,
            task_name=letter.task_name,
            topic=letter.topic,
            stage=letter.stage,
            path=letter.path,
            error=letter.error[:500],
        )

    async def close(self) -> None:
        """Nothing: the client belongs to who made it."""
