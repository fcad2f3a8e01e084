"""What every peer does with a message, so that only the framework differs: the formulas are enricher's own.

A tick is claimed by its id, stored, cached with its rolling windows and published; a quote is stored, cached
and put into the sorted set of volatilities; a chain is stored, cached and published with its numbers. It is
less than enricher does (no bars, no surface, no build-up, no claims of quotes and chains, no order among the
writers of a key): where the two differ, the peers have the easier task.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from enricher.analytics.chain_numbers import chain_numbers
from enricher.clock import MINUTE, render, to_date, to_millis
from enricher.market.bars.rolling_windows import TickWindow, Window, identity_key, order_key
from enricher.market.documents import encode
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING
from enricher.market.serialisation import rounded
from enricher.messages.models import Chain, Quote, Tick, decode_chain, decode_quote, decode_tick

TOPICS: Final = (UNDERLYING, OPTION_QUOTE, OPTION_CHAIN)
WINDOWS: Final = (1, 5, 15)  # minutes
CACHE_TTL: Final = 300  # seconds
CLAIM_TTL: Final = 3600

Command = tuple[str | bytes | int | float, ...]
"""A Redis command with its arguments."""


class Work(msgspec.Struct, frozen=True):
    """A validated message and the document to store; ``claim`` is the key that says it was done (ticks)."""

    event: Tick | Quote | Chain
    collection: str
    document: dict[str, Any]
    body: bytes
    processed_us: int
    claim: str | None = None


def read(topic: str, body: bytes, now_us: int) -> Work:
    """The message decoded, checked and made into a document; `BadMessage` if it is none of ours.

    ``now_us`` is the clock at receipt in microseconds since 1970, UTC.
    """
    processed_us = to_millis(now_us)
    if topic == UNDERLYING:
        tick = decode_tick(body, now_us=now_us)
        fields = {"product": tick.product, "price": tick.price, "tick_id": tick.tick_id}
        claim = f"processed:underlying:{tick.product}:{tick.tick_id}"
        return _work(tick, "underlying_ticks", fields, body, processed_us, claim)
    if topic == OPTION_QUOTE:
        quote = decode_quote(body, now_us=now_us)
        return _work(quote, "option_quotes", quote.raw, body, processed_us)
    chain = decode_chain(body, now_us=now_us)
    return _work(chain, "option_chains", chain_fields(chain), body, processed_us)


def _work(
    event: Tick | Quote | Chain,
    collection: str,
    fields: dict[str, Any],
    body: bytes,
    processed_us: int,
    claim: str | None = None,
) -> Work:
    document = {
        **fields,
        "_id": event.document_id(body),
        "timestamp": to_date(event.event_us),
        "processed_at": to_date(processed_us),
        "event_us": event.event_us,
    }
    return Work(event, collection, document, body, processed_us, claim)


def chain_fields(chain: Chain) -> dict[str, Any]:
    """What is stored and published of a chain, times apart."""
    numbers = chain_numbers(chain)
    return {
        "product": chain.product,
        "expiry": chain.expiry,
        "spot_price": chain.spot_price,
        "pcr_oi": rounded(numbers.pcr_oi, 4),
        "pcr_volume": rounded(numbers.pcr_volume, 4),
        "atm_strike": numbers.atm_strike,
        "atm_straddle_price": rounded(numbers.atm_straddle_price, 2),
        "max_pain_strike": numbers.max_pain_strike,
        "total_call_oi": numbers.total_call_oi,
        "total_put_oi": numbers.total_put_oi,
        "call_buildup_otm": numbers.call_buildup_otm,
        "put_buildup_otm": numbers.put_buildup_otm,
        "calls": chain.calls,
        "puts": chain.puts,
    }


class Windows:
    """The rolling windows of all products, in the memory of one process."""

    def __init__(self) -> None:
        self._ticks: dict[str, TickWindow] = {}

    def fold(self, tick: Tick) -> TickWindow:
        """Take the tick in; the windows of its product."""
        ticks = self._ticks.get(tick.product)
        if ticks is None:
            ticks = self._ticks[tick.product] = TickWindow(max(WINDOWS) * MINUTE)
        ticks.add(tick.event_us, tick.price, order_key(tick.tick_id), identity_key(tick.tick_id, ""))
        return ticks


def show(work: Work, windows: Windows | None) -> list[Command]:
    """The Redis commands that make the stored message visible; without ``windows`` all but these."""
    event = work.event
    if isinstance(event, Tick):
        return _show_tick(event, work, None if windows is None else windows.fold(event))
    if isinstance(event, Quote):
        return _show_quote(event, work)
    return _show_chain(event, work)


def _show_tick(tick: Tick, work: Work, ticks: TickWindow | None) -> list[Command]:
    product, claim = tick.product, work.claim
    assert claim is not None
    latest = {"price": tick.price, "timestamp": tick.timestamp}
    made: list[Command] = [("SET", f"latest:underlying:{product}", encode(latest), "EX", CACHE_TTL)]
    for minutes in WINDOWS if ticks is not None else ():
        window = ticks.window(minutes * MINUTE)
        if window is not None:
            made.append(show_window(product, minutes, window, tick.naive))
    message = {
        "type": "UNDERLYING_ENRICHED",
        "product": product,
        "price": tick.price,
        "timestamp": tick.timestamp,
        "processed_at": render(work.processed_us, tick.naive),
    }
    made.append(("SET", claim, "1", "EX", CLAIM_TTL))
    made.append(("PUBLISH", "enriched:underlying", encode(message)))
    return made


def show_window(product: str, minutes: int, window: Window, naive: bool) -> Command:
    """The Redis command that caches a rolling window; ``naive`` is the style of its times."""
    value = {
        "product": product,
        "window_minutes": minutes,
        "open": window.open,
        "high": window.high,
        "low": window.low,
        "close": window.close,
        "start_time": render(window.start_us, naive),
        "end_time": render(window.end_us, naive),
        "num_ticks": window.count,
    }
    return ("SET", f"ohlc:{product}:{minutes}m", encode(value), "EX", minutes * 60)


def _show_quote(quote: Quote, work: Work) -> list[Command]:
    made: list[Command] = [("SET", f"latest:option:{quote.symbol}", work.body, "EX", CACHE_TTL)]
    if quote.iv is not None:
        member = encode({"strike": quote.strike, "iv": quote.iv, "expiry": quote.expiry})
        made.append(("ZADD", f"iv_surface:{quote.product}", float(quote.strike), member))
    return made


def _show_chain(chain: Chain, work: Work) -> list[Command]:
    document = work.document
    left_out = ("_id", "timestamp", "processed_at", "event_us")
    fields = {name: value for name, value in document.items() if name not in left_out}
    processed_at = render(work.processed_us, chain.naive)
    message = encode({**fields, "timestamp": chain.timestamp, "processed_at": processed_at})
    ratios = {
        "pcr_oi": document["pcr_oi"],
        "pcr_volume": document["pcr_volume"],
        "timestamp": chain.timestamp,
    }
    where = f"{chain.product}:{chain.expiry}"
    return [
        ("SET", f"latest:chain:{where}", message, "EX", CACHE_TTL),
        ("SET", f"latest:pcr:{where}", encode(ratios), "EX", CACHE_TTL),
        ("PUBLISH", "enriched:option_chain", message),
    ]
