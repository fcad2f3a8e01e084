"""What the market routes store.

Documents carry the contract's fields, `event_us` (the exact event time: a BSON date is cut to
milliseconds) and `folded: false` where the message moved no window, so that rebuilding leaves it out too.
A tick whose time was sent without an offset says `naive: true`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import msgspec
import orjson

from enricher.analytics.chain_numbers import ChainNumbers
from enricher.analytics.oi_walls import Wall
from enricher.analytics.position_buildup import Buildup
from enricher.analytics.sub_bars import Content
from enricher.clock import SECOND, to_date
from enricher.errors import BadMessage
from enricher.market.bars.bars import Bar
from enricher.market.reasons import BEYOND
from enricher.market.serialisation import rounded
from enricher.market.zeros import ZEROED
from enricher.messages.models import Chain, Quote, Tick
from enricher.storable import misfit

TICKS = "underlying_ticks"
QUOTES = "option_quotes"
CHAINS = "option_chains"
BARS = "ohlc_bars"
STATE = "enricher_state"
HISTORY = "market_history"
SURFACES = "volatility_surfaces"

_TICK_EXTRAS = ("volume", "open", "high", "low", "close", "change")
_STARTED = to_date(0)
_NO_VOLUME = "no tick has a known volume"


def storable(body: bytes, sent: object) -> bool:
    """Whether MongoDB will take what was sent: whole numbers of 64 bits. `BadMessage` for a NUL in a name.

    It is asked before a message is folded, because what is refused must move nothing, not even for the
    moment until the state is loaded anew. Only a body with a digit run of that length is looked into.
    """
    zeros = body.translate(_DIGITS_TO_ZERO)
    escaped = b"\\u0000" in body
    if escaped:
        _check_names(sent, "$")
    return _HUGE not in zeros or misfit(sent) is None


_HUGE = b"0" * 19
_DIGITS_TO_ZERO = bytes(ord("0") if chr(byte).isdecimal() and byte < 128 else byte for byte in range(256))


def _check_names(value: object, path: str) -> None:
    if isinstance(value, Mapping):
        for name, held in value.items():
            if "\0" in name:
                shown = name.replace("\0", "\\u0000")
                raise BadMessage(f"{path}.{shown}", "a name without NUL")
            _check_names(held, f"{path}.{name}")
    elif isinstance(value, (list, tuple)):
        for index, held in enumerate(value):
            _check_names(held, f"{path}[{index}]")


def micros(moment: datetime) -> int:
    """An aware date in microseconds since 1970, UTC."""
    delta = moment - _STARTED
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


def tick_document(tick: Tick, identity: str, processed_us: int, folded: bool) -> dict[str, Any]:
    volume, first, high, low, close, change = (
        tick.volume, tick.open, tick.high, tick.low, tick.close, tick.change
    )  # fmt: skip
    document: dict[str, Any] = {
        "_id": identity,
        "product": tick.product,
        "price": tick.price,
        "timestamp": tick.moment,
        "tick_id": tick.tick_id,
        "processed_at": to_date(processed_us),
        "event_us": tick.event_us,
        "volume": volume,
        "open": first,
        "high": high,
        "low": low,
        "close": close,
        "change": change,
    }
    # One by one, for `in` compares each with None at length.
    if (
        volume is None or first is None or high is None or low is None or close is None or change is None
    ):  # fmt: skip
        for name in _TICK_EXTRAS:
            if document[name] is None:
                del document[name]
    if tick.naive:
        document["naive"] = True
    if not folded:
        document["folded"] = False
    return document


def quote_document(quote: Quote, identity: str, processed_us: int) -> dict[str, Any]:
    """The document of a quote: every field as sent, unknown ones too, but for our own names."""
    document = quote.raw.copy()
    document["_id"] = identity
    document["timestamp"] = quote.moment
    document["processed_at"] = to_date(processed_us)
    document["event_us"] = quote.event_us
    if quote.future:
        document["folded"] = False
    elif "folded" in document:
        del document["folded"]  # which would say of it that it moved nothing
    if ZEROED in document:
        # It would say of the quote's numbers that nobody knows them. (`pop` would be a call for every quote.)
        del document[ZEROED]
    return document


def to_cents(price: float) -> float:
    return round(price, 2)


def chain_fields(
    chain: Chain,
    numbers: ChainNumbers,
    change: Buildup | None,
    no_change: str,
    shown: Callable[[float], float] = to_cents,
) -> dict[str, Any]:
    """What is stored and published of a chain, times apart. ``no_change`` says why there is no build-up.

    ``shown`` rounds the straddle as its contract's prices are. By last prices its readers rely on 2 decimals:
    what that takes away is in a flag.
    """
    flags = dict(numbers.flags)
    if change is None:
        flags["buildup"] = no_change
    straddle, straddle_mid = numbers.atm_straddle_price, numbers.atm_straddle_mid
    if straddle is not None:
        whole, straddle = shown(straddle), to_cents(straddle)
        if straddle != whole:
            flags["atm_straddle_price"] = f"{whole} before it is rounded to 2 decimals"
    return {
        "product": chain.product,
        "expiry": chain.expiry,
        "spot_price": chain.spot_price,
        "pcr_oi": rounded(numbers.pcr_oi, 4),
        "pcr_volume": rounded(numbers.pcr_volume, 4),
        "pcr_oi_change": rounded(numbers.pcr_oi_change, 4),
        "atm_strike": numbers.atm_strike,
        "atm_straddle_price": straddle,
        "atm_straddle_mid": None if straddle_mid is None else shown(straddle_mid),
        "max_pain_strike": numbers.max_pain_strike,
        "max_pain_value": numbers.max_pain_value,
        "max_pain_distance_pct": rounded(numbers.max_pain_distance_pct, 2),
        "total_call_oi": numbers.total_call_oi,
        "total_put_oi": numbers.total_put_oi,
        "total_call_volume": numbers.total_call_volume,
        "total_put_volume": numbers.total_put_volume,
        "call_buildup_otm": numbers.call_buildup_otm,
        "put_buildup_otm": numbers.put_buildup_otm,
        "resistance": wall_fields(numbers.resistance),
        "support": wall_fields(numbers.support),
        "resistance_by_change": wall_fields(numbers.resistance_by_change),
        "support_by_change": wall_fields(numbers.support_by_change),
        "buildup": None if change is None else buildup_fields(chain, change),
        "strikes": list(chain.strikes),
        "calls": chain.calls,
        "puts": chain.puts,
        "flags": flags,
    }


def wall_fields(walls: tuple[Wall, ...]) -> list[dict[str, Any]]:
    return [{"strike": w.strike, "amount": w.amount, "share": rounded(w.share, 4)} for w in walls]


def buildup_fields(chain: Chain, change: Buildup) -> dict[str, Any]:
    """A build-up as plain data, strike by strike."""
    strikes = [{"strike": k, "call": change.calls.get(k), "put": change.puts.get(k)} for k in chain.strikes]
    return {
        "since_us": change.since_us,
        "call_oi_change": change.call_oi_change,
        "put_oi_change": change.put_oi_change,
        "strikes": strikes,
    }


def bar_document(product: str, bar: Bar) -> dict[str, Any]:
    """The document of a closed bar; its ``_id`` makes writing it twice harmless.

    ``flags`` say why its volume or the price by volume is null.
    """
    content = bar.content
    document = {
        "_id": f"{bar.start_us}:{bar.minutes}:{product}",
        "product": product,
        "window_minutes": bar.minutes,
        "start": to_date(bar.start_us),
        "end": to_date(bar.end_us),
        "open": content.open,
        "high": content.high,
        "low": content.low,
        "close": content.close,
        "num_ticks": content.num_ticks,
        "volume": content.volume,
        "vwap": content.vwap,
        "revision": bar.revision,
        "final": bar.final,
    }
    if content.vwap is None:
        document["flags"] = _unknown_of_bar(content)
    return document


def _unknown_of_bar(content: Content) -> dict[str, str]:
    if content.volume is None:
        return {"volume": _NO_VOLUME, "vwap": _NO_VOLUME}
    if not content.volume:
        return {"vwap": "nothing was traded"}
    return {"vwap": BEYOND}


encode: Callable[[Any], bytes] = msgspec.json.Encoder().encode
"""Something small as JSON in UTF-8. Integers beyond 64 bits are written out too; NaN becomes null."""


def encode_large(value: Any) -> bytes:
    """The same for something of kilobytes.

    orjson is twice as fast there, but leaves 4 KiB of memory behind every result however small, which costs
    more than the encoding when many are kept until they are committed.
    """
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return encode(value)
