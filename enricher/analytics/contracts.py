"""What a product's options are: when they expire, on what terms, and when their market is open.

Prices are in the contract's own price unit; rates and yields are continuously compounded decimals a year;
times of day are local to ``zone``, as HH:MM up to 24:00. Which product has which terms stands in
`enricher.market.products`.
"""

from __future__ import annotations

from bisect import bisect_right
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Final, Literal
from zoneinfo import ZoneInfo

import msgspec

from enricher.analytics.arguments import AMOUNT, POSITIVE, RATE, SHARE, minute_of_day, number, zone_of
from enricher.analytics.lots import Lots
from enricher.clock import SECOND, to_date
from enricher.messages.leg import OiUnit, PriceUnit

YEAR_US: Final = 365 * 86_400 * SECOND

Settlement = Literal["closing_average", "close", "opening", "half_hour_average", "unknown"]
Exercise = Literal["european", "american"]


class Session(msgspec.Struct, frozen=True, gc=False):
    """One local day: its ordinal, its bounds and the hours of trading, in microseconds since 1970 UTC.

    ``open_us`` and ``close_us`` are None on a day without trading, or when the hours are not known.
    """

    day: int
    start_us: int
    end_us: int
    open_us: int | None
    close_us: int | None

    def is_open(self, moment_us: int) -> bool:
        """Whether trading is on; False where the hours are not known."""
        return self.open_us is not None and self.open_us <= moment_us < (self.close_us or 0)


class Contract(msgspec.Struct, frozen=True, kw_only=True):
    """The terms of one product's options.

    ``lot`` is how many units of the underlying one contract is for, or ``lots`` says so by expiry;
    ``multiplier`` is currency per unit and price point. ``oi_unit`` says what the feed counts open interest
    in, ``oi_stated`` that somebody has said so. With the price unit ``underlying`` (Deribit) an option's
    price times the forward is its price in ``currency``. ``dividend_yield`` None says that spot, grown
    at ``rate``, is no forward (an index that cannot be held); ``dividends`` are paid besides, in cash: (day
    from which the stock trades without it, YYYY-MM-DD; amount a unit of it). ``closed_weight`` is what a day
    without trading counts in trading time, of a day with it (`analytics.trading_time`). ``buildup_min_age``
    is the least age (seconds) of what its build-up is compared with, None for that of all products.
    ``spot_apart`` is the share by which spot, future and the forward of the options may differ before they
    contradict each other; within ``unit_within`` seconds a price a hundred times the one before is in another
    unit.
    ``assumed`` marks the terms of a product that nobody has named. ValueError for a zone, a time of day, a
    rate, a date or a size that cannot be.
    """

    name: str
    zone: str = "UTC"
    expiry_time: str = "24:00"
    settlement: Settlement = "unknown"
    exercise: Exercise = "european"
    day_count: Literal["ACT/365"] = "ACT/365"
    rate: float = 0.0
    dividend_yield: float | None = 0.0
    dividends: tuple[tuple[str, float], ...] = ()
    tick_size: float = 0.01
    lot: float = 1.0
    lots: Lots | None = None
    multiplier: float = 1.0
    oi_unit: OiUnit = "contracts"
    oi_stated: bool = False
    price_unit: PriceUnit = "quote"
    currency: str | None = None
    strike_step: float | None = None
    session_open: str | None = None
    session_close: str | None = None
    weekdays: tuple[int, ...] = (0, 1, 2, 3, 4)
    holidays: tuple[str, ...] = ()
    closed_weight: float = 0.0
    buildup_min_age: float | None = None
    spot_apart: float = 0.1
    unit_within: float = 300.0
    assumed: bool = False

    def __post_init__(self) -> None:
        zone_of("zone", self.zone)
        for name in ("expiry_time", "session_open", "session_close"):
            clock = getattr(self, name)
            if clock is not None or name == "expiry_time":
                minute_of_day(name, clock)
        for name in ("tick_size", "lot", "multiplier"):
            number(name, getattr(self, name), POSITIVE)
        number("rate", self.rate, RATE)
        if self.dividend_yield is not None:
            number("dividend_yield", self.dividend_yield, RATE)
        number("closed_weight", self.closed_weight, SHARE)
        number("spot_apart", self.spot_apart, AMOUNT)
        number("unit_within", self.unit_within, AMOUNT)
        for day, amount in self.dividends:
            number("dividends", amount, AMOUNT)
            try:
                date.fromisoformat(day)
            except (TypeError, ValueError) as error:
                raise ValueError(f"dividends has {day!r}: expected a date as YYYY-MM-DD") from error

    def expiry_us(self, expiry: str) -> int:
        """The moment an option of this expiry date (YYYY-MM-DD) expires, in microseconds since 1970 UTC.

        ValueError for what is no date.
        """
        return _instant(expiry, self.expiry_time, self.zone)

    def cash_dividends(self, moment_us: int, expiry_us: int) -> tuple[tuple[float, float], ...]:
        """The dividends between two moments, as (years from the first, amount), ascending.

        A stock trades without one from the opening of its day on (from midnight where hours are not known).
        """
        found = []
        for day, amount in self.dividends:
            at = _instant(day, self.session_open or "00:00", self.zone)
            if moment_us < at <= expiry_us and amount > 0:
                found.append((years(at, moment_us), amount))
        return tuple(sorted(found))

    def session(self, moment_us: int) -> Session:
        """The local day that a moment belongs to, with its hours of trading."""
        local = to_date(moment_us).astimezone(ZoneInfo(self.zone))
        return _session_of(self, local.date())

    def lot_of(self, expiry: str) -> float:
        """Units of the underlying in one contract of this expiry."""
        return self.lot if self.lots is None else self.lots.of(expiry)

    def assumes(self, expiry: str) -> bool:
        """Whether the terms of this expiry are assumed: nobody named the product, or the lot is not known."""
        return self.assumed or (self.lots is not None and self.lots.assumed(expiry))

    def as_of(self, moment_us: int) -> Contract:
        """The terms as they were at a moment: the lots of long contracts change while these are listed."""
        lots = self.lots
        if lots is None or not lots.until:
            return self
        changes = [_instant(day, "24:00", self.zone) for day, _, _ in lots.until]
        return self if moment_us >= changes[-1] else _as_of(self, bisect_right(changes, moment_us))

    def in_units(self, oi_unit: OiUnit | None, price_unit: PriceUnit | None) -> Contract:
        """The terms with the units that a message names for its own numbers; None is that of the terms."""
        if oi_unit is None and price_unit is None:
            return self
        return _in_units(self, oi_unit or self.oi_unit, price_unit or self.price_unit)

    def units(self, expiry: str) -> float:
        """What open interest is multiplied by to give currency per point of the underlying's price."""
        return self.multiplier * (self.lot_of(expiry) if self.oi_unit == "contracts" else 1.0)

    def conventions(self, expiry: str) -> dict[str, Any]:
        """The terms that numbers about this expiry rest on, as plain data to publish beside them."""
        return {
            "contract": self.name,
            "assumed": self.assumes(expiry),
            "zone": self.zone,
            "expiry_time": self.expiry_time,
            "settlement": self.settlement,
            "exercise": self.exercise,
            "day_count": self.day_count,
            "rate": self.rate,
            "dividend_yield": self.dividend_yield,
            "tick_size": self.tick_size,
            "lot": self.lot_of(expiry),
            "multiplier": self.multiplier,
            "oi_unit": self.oi_unit,
            "price_unit": self.price_unit,
            "currency": self.currency,
        }


def years(expiry_us: int, moment_us: int) -> float:
    """Time to expiry in years, ACT/365: 365 days of 86,400 s; zero or less once expired."""
    return (expiry_us - moment_us) / YEAR_US


@lru_cache(maxsize=1024)
def _session_of(contract: Contract, day: date) -> Session:
    text, after = day.isoformat(), (day + timedelta(days=1)).isoformat()
    opens = closes = None
    trading = day.weekday() in contract.weekdays and text not in contract.holidays
    if trading and contract.session_open is not None and contract.session_close is not None:
        opens = _instant(text, contract.session_open, contract.zone)
        closes = _instant(text, contract.session_close, contract.zone)
    start, end = _instant(text, "00:00", contract.zone), _instant(after, "00:00", contract.zone)
    return Session(day.toordinal(), start, end, opens, closes)


@lru_cache(maxsize=256)
def _as_of(contract: Contract, changed: int) -> Contract:
    lots = contract.lots
    return contract if lots is None else msgspec.structs.replace(contract, lots=lots.on(changed))


@lru_cache(maxsize=256)
def _in_units(contract: Contract, oi_unit: OiUnit, price_unit: PriceUnit) -> Contract:
    return msgspec.structs.replace(contract, oi_unit=oi_unit, price_unit=price_unit)


@lru_cache(maxsize=4096)
def _instant(day: str, clock: str, zone: str) -> int:
    """The moment of a local time of day; 24:00 is the midnight that ends the day."""
    hours, minutes = int(clock[:2]), int(clock[3:])
    on = date.fromisoformat(day)
    if hours == 24:
        if on == date.max:  # there is no day after
            return _instant(day, "23:59", zone) + 60 * SECOND
        on += timedelta(days=1)
    local = datetime.combine(on, time(hours % 24, minutes), ZoneInfo(zone))
    return round(local.timestamp()) * SECOND
