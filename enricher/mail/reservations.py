"""`Idempotency` for a busy worker: the questions of many mails travel together.

One by one they are a good part of what a mail costs. Here whoever asks first asks for all that ask in the
same turn of the loop, or while an answer is awaited, with one script call over a `RawConnection`. There is no
task for it and no timer: among those that wait one has the lead, and hands it on.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from redis.exceptions import ResponseError

from enricher.adapters.redis.raw_connection import RawConnection, pack
from enricher.mail.idempotency import Found, Idempotency, found_of, member
from enricher.texts import as_text

if TYPE_CHECKING:
    from redis.asyncio import Redis

MOST = 200
"""Questions in one call."""

# KEYS: old set, sets of claims, newest first, a reservation per mail. ARGV: number of sets, then per mail its
# claim, token ("" reserves nothing), lease (ms), how many names it has in the old set, and these. Replies per
# mail what `idempotency.BEGIN` replies for one; what is wrong with its reservation is that mail's alone.
BEGIN_MANY = """
local sets = tonumber(ARGV[1])
local mails, claims, names = {}, {}, {}
local at = 2
while at <= #ARGV do
  local mail = {claim = ARGV[at], token = ARGV[at + 1], lease = ARGV[at + 2], first = #names + 1}
  local last = at + 3 + tonumber(ARGV[at + 3])
  for i = at + 4, last do names[#names + 1] = ARGV[i] end
  mail.last = #names
  mails[#mails + 1], claims[#claims + 1] = mail, mail.claim
  at = last + 1
end
local replies = {}
for i = 2, sets + 1 do
  for number, held in ipairs(redis.call('SMISMEMBER', KEYS[i], unpack(claims))) do
    if held == 1 and not replies[number] then replies[number] = {KEYS[i], claims[number]} end
  end
end
local old = redis.pcall('SMISMEMBER', KEYS[1], unpack(names))
if old.err and not string.find(old.err, '^WRONGTYPE') then return old end
for number, mail in ipairs(mails) do
  for i = mail.first, mail.last do
    if not replies[number] and old[i] == 1 then replies[number] = {KEYS[1], names[i]} end
  end
  if not replies[number] then
    local key = KEYS[sets + 1 + number]
    replies[number] = ''
    if mail.token ~= '' and not redis.call('SET', key, mail.token, 'NX', 'PX', mail.lease) then
      local holder = redis.pcall('GET', key)
      if type(holder) == 'table' then replies[number] = holder
      elseif holder ~= mail.token then replies[number] = redis.call('PTTL', key) end
    end
  end
end
return replies
"""
_SHA = hashlib.sha1(BEGIN_MANY.encode(), usedforsecurity=False).hexdigest()


class _Question:
    """What is asked about one mail; ``answer`` is None for one that has the lead now."""

    __slots__ = ("answer", "arguments", "key")

    def __init__(self, key: str, arguments: tuple[str | int, ...]) -> None:
        self.key = key
        self.arguments = arguments
        self.answer: asyncio.Future[Found | None] = asyncio.get_running_loop().create_future()

    @property
    def has_lead(self) -> bool:
        """Whether the answer is that it has the lead; never an error, be that the answer."""
        answer = self.answer
        return (
            answer.done()
            and not answer.cancelled()
            and answer.exception() is None
            and answer.result() is None
        )


class Reservations(Idempotency):
    """Claims and reservations as `Idempotency` has them, its `begin` gathered into few calls.

    ``timeout`` (seconds, None waits for ever) bounds a call. Belongs to one loop; `close` it in the end.
    """

    def __init__(self, client: Redis, *, timeout: float | None, **options: Any) -> None:
        super().__init__(client, **options)
        self._link = RawConnection(client, timeout=timeout)
        self._waiting: list[_Question] = []
        self._led = False

    async def begin(
        self, message_id: str, token: str = "", lease_ms: int = 0, others: Sequence[str] = ()
    ) -> Found:
        """As `Idempotency.begin`."""
        message_id = as_text(message_id)
        names = (message_id, f"<{message_id}>", *others)
        arguments: tuple[str | int, ...] = (member(message_id), token, lease_ms, len(names), *names)
        mine = _Question(self._reservation(message_id), arguments)
        self._waiting.append(mine)
        if self._led:
            try:
                found = await mine.answer
            except asyncio.CancelledError:
                if mine in self._waiting:
                    self._waiting.remove(mine)
                if mine.has_lead:
                    self._hand_on()
                raise
            if found is not None:
                return found
            mine.answer = asyncio.get_running_loop().create_future()
        self._led = True
        try:
            await asyncio.sleep(0)  # whoever is about to ask joins
            while not mine.answer.done():
                await self._ask_for_all()
        finally:
            if mine in self._waiting:
                self._waiting.remove(mine)
            self._hand_on()
        found = mine.answer.result()
        assert found is not None  # noqa: S101  only one that waits is given the lead
        return found

    def _hand_on(self) -> None:
        """Give the lead to one that waits, if any does."""
        self._led = False
        for question in self._waiting:
            if not question.answer.done():
                self._led = True
                question.answer.set_result(None)
                return

    async def _ask_for_all(self) -> None:
        """Answer what waits, in one call. Whoever gives up meanwhile leaves the others' questions open."""
        asked, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
        try:
            replies = await self._ask_together(asked)
        except Exception as error:  # noqa: BLE001  it is everybody's
            answers: list[Any] = [self._wrong(error)] * len(asked)
        except BaseException:
            self._waiting = asked + self._waiting
            raise
        else:
            answers = [self._wrong(reply) if isinstance(reply, Exception) else reply for reply in replies]
            if answers == replies:
                self._answered()
        for question, reply in zip(asked, answers, strict=True):
            if question.answer.done():
                continue
            if isinstance(reply, Exception):
                question.answer.set_exception(reply)
            else:
                question.answer.set_result(found_of(reply))

    async def _ask_together(self, asked: Sequence[_Question]) -> list[Any]:
        sets = self.sets()
        keys = [self.old_set, *sets, *(question.key for question in asked)]
        rest = (len(keys), *keys, len(sets), *(a for question in asked for a in question.arguments))
        (reply,) = await self._link.execute([pack("EVALSHA", _SHA, *rest)])
        if isinstance(reply, ResponseError) and str(reply).startswith("NOSCRIPT"):
            (reply,) = await self._link.execute([pack("EVAL", BEGIN_MANY, *rest)])
        if isinstance(reply, Exception):
            raise reply
        replies: list[Any] = reply
        return replies

    async def close(self) -> None:
        """Close its connection; the client belongs to who made it."""
        await self._link.close()
