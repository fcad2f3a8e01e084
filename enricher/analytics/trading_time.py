"""Time to expiry as the market is open: sessions count, nights do not, weekends and holidays by a weight.

A day of trading counts 1, spread over its hours (over the whole day where they are not known); a day without
trading counts ``Contract.closed_weight``, spread over the day. A year has 252 days of trading where trading
is on five days a week and 365 where it never stops (in between in proportion); closed days of a year count
by the same weight. So a market that never closes has the calendar's time.
Sources: K. French, Stock Returns and the Weekend Effect, 1980; J. Hull, Options,
Futures, and Other Derivatives, for volatility by days of trading, 252 a year.
"""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from math import sqrt

import msgspec

from enricher.analytics.contracts import Contract, Session

_YEAR = 365
_TRADING_DAYS = 252


class TradingTime(msgspec.Struct, frozen=True, gc=False):
    """``years`` of trading time to expiry, and the ``factor`` that takes volatilities to it.

    Total variance is the same in both: sigma^2 T. ``factor`` is None for a ``reason``: ``expired``, or
    ``no_trading_time`` where the market stays closed until expiry.
    """

    years: float
    days_in_year: float
    closed_weight: float
    factor: float | None
    reason: str | None = None


def trading_time(contract: Contract, moment_us: int, expiry_us: int) -> TradingTime:
    """The trading time from one moment to another, both in microseconds since 1970 UTC."""
    weight = contract.closed_weight
    days = _days_in_year(contract)
    in_year = days + weight * (_YEAR - days)
    years = (_passed(contract, expiry_us) - _passed(contract, moment_us)) / in_year
    calendar = (expiry_us - moment_us) / (_YEAR * 86_400e6)
    if calendar <= 0:
        return TradingTime(min(years, 0.0), in_year, weight, None, "expired")
    if years <= 0:
        return TradingTime(0.0, in_year, weight, None, "no_trading_time")
    return TradingTime(years, in_year, weight, sqrt(calendar / years))


def _days_in_year(contract: Contract) -> float:
    """Days of trading in a year, 252 of five a week."""
    week = len(set(contract.weekdays))
    if week <= 5:
        return _TRADING_DAYS * week / 5
    return _TRADING_DAYS + (_YEAR - _TRADING_DAYS) * (week - 5) / 2


def _passed(contract: Contract, moment_us: int) -> float:
    """Weighted days since the first day of the calendar."""
    session = contract.session(moment_us)
    holidays = _holidays(contract.holidays, contract.weekdays)
    before = session.day - 1  # the first day of all is a Monday, and has the number 1
    weeks, rest = divmod(before, 7)
    opened = weeks * len(set(contract.weekdays)) + sum(1 for day in set(contract.weekdays) if day < rest)
    opened -= sum(1 for day in holidays if day < session.day)
    trading = before % 7 in contract.weekdays and session.day not in holidays
    weight = contract.closed_weight
    today = _share(session, moment_us, trading) * (1.0 if trading else weight)
    return opened + weight * (before - opened) + today


def _share(session: Session, moment_us: int, trading: bool) -> float:
    """How much of its day has passed."""
    opens, closes = session.start_us, session.end_us
    if trading and session.open_us is not None and session.close_us is not None:
        opens, closes = session.open_us, session.close_us
    return min(max((moment_us - opens) / (closes - opens), 0.0), 1.0)


@lru_cache(maxsize=256)
def _holidays(holidays: tuple[str, ...], weekdays: tuple[int, ...]) -> frozenset[int]:
    """Those on which there would be trading, as ordinals."""
    days = [date.fromisoformat(day) for day in holidays]
    return frozenset(day.toordinal() for day in days if day.weekday() in weekdays)
