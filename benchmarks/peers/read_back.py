"""What a worker without a memory computes from the documents that it reads back: windows and a surface."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from benchmarks.peers.domain import CACHE_TTL, Command
from enricher.clock import MINUTE, render, to_date
from enricher.market.bars.rolling_windows import Window, order_key
from enricher.market.documents import encode

SURFACE_MINUTES: Final = 5

Document = Mapping[str, Any]


def between(product: str, minutes: int, end_us: int) -> dict[str, Any]:
    """The query for a product's documents of the last minutes up to ``end_us``."""
    return {
        "product": product,
        # Dates are whole milliseconds, so the first of them may hold one that is too old.
        "timestamp": {"$gte": to_date(end_us - minutes * MINUTE), "$lte": to_date(end_us)},
    }


def window_of(ticks: Iterable[Document], minutes: int, end_us: int) -> Window | None:
    """Open, high, low, close and count of the ticks in (end_us - minutes, end_us]; None if there are none."""
    since = end_us - minutes * MINUTE
    inside = [tick for tick in ticks if since < tick["event_us"] <= end_us]
    if not inside:
        return None
    inside.sort(key=lambda tick: (tick["event_us"], order_key(tick["tick_id"])))
    prices = [tick["price"] for tick in inside]
    first, last = inside[0], inside[-1]
    return Window(
        open=prices[0],
        high=max(prices),
        low=min(prices),
        close=prices[-1],
        count=len(prices),
        start_us=first["event_us"],
        end_us=last["event_us"],
    )


def show_surface(product: str, quotes: Iterable[Document], end_us: int, naive: bool) -> Command:
    """The Redis command that caches the volatilities by expiry and strike, the newest quote's of each."""
    newest: dict[tuple[str, float], Document] = {}
    for quote in sorted(quotes, key=lambda quote: int(quote["event_us"])):
        if quote.get("iv") is not None:
            newest[quote["expiry"], quote["strike"]] = quote
    by_expiry: dict[str, list[tuple[float, float]]] = {}
    for (expiry, strike), quote in sorted(newest.items()):
        by_expiry.setdefault(expiry, []).append((strike, quote["iv"]))
    expiries = [
        {
            "expiry": expiry,
            "strikes": [strike for strike, _ in nodes],
            "ivs": [iv for _, iv in nodes],
            "avg_iv": sum(iv for _, iv in nodes) / len(nodes),
        }
        for expiry, nodes in by_expiry.items()
    ]
    value = {"product": product, "timestamp": render(end_us, naive), "expiries": expiries}
    return ("SET", f"volatility_surface:{product}", encode(value), "EX", CACHE_TTL)
