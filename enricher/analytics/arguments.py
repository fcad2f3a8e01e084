"""What the library takes for its arguments, and what it says of wrong ones.

One rule holds for all its functions. What can be no strike, price, rate or kind raises a ``ValueError`` that
names the argument, shows what it was and says what is right. In a column, one number a strike, None and NaN
stand for what is not known; so they do where an argument may be None. What is asked properly and has no
answer is None.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Set
from datetime import datetime, tzinfo
from functools import wraps
from itertools import pairwise
from operator import index
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar
from zoneinfo import ZoneInfo

from enricher.clock import event_us

P = ParamSpec("P")
R = TypeVar("R")

_LARGEST: Final = 1e100  # products and sums of these stay finite


class Range(NamedTuple):
    """Which numbers are right, from ``least`` to ``most``, in numbers and in words."""

    least: float
    most: float
    text: str


POSITIVE: Final = Range(1 / _LARGEST, _LARGEST, "a number above 0 (at most 1e100)")
AMOUNT: Final = Range(0.0, _LARGEST, "a number from 0 on (at most 1e100)")
YEARS: Final = Range(-_LARGEST, 100.0, "years to expiry, at most 100 (30 days are 30 / 365)")
RATE: Final = Range(-1.0, 1.0, "a decimal a year from -1 to 1 (0.05 is 5 %)")
SHARE: Final = Range(0.0, 1.0, "a share from 0 to 1")
VOLATILITY: Final = Range(0.0, 100.0, "a decimal a year from 0 to 100 (0.25 is 25 %)")

_RANGES: Final = {
    **dict.fromkeys(("spot", "price", "forward", "future", "strike", "forward_bid", "forward_ask"), POSITIVE),
    **dict.fromkeys(("rate", "dividend_yield"), RATE),
    "units": POSITIVE,
    "years": YEARS,
    "atm_iv": VOLATILITY,
    "least": AMOUNT,
    "dividends": AMOUNT,
}
_CLOCK: Final = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d|24:00")
_NOTHING: Final = {"NAType", "NaTType"}
_KINDS: Final = {"call": 1, "c": 1, "ce": 1, "put": -1, "p": -1, "pe": -1}


def call_or_put(kind: str) -> int:
    """+1 for a call, -1 for a put: ``call``, ``C``, ``CE``, ``put``, ``P``, ``PE`` in any case."""
    sign = _KINDS.get(kind.lower()) if isinstance(kind, str) else None
    if sign is None:
        raise ValueError(f'kind is {kind!r}: expected "call" or "put" (also C and P, CE and PE)')
    return sign


def number(name: str, value: Any, right: Range) -> float:
    """The value as a float within its range."""
    amount = value if type(value) is float else _real(value)
    if amount is None or not right.least <= amount <= right.most:
        raise ValueError(f"{name} is {value!r}: expected {right.text}")
    return amount


def number_or_none(name: str, value: Any, right: Range) -> float | None:
    """As `number`, where None and NaN are not known."""
    return None if unknown(value) else number(name, value, right)


def _real(value: Any) -> float | None:
    """Any kind of number as a float; None for what is none."""
    if isinstance(value, bool | str | bytes) or not hasattr(value, "__float__"):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, ArithmeticError):  # an array, a date of numpy, a number beyond doubles
        return None


def unknown(value: Any) -> bool:
    """Whether it stands for what is not known: None, NaN, and what pandas has for them."""
    if value is None or type(value).__name__ in _NOTHING:
        return True
    amount = _real(value)
    return amount is not None and amount != amount


def whole_number(name: str, value: Any, least: int, most: int) -> int:
    """A whole number between two, both included."""
    if not isinstance(value, bool) and hasattr(value, "__index__") and least <= value <= most:
        return index(value)
    raise ValueError(f"{name} is {value!r}: expected a whole number from {least:,} to {most:,}")


def zone_of(name: str, zone: str) -> ZoneInfo:
    try:
        return ZoneInfo(zone)
    except (LookupError, ValueError, OSError, TypeError) as error:
        expected = "a time zone such as 'UTC' or 'Asia/Kolkata'"
        raise ValueError(f"{name} is {zone!r}: expected {expected}") from error


def minute_of_day(name: str, clock: str) -> int:
    """The minute of a time of day as HH:MM, 24:00 at most."""
    if not isinstance(clock, str) or not _CLOCK.fullmatch(clock):
        raise ValueError(f"{name} is {clock!r}: expected a time of day as HH:MM, at most 24:00")
    return int(clock[:2]) * 60 + int(clock[3:])


def moment_us(name: str, moment: datetime | str, zone: tzinfo) -> int:
    """Microseconds since 1970 UTC of a datetime or an ISO 8601 text, read in ``zone`` without an offset."""
    text = moment.isoformat() if isinstance(moment, datetime) else moment
    try:
        return event_us(text, zone)[0]
    except (ValueError, TypeError) as error:
        expected = "a datetime or an ISO 8601 text with date and time"
        raise ValueError(f"{name} is {moment!r}: expected {expected}") from error


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """The same function about a chain, its arguments checked by their names.

    ``strikes`` must ascend. What is no single number is a column: a list, a tuple, an array or a series as
    long as the strikes.
    """
    signature = inspect.signature(function)
    parameters = signature.parameters
    optional = {name for name, parameter in parameters.items() if str(parameter.annotation).endswith("None")}

    @wraps(function)
    def with_checked_arguments(*args: P.args, **kwargs: P.kwargs) -> R:
        given = signature.bind(*args, **kwargs)
        arguments, length = given.arguments, None
        for name, value in arguments.items():
            if name == "strikes":
                arguments[name] = ascending(value)
                length = len(arguments[name])
            elif name == "count":
                arguments[name] = whole_number(name, value, 1, 1_000_000)
            elif name in _RANGES:
                arguments[name] = (number_or_none if name in optional else number)(name, value, _RANGES[name])
            else:
                arguments[name] = column(name, value, length)
        return function(*given.args, **given.kwargs)

    return with_checked_arguments


def ascending(strikes: Iterable[Any]) -> list[Any]:
    """Strikes as a list; each is a number from 0 on and above the one before it."""
    values = column("strikes", strikes)
    if None in values:
        raise ValueError("strikes: expected a number for each, and one is None or NaN")
    for before, strike in pairwise(values):
        if not before < strike:
            raise ValueError(f"strikes must ascend, and {strike!r} follows {before!r}")
    return values


def column(name: str, values: Iterable[Any], length: int | None = None) -> list[Any]:
    """A column as a list of numbers from 0 on; None and NaN become None."""
    if hasattr(values, "tolist"):  # an array or a series
        values = values.tolist()
    if isinstance(values, str | bytes | Mapping | Set) or not hasattr(values, "__iter__"):
        raise ValueError(f"{name} is {values!r}: expected a list of numbers, one a strike")
    cells = [None if unknown(value) else _cell(name, value) for value in values]
    if length is not None and len(cells) != length:
        raise ValueError(f"{name} has {len(cells)} values: expected {length}, one a strike")
    return cells


def _cell(name: str, value: Any) -> float:
    amount = _real(value)
    if amount is None or not 0 <= amount <= _LARGEST:
        raise ValueError(f"{name} has {value!r}: expected numbers from 0 on, None or NaN where unknown")
    return value if type(value) is int else amount
