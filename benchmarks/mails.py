"""Mails to measure with, and what a consumer group has done with the entries of its stream.

A mail has 2,000 bytes, more or less: the headers that relays leave, encoded words, a conversation, and two
bodies of which one is HTML, both quoted-printable.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from email.message import EmailMessage
from typing import Any

from benchmarks.wire import Wire, pack

STREAM, MAIL_GROUP = "email_ingestion_stream", "email_processor_group"
LOOK_EVERY = 0.002  # seconds between looks at what is acknowledged: as much too late may a latency be

# KEYS: stream. ARGV: group. Replies the last id that was delivered, and the ids that wait for their
# acknowledgement.
_LOOK = """
local last
for _, fields in ipairs(redis.call('XINFO', 'GROUPS', KEYS[1])) do
  local found = {}
  for i = 1, #fields, 2 do found[fields[i]] = fields[i + 1] end
  if found.name == ARGV[1] then last = found['last-delivered-id'] end
end
local waiting = {}
for i, entry in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 100000)) do
  waiting[i] = entry[1]
end
return {last, waiting}
"""

_WORDS = (
    "The figures of this quarter are in the attached table, and those für Köln were corrected on Tuesday. "
    "Please look at the third column: the sums = the old ones, but for the two regions that we moved. "
    "Whoever has read it until Friday is invited to say so, and where something is missing, what it is. "
    "The next ones will come as usual, on the third Monday of the month, with the totals of all regions. "
)


def mails(count: int, first: int = 0) -> list[bytes]:
    """``count`` mails, each with an id of its own from number ``first`` on."""
    model = _model().as_bytes()
    return [model.replace(b"00007777", b"%08d" % number) for number in range(first, first + count)]


def _model() -> EmailMessage:
    mail = EmailMessage()
    route = "with ESMTPS id 4XyZ00007777 for <bob@example.com>; Mon, 16 Feb 2026 10:00:0"
    mail["Return-Path"] = "<ann@example.org>"
    mail["Received"] = f"from mx1.example.org (mx1.example.org [192.0.2.7]) by m.example.com {route}2 +0100"
    mail["Received"] = f"from desk.example.org (unknown [192.0.2.9]) by mx1.example.org {route}1 +0100"
    mail["From"] = "Ann Müller <ann@example.org>"
    mail["To"] = "Bob <bob@example.com>, carol@example.com"
    mail["Subject"] = "Zahlen für das Quartal, number 00007777"
    mail["Date"] = "Mon, 16 Feb 2026 10:00:00 +0100"
    mail["Message-ID"] = "<m.00007777@example.org>"
    mail["In-Reply-To"] = "<first@example.org>"
    mail["References"] = "<first@example.org>"
    mail["X-Mailer"] = "Desk 4.2"
    mail.set_content(_WORDS + "\n\nAnn\n", cte="quoted-printable")
    html = f"<html><body><p>{_WORDS}</p><p>Ann</p></body></html>\n"
    mail.add_alternative(html, subtype="html", cte="quoted-printable")
    mail.set_boundary("=-part-00007777")
    return mail


class Group:
    """Watches the entries of ``stream`` from outside, as consumer group ``name`` has them."""

    def __init__(self, wire: Wire, stream: str = STREAM, name: str = MAIL_GROUP) -> None:
        self._wire = wire
        self._stream = stream
        sha = wire.call("SCRIPT", "LOAD", _LOOK)
        self._look = pack(("EVALSHA", sha, "1", stream, name))

    def append(self, entries: Iterable[dict[str, bytes]], batch: int = 200) -> None:
        """Append entries as fast as they are taken."""
        packed = self.packed(entries)
        for start in range(0, len(packed), batch):
            self._said(packed[start : start + batch])

    def packed(self, entries: Iterable[dict[str, bytes]]) -> list[bytes]:
        """The command that appends each."""
        return [
            pack(("XADD", self._stream, "*", *(part for field in entry.items() for part in field)))
            for entry in entries
        ]

    def finish(self, last: bytes, patience: float = 60.0) -> None:
        """Return when everything up to the id ``last`` is acknowledged; TimeoutError after ``patience`` s."""
        deadline = time.monotonic() + patience
        while self._waiting([last]):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._stream} is not done after {patience:g} s")
            time.sleep(LOOK_EVERY)

    def last(self) -> bytes:
        """The id of the newest entry."""
        newest: bytes = self._wire.call("XREVRANGE", self._stream, "+", "-", "COUNT", "1")[0][0]
        return newest

    def steady(self, entries: Sequence[dict[str, bytes]], rate: float) -> list[int]:
        """Append at ``rate`` a second; microseconds from when each was due until it was acknowledged."""
        packed, found = self.packed(entries), list[int]()
        start = time.time_ns() // 1000 + 50_000
        due = [start + round(number * 1e6 / rate) for number in range(len(packed))]
        under_way: dict[bytes, int] = {}
        at, deadline = 0, time.monotonic() + len(packed) / rate + 60
        while at < len(packed) or under_way:
            now = time.time_ns() // 1000
            end = at
            while end < len(packed) and due[end] <= now:
                end += 1
            *ids, (last, waiting) = self._said([*packed[at:end], self._look])
            under_way.update(zip(ids, due[at:end], strict=True))
            at, now = end, time.time_ns() // 1000
            for id_ in done(under_way, last, waiting):
                found.append(now - under_way.pop(id_))
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(under_way)} entries of {self._stream} were never acknowledged")
            time.sleep(LOOK_EVERY)
        return found

    def _waiting(self, ids: Sequence[bytes]) -> bool:
        last, waiting = self._said([self._look])[0]
        return bool(waiting) or len(done(ids, last, waiting)) < len(ids)

    def _said(self, packed: Sequence[bytes]) -> list[Any]:
        self._wire.send(b"".join(packed))
        replies: list[Any] = []
        while len(replies) < len(packed):
            replies += self._wire.replies(wait=True)
        return replies


def done(ids: Iterable[bytes], last: bytes, waiting: Sequence[bytes]) -> list[bytes]:
    """Those of ``ids`` that were delivered and wait for no acknowledgement."""
    still, newest = set(waiting), _number(last)
    return [id_ for id_ in ids if id_ not in still and _number(id_) <= newest]


def _number(id_: bytes) -> tuple[int, int]:
    ms, _, number = id_.partition(b"-")
    return int(ms), int(number)


async def nothing(_mail: Any) -> None:
    """A hook that costs nothing itself: what is left is what a hook costs."""
