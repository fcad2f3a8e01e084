"""What is doubtful in a tick or a quote, asked only where something is: see `enricher.messages.doubts`."""

from __future__ import annotations

from typing import Final

from enricher.messages import doubts
from enricher.messages.models import Number, Tick

_FAR: Final = 3.0
_DAY: Final = ("open", "high", "low", "close")


def tick_doubts(tick: Tick, before: float | None) -> tuple[dict[str, str], bool]:
    """{field: reason} of a tick, and whether its price is one; ``before`` is the newest price known.

    A price of 0, or one that stands for no value, is none: bars, windows and the latest price are without
    it. What only contradicts the day's range is a price all the same, for ranges come late.
    """
    flags: dict[str, str] = {}
    price, high, low = tick.price, tick.high, tick.low
    is_price = True
    if not price:
        doubts.TICK_ZERO.put(flags)
        is_price = False
    elif price in doubts.LIMITS or (price in doubts.NINES and _far(price, before)):
        doubts.TICK_NO_VALUE.put(flags, value=price)
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


def _far(price: Number, before: float | None) -> bool:
    return before is not None and before > 0 and not before / _FAR < price < before * _FAR
