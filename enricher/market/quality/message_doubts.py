"""What is doubtful in a tick or a quote, asked only where something is: see `enricher.messages.doubts`."""

from __future__ import annotations

from typing import Final

from enricher.clock import SECOND
from enricher.messages import doubts
from enricher.messages.models import Number, Quote, Tick
from enricher.messages.schema import MOST_IV

_FAR: Final = 3.0
_ABOUT: Final = 1.1
_DAY: Final = ("open", "high", "low", "close")
_QUOTED: Final = ("bid", "ask", "last", "volume", "open_interest")


def tick_doubts(
    tick: Tick, before: float | None, newest_us: int | None, within: float
) -> tuple[dict[str, str], bool]:
    """{field: reason} of a tick, and whether its price is one.

    ``before`` and ``newest_us`` are price and time of the newest tick that has one. For ``within`` seconds a
    price a hundred times that is in another unit.

    A price of 0, one a hundred times that of minutes ago, or one that stands for no value, is none: bars,
    windows and the latest price are without it. What only contradicts the day's range is a price all the
    same, for ranges come late.
    """
    flags: dict[str, str] = dict(tick.flags or {})
    price, high, low = tick.price, tick.high, tick.low
    soon = newest_us is not None and tick.event_us - newest_us < within * SECOND
    is_price = True
    if not price:
        doubts.TICK_ZERO.put(flags)
        is_price = False
    elif price in doubts.LIMITS or (price in doubts.NINES and _far(price, before)):
        doubts.TICK_NO_VALUE.put(flags, value=price)
        is_price = False
    elif soon and _hundredfold(price, before):
        doubts.TICK_SCALE.put(flags, times=0.01 if price < (before or 0) else 100)
        is_price = False
    elif high and price > high:
        doubts.TICK_ABOVE.put(flags, high=high)
    elif low and price < low:
        doubts.TICK_BELOW.put(flags, low=low)
    if high and low and low > high:
        doubts.DAY_CROSSED.put(flags, high=high)
    for name in _DAY:
        value = getattr(tick, name)
        if value == 0:
            doubts.DAY_ZERO.put(flags, name)
        elif value in doubts.LIMITS:
            doubts.NO_VALUE.put(flags, name, value=value)
    if tick.volume is not None and (tick.volume < 0 or tick.volume in doubts.LIMITS):
        doubts.NO_VALUE.put(flags, "volume", value=tick.volume)
    return flags, is_price


def quote_doubts(quote: Quote) -> dict[str, str]:
    """{field: reason} of a quote."""
    flags = dict(quote.flags or {})
    if quote.bid and quote.ask and quote.bid > quote.ask:
        doubts.QUOTE_CROSSED.put(flags, ask=quote.ask)
    if quote.expiry < quote.timestamp[:10]:
        doubts.QUOTE_EXPIRED.put(flags)
    if quote.iv is not None and not 0 < quote.iv <= MOST_IV:
        doubts.QUOTE_IV.put(flags, iv=quote.iv)
    for name in _QUOTED:
        value = getattr(quote, name)
        if value is not None and (value in doubts.LIMITS or value < 0):
            doubts.NO_VALUE.put(flags, name, value=value)
    return flags


def _hundredfold(price: Number, before: float | None) -> bool:
    """Whether one of two prices is in hundredths of the unit of the other."""
    if not before:
        return False
    times = price / before if price > before else before / price
    return 100 / _ABOUT <= times <= 100 * _ABOUT


def _far(price: Number, before: float | None) -> bool:
    return before is not None and before > 0 and not before / _FAR < price < before * _FAR
