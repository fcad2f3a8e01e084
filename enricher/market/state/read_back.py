"""How a stored document becomes an event again, also one that an old worker left."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, TypeVar

import msgspec

from enricher.analytics.position_buildup import Snapshot, snapshot
from enricher.analytics.sub_bars import BarKey, Content
from enricher.clock import to_date
from enricher.errors import BadMessage
from enricher.log import log
from enricher.market.bars.rolling_windows import identity_key, order_key
from enricher.market.documents import micros
from enricher.market.folds.fold import TickChange
from enricher.market.zeros import with_nulls
from enricher.messages import schema as wire
from enricher.messages.leg_checks import side
from enricher.messages.models import Chain, Quote

Document = Mapping[str, Any]
R = TypeVar("R")


def read(reading: Callable[[Document], R], document: Document) -> R | None:
    """What ``reading`` makes of a stored document; None, and a line in the log, when it makes no sense."""
    try:
        return reading(document)
    except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
        log.warning("unreadable_document", id=str(document.get("_id")), error=repr(error))
        return None


def digest_of(document: Document) -> str:
    """The digest of the message, as its document's ``_id`` ends with it."""
    return str(document["_id"]).rpartition("#")[2]


def event_time(document: Document) -> int:
    """The event time (microseconds) of a stored message; an old worker's has only its date."""
    return int(document["event_us"]) if "event_us" in document else micros(document["timestamp"])


def bar_of(document: Document) -> tuple[BarKey, tuple[int, Content]]:
    """A stored bar: which one, its revision and its numbers."""
    first, high, low, last = (float(document[name]) for name in ("open", "high", "low", "close"))
    amounts = document["num_ticks"], document.get("volume"), document.get("vwap")
    content = Content(first, high, low, last, *amounts)
    key = (int(document["window_minutes"]), micros(document["start"]))
    return key, (int(document["revision"]), content)


def tick_of(document: Document) -> TickChange:
    """The tick that was stored, to fold it again."""
    tick_id, volume = with_nulls(document).get("tick_id"), document.get("volume")
    event_us, processed_at = event_time(document), document.get("processed_at", document["timestamp"])
    return TickChange(
        event_us,
        float(document["price"]),
        order_key(tick_id),
        volume if isinstance(volume, (int, float)) else None,
        identity_key(tick_id, digest_of(document)),
        micros(processed_at) if isinstance(processed_at, datetime) and processed_at.tzinfo else event_us,
        bool(document.get("naive")),
    )


def quote_of(document: Document) -> Quote | None:
    """The quote that was stored; None for a document that is none or that moved nothing."""
    if document.get("folded") is False:
        return None
    raw = {**with_nulls(document), "timestamp": ""}
    try:
        sent = wire.read(raw, wire.QuoteWire)
    except BadMessage:
        return None
    fields = msgspec.structs.asdict(sent)
    event_us = event_time(document)
    fields |= {"raw": {}, "event_us": event_us, "moment": to_date(event_us), "naive": False, "ahead_us": 0}
    return Quote(**fields)


def chain_of(document: Document) -> tuple[Chain, Snapshot] | None:
    """The chain that was stored, and what build-up needs of it; None as in `quote_of`."""
    if document.get("folded") is False:
        return None
    document = with_nulls(document)
    raw: dict[str, Any] = {
        "strikes": [],
        **{k: document[k] for k in ("product", "expiry", "spot_price", "calls", "puts") if k in document},
        "timestamp": "",
    }
    flags: dict[str, str] = {}
    try:
        sent = wire.read_chain(raw, flags)
        calls, call_at = side(raw["calls"], sent.calls, "calls", "CALL", flags)
        puts, put_at = side(raw["puts"], sent.puts, "puts", "PUT", flags)
    except (BadMessage, KeyError):
        return None
    event_us = event_time(document)
    chain = Chain(
        product=sent.product,
        expiry=sent.expiry,
        spot_price=sent.spot_price,
        strikes=tuple(sorted(call_at.keys() | put_at.keys() | set(sent.strikes or ()))),
        calls=calls,
        puts=puts,
        call_at=call_at,
        put_at=put_at,
        flags=flags,
        timestamp="",
        event_us=event_us,
        moment=to_date(event_us),
        naive=False,
        ahead_us=0,
    )
    return chain, snapshot(chain, str(document.get("_id", "")))
