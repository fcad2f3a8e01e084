"""How a stored document becomes an event again, also one that an old worker left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from enricher.analytics.position_buildup import Snapshot, snapshot
from enricher.analytics.sub_bars import Content
from enricher.clock import to_date
from enricher.errors import BadMessage
from enricher.market.documents import micros
from enricher.market.zeros import with_nulls
from enricher.messages import schema as wire
from enricher.messages.leg_checks import side
from enricher.messages.models import Chain, Quote


def event_time(document: Mapping[str, Any]) -> int:
    """The event time (microseconds) of a stored message; an old worker's has only its date."""
    return int(document["event_us"]) if "event_us" in document else micros(document["timestamp"])


def bar_content(document: Mapping[str, Any]) -> Content:
    """The numbers of a stored bar."""
    return Content(
        float(document["open"]),
        float(document["high"]),
        float(document["low"]),
        float(document["close"]),
        document["num_ticks"],
        document.get("volume"),
        document.get("vwap"),
    )


def quote_of(document: Mapping[str, Any]) -> Quote | None:
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


def chain_of(document: Mapping[str, Any]) -> tuple[Chain, Snapshot] | None:
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
