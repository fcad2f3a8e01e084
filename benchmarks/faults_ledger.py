"""What was sent, and where it was found: the accounts of the fault matrix, as plain data.

Every message has an event time (microseconds since 1970) of its own, by which it is known everywhere: in the
intake's entries, in the documents, on the channels. None of it is what a worker says about itself.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING

STREAM, BRIDGE = "stream", "bridge"
COLLECTIONS = {
    UNDERLYING: "underlying_ticks",
    OPTION_QUOTE: "option_quotes",
    OPTION_CHAIN: "option_chains",
}
ENRICHED = {UNDERLYING: "enriched:underlying", OPTION_CHAIN: "enriched:option_chain"}
LATE_S = 1.0

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_US = timedelta(microseconds=1)

Document = Mapping[str, Any]


class Sent(msgspec.Struct, frozen=True):
    """One message: when it was first sent, which also is its event time, and by which intake."""

    us: int
    intake: str
    channel: str
    message: dict[str, Any]
    body: bytes


class Heard(msgspec.Struct, frozen=True):
    """One publication: when (microseconds since 1970) and what."""

    at_us: int
    message: Document


class Found(msgspec.Struct):
    """All that was found, by event time. ``appended`` are those that the intake's stream has had.

    ``published`` is what a subscriber heard, or what the commit script recorded where that is more.
    ``windows`` is what the caches say, by product: the 15-minute window and the latest price. ``dead`` is
    the number of dead letters.
    """

    appended: set[int] = msgspec.field(default_factory=set)
    documents: dict[int, list[Document]] = msgspec.field(default_factory=dict)
    published: dict[int, list[Heard]] = msgspec.field(default_factory=dict)
    windows: dict[str, tuple[Document | None, Document | None]] = msgspec.field(default_factory=dict)
    dead: int = 0


class Promise(msgspec.Struct, frozen=True):
    """What must hold in a scenario. Nothing wrong, in any of them.

    ``complete``: nothing that was appended is lost; ``once``: nothing is stored or published twice;
    ``intake``: nothing is lost before the append either, by this many of the two intakes' names;
    ``windows``: the caches are those of one worker that has seen all.
    """

    complete: bool = True
    once: bool = True
    intake: tuple[str, ...] = (STREAM,)
    windows: bool = True


def moment_us(text: str) -> int:
    """ISO 8601 with an offset, in microseconds since 1970."""
    return (datetime.fromisoformat(text) - _EPOCH) // _US


def body_us(body: bytes) -> int:
    """The event time of a message as it was sent or published."""
    return moment_us(json.loads(body)["timestamp"])


def row(
    sent: Iterable[Sent], found: Found, ends_us: Sequence[int], promise: Promise, intake: str
) -> dict[str, Any]:
    """The accounts of one intake in one scenario, whose faults ended at ``ends_us``.

    ``published`` counts publications (a quote has none), ``duplicated`` documents and publications beyond
    the first of a message, ``late`` what was heard more than a second after it was sent, ``recovery_s`` the
    longest time from the end of a fault until something sent after it was heard. ``broken`` names what does
    not hold of the promise.
    """
    mine = {one.us: one for one in sent if one.intake == intake}
    appended = mine.keys() & (found.appended | found.documents.keys())
    heard = {us: found.published[us] for us in mine.keys() & found.published.keys()}
    stored = {us: found.documents[us] for us in mine.keys() & found.documents.keys()}
    told = {us for us in appended if mine[us].channel in ENRICHED}
    lost = (appended - stored.keys()) | (told - heard.keys())
    wrong = [us for us, documents in stored.items() if not all(is_right(mine[us], d) for d in documents)]
    wrong += [us for us, all_heard in heard.items() if not all(says(mine[us], h.message) for h in all_heard)]
    made = {
        "intake": intake,
        "sent": len(mine),
        "appended": len(appended),
        "stored": sum(map(len, stored.values())),
        "published": sum(map(len, heard.values())),
        "lost_before": len(mine.keys() - appended),
        "lost_after": len(lost),
        "duplicated": extra(stored.values()) + extra(heard.values()),
        "wrong": len(wrong) + len(wrong_windows(mine, stored.keys(), found, promise)),
        "late": sum(min(h.at_us for h in heard[us]) - us > LATE_S * 1e6 for us in heard),
        "recovery_s": recovery(heard, ends_us),
    }
    return made | {"broken": broken(made, promise)}


def broken(made: Mapping[str, Any], promise: Promise) -> str:
    """What of the promise does not hold, in words; empty if all of it does."""
    found = []
    if promise.complete and made["lost_after"]:
        found.append(f"{made['lost_after']} lost")
    if promise.once and made["duplicated"]:
        found.append(f"{made['duplicated']} duplicated")
    if made["intake"] in promise.intake and made["lost_before"]:
        found.append(f"{made['lost_before']} lost before the append")
    if made["wrong"]:
        found.append(f"{made['wrong']} wrong")
    if not made["stored"]:
        found.append("nothing stored")
    return ", ".join(found)


def extra(found: Iterable[Collection[Any]]) -> int:
    """How many there are beyond the first of each."""
    return sum(len(those) - 1 for those in found)


def recovery(heard: Mapping[int, Sequence[Heard]], ends_us: Sequence[int]) -> float | None:
    """The longest time from the end of a fault until something sent after it was heard, in seconds.

    None if after one of them nothing was: it did not recover, or nothing was sent any more.
    """
    longest = 0.0
    for end in ends_us:
        after = [min(h.at_us for h in all_heard) for us, all_heard in heard.items() if us >= end]
        if not after:
            return None
        longest = max(longest, (min(after) - end) / 1e6)
    return round(longest, 2) if ends_us else None


def is_right(sent: Sent, document: Document) -> bool:
    """Whether a document says all that was sent, every leg of a chain included."""
    return document["event_us"] == sent.us and all(
        _same(value, document.get(name))
        for name, value in sent.message.items()
        if name not in _NOT_COMPARED
    )


def says(sent: Sent, message: Document) -> bool:
    """Whether a publication says what was sent."""
    names = ("product", "timestamp", "price" if sent.channel == UNDERLYING else "spot_price")
    return all(message.get(name) == sent.message[name] for name in names)


def wrong_windows(
    sent: Mapping[int, Sent], stored: Collection[int], found: Found, promise: Promise
) -> list[str]:
    """Products whose caches are not what their stored ticks make, all within the last 15 minutes."""
    if not promise.windows:
        return []
    ticks: dict[str, list[Document]] = {}
    for us in sorted(stored):
        if sent[us].channel == UNDERLYING:
            ticks.setdefault(sent[us].message["product"], []).append(sent[us].message)
    return [
        product for product, those in ticks.items() if not _caches_agree(those, found.windows.get(product))
    ]


def _caches_agree(
    ticks: Sequence[Document], cached: tuple[Document | None, Document | None] | None
) -> bool:
    if cached is None or cached[0] is None or cached[1] is None:
        return False
    window, latest = cached
    prices = [tick["price"] for tick in ticks]
    wanted = {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "num_ticks": len(ticks),
        "start_time": ticks[0]["timestamp"],
        "end_time": ticks[-1]["timestamp"],
    }
    newest = {"price": prices[-1], "timestamp": ticks[-1]["timestamp"]}
    return all(window.get(name) == value for name, value in wanted.items()) and all(
        latest.get(name) == value for name, value in newest.items()
    )


# A date, or not stored: what is compared instead is the event time.
_NOT_COMPARED = frozenset(("type", "timestamp", "strikes"))


def _same(sent: Any, stored: Any) -> bool:
    if isinstance(sent, list):
        return isinstance(stored, list) and len(sent) == len(stored) and all(map(_same, sent, stored))
    if isinstance(sent, dict):
        return isinstance(stored, Mapping) and all(
            _same(value, stored.get(name)) for name, value in sent.items() if name not in _NOT_COMPARED
        )
    return bool(sent == stored)
