"""What the name of an option says: the underlying, the expiry, the strike and the side.

Every function answers None for a name that is not written in its way; a date that no calendar has is such a
name, too. Strikes that are whole are integers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import date
from typing import NamedTuple

MONTHS = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")

_OCC = re.compile(r"(?:O:)?([A-Z0-9.^]{1,6}) *(\d{6})([CP])(\d{8})")
_DERIBIT = re.compile(r"([A-Z0-9]+(?:_[A-Z]+)?)-(\d{1,2})([A-Z]{3})(\d\d)-(\d+(?:d\d+)?)-([CP])")
_DATED = re.compile(r"([A-Z0-9]+(?:-[A-Z]+)?)-(\d{6})-(\d+(?:\.\d+)?)-([CP])")
_WEEKLY = re.compile(r"([A-Z&-]+)(\d\d)([1-9OND])(\d\d)(\d+(?:\.\d+)?)(CE|PE)")
_MONTHLY = re.compile(r"([A-Z0-9][A-Z0-9&-]*?)(\d\d)(" + "|".join(MONTHS) + r")(\d+(?:\.\d+)?)(CE|PE)")
_WITH_DAY = re.compile(r"([A-Z0-9][A-Z0-9&-]*?)(\d\d)(" + "|".join(MONTHS) + r")(\d\d)(\d+(?:\.\d+)?)(CE|PE)")
_WEEKLY_MONTHS = "123456789OND"


class OptionName(NamedTuple):
    """An option by its name. ``expiry`` is YYYY-MM-DD, or YYYY-MM where the name has only the month."""

    root: str
    expiry: str
    strike: float
    option_type: str

    @property
    def dated(self) -> bool:
        """Whether the name has the day of the expiry."""
        return len(self.expiry) > len("YYYY-MM")


def occ(name: str) -> OptionName | None:
    """US options: ``SPXW260814C06400000``, with or without ``O:`` before it or blanks after the root."""
    found = _OCC.fullmatch(name)
    if found is None:
        return None
    root, day, side, strike = found.groups()
    return _named(root, _yymmdd(day), whole(int(strike) / 1000), side)


def deribit(name: str) -> OptionName | None:
    """Deribit: ``BTC-25SEP26-100000-C``, ``XRP_USDC-21SEP26-1d25-P`` (1d25 is 1.25)."""
    found = _DERIBIT.fullmatch(name)
    if found is None or found[3] not in MONTHS:
        return None
    root, day, month, year, strike, side = found.groups()
    expiry = _date(2000 + int(year), MONTHS.index(month) + 1, int(day))
    return _named(root, expiry, whole(float(strike.replace("d", "."))), side)


def dated(name: str) -> OptionName | None:
    """Binance: ``BTC-260925-100000-C``; OKX: ``BTC-USD-260925-100000-C``."""
    found = _DATED.fullmatch(name)
    if found is None:
        return None
    root, day, strike, side = found.groups()
    return _named(root, _yymmdd(day), whole(float(strike)), side)


def indian(name: str) -> OptionName | None:
    """Brokers in India, after an exchange and a colon or not.

    Weekly ``NIFTY2681825000CE`` (year, month as 1 to 9, O, N or D, day), of roots without a digit, as those
    of all weekly options are; monthly ``NIFTY26AUG25000CE``, which does not tell the day.
    """
    name = name.rpartition(":")[2]
    if monthly := _MONTHLY.fullmatch(name):
        root, year, month, strike, side = monthly.groups()
        expiry = f"20{year}-{MONTHS.index(month) + 1:02}"
        return OptionName(root, expiry, whole(float(strike)), _SIDES[side])
    if weekly := _WEEKLY.fullmatch(name):
        root, year, letter, day, strike, side = weekly.groups()
        day_of_expiry = _date(2000 + int(year), _WEEKLY_MONTHS.index(letter) + 1, int(day))
        return _named(root, day_of_expiry, whole(float(strike)), side)
    return None


def angel(name: str) -> OptionName | None:
    """Options of NSE at Angel One: ``NIFTY18AUG2625000CE`` (day, month, year)."""
    found = _WITH_DAY.fullmatch(name)
    if found is None:
        return None
    root, day, month, year, strike, side = found.groups()
    expiry = _date(2000 + int(year), MONTHS.index(month) + 1, int(day))
    return _named(root, expiry, whole(float(strike)), side)


def in_month(month: str, expiries: Iterable[str]) -> str | None:
    """The expiry that a monthly name means: the last of these (YYYY-MM-DD) in a month (YYYY-MM)."""
    return max((day for day in expiries if day.startswith(month)), default=None)


def whole(value: float) -> float:
    """The same number, an integer if it is whole and not larger than what a float counts by ones."""
    return int(value) if abs(value) < 2**53 and value == int(value) else value


_SIDES = {"C": "CALL", "P": "PUT", "CE": "CALL", "PE": "PUT"}


def _named(root: str, expiry: str | None, strike: float, side: str) -> OptionName | None:
    return None if expiry is None else OptionName(root, expiry, strike, _SIDES[side])


def _yymmdd(text: str) -> str | None:
    return _date(2000 + int(text[:2]), int(text[2:4]), int(text[4:]))


def _date(year: int, month: int, day: int) -> str | None:
    try:
        return date(year, month, day).isoformat()
    except ValueError:
        return None
