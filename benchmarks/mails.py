"""Mails to measure with, and what a consumer group has done with the entries of its stream.

A mail has 2,000 bytes, more or less: the headers that relays leave, encoded words, a conversation, and two
bodies of which one is HTML, both quoted-printable.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from email.message import EmailMessage
from typing import Any

from benchmarks.measure import schedule
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


def packed(raws: Iterable[bytes]) -> list[bytes]:
    """The command that appends each mail."""
    return [pack(("XADD", STREAM, "*", "raw", raw)) for raw in raws]


def steady(wire: Wire, commands: Sequence[bytes], rate: float) -> list[int]:
    """Append at ``rate`` a second; microseconds from when each was due until it was acknowledged."""
    look = pack(("EVAL", _LOOK, "1", STREAM, MAIL_GROUP))
    due = schedule(rate, len(commands), time.time_ns() // 1000 + 50_000)
    took, under_way = list[int](), dict[bytes, int]()
    at, deadline = 0, time.monotonic() + len(commands) / rate + 60
    while at < len(commands) or under_way:
        now, end = time.time_ns() // 1000, at
        while end < len(commands) and due[end] <= now:
            end += 1
        *ids, (last, waiting) = _replies(wire, [*commands[at:end], look])
        under_way.update(zip(ids, due[at:end], strict=True))
        at, now = end, time.time_ns() // 1000
        took += [now - under_way.pop(id_) for id_ in done(list(under_way), last, waiting)]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(under_way)} entries of {STREAM} were never acknowledged")
        time.sleep(LOOK_EVERY)
    return took


def _replies(wire: Wire, commands: Sequence[bytes]) -> list[Any]:
    wire.send(b"".join(commands))
    replies: list[Any] = []
    while len(replies) < len(commands):
        replies += wire.replies(wait=True)
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
