"""Which numbers of a chain's legs are numbers: none that is negative, not finite, or stands for no value.

The legs as sent keep what they say; `Leg`, which is computed with, has None there, and ``flags`` the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from enricher.errors import BadMessage
from enricher.messages import doubts
from enricher.messages.json_decoding import LARGEST, shown
from enricher.messages.leg import Leg, Number

LARGEST_LEG_NUMBER: Final = 1e100  # products and sums of these stay finite

_PRICES: Final = ("bid", "ask", "last")
_COUNTS: Final = ("volume", "open_interest")
_AMOUNTS: Final = (*_PRICES, *_COUNTS, "iv")
_SIGNED: Final = ("delta", "gamma", "vega", "theta", "change_in_oi", "oi_change", "nse_oi_change")
_ON_WIRE: Final = {"nse_oi_change": "changeinOpenInterest"}
_NUMBERS: Final = tuple(_ON_WIRE.get(name, name) for name in (*_AMOUNTS, *_SIGNED))
_ABOVE: Final = 2.0  # times spot and strike, no option is worth
_MANY: Final = 10.0  # times the largest of its neighbours, a count of nines is none


def without_words(raw: dict[str, Any], flags: dict[str, str]) -> dict[str, Any]:
    """The chain without the texts that stand for no number in its legs; itself where there is none."""
    changed: dict[str, Any] = {}
    for side in ("calls", "puts"):
        legs = raw.get(side)
        if type(legs) is list:
            cleaned = [_leg_without_words(leg, side, index, flags) for index, leg in enumerate(legs)]
            if cleaned != legs:
                changed[side] = cleaned
    return {**raw, **changed} if changed else raw


def _leg_without_words(leg: Any, side: str, index: int, flags: dict[str, str]) -> Any:
    if type(leg) is not dict:
        return leg
    words = [name for name in _NUMBERS if type(text := leg.get(name)) is str and is_word(text)]
    for name in words:
        _flag(doubts.LEG_NO_VALUE, flags, side, index, name, value=shown(leg[name]))
    return {**leg, **dict.fromkeys(words)} if words else leg


def is_word(text: str) -> bool:
    """Whether a text stands for no number."""
    return len(text) < 16 and text.strip().lower() in doubts.WORDS


def check_strike(path: str, strike: Number) -> None:
    """Raises ``BadMessage`` for a strike that is negative or not finite."""
    if not 0 <= strike <= LARGEST_LEG_NUMBER:
        raise BadMessage(path, "a finite strike that is not negative", shown(strike))


def known(legs: Sequence[Leg], side: str, spot: Number, flags: dict[str, str]) -> list[Leg]:
    """The legs of one side with None for every number that is none."""
    cleaned = [_cleaned(leg, side, index, flags) for index, leg in enumerate(legs)]
    none_of_nines = {name: _too_many([getattr(leg, name) for leg in cleaned]) for name in _COUNTS}
    for index, leg in enumerate(cleaned):
        most = _ABOVE * max(spot, leg.strike)
        unknown: dict[str, None] = {}
        for name in _AMOUNTS:
            value = getattr(leg, name)
            if value not in doubts.NINES:
                continue
            if value > most if name in _PRICES else none_of_nines.get(name, _always)(value):
                unknown[name] = None
                _flag(doubts.LEG_NO_VALUE, flags, side, index, name, value=value)
        if unknown:
            cleaned[index] = msgspec.structs.replace(leg, **unknown)
    return cleaned


def _always(_value: Number) -> bool:
    return True


def _too_many(column: Sequence[Number | None]) -> Callable[[Number], bool]:
    """Whether nines in a column of counts stand for none: twice there, or far above all others."""
    others = max([value for value in column if value is not None and value not in doubts.NINES], default=0)
    return lambda value: value > _MANY * others or column.count(value) > 1


def _cleaned(leg: Leg, side: str, index: int, flags: dict[str, str]) -> Leg:
    check_strike(f"$.{side}[{index}].strike", leg.strike)
    unknown: dict[str, None] = {}
    for names, least in ((_AMOUNTS, 0.0), (_SIGNED, -LARGEST_LEG_NUMBER)):
        for name in names:
            value: Number | None = getattr(leg, name)
            if value is None:
                continue
            if value in doubts.LIMITS:
                doubt = doubts.LEG_NO_VALUE
            elif least <= value <= LARGEST_LEG_NUMBER:
                continue
            else:
                doubt = doubts.LEG_NEGATIVE if -LARGEST <= value < 0 else doubts.LEG_NOT_FINITE
            unknown[name] = None
            _flag(doubt, flags, side, index, name, value=value)
    return msgspec.structs.replace(leg, **unknown) if unknown else leg


def _flag(
    doubt: doubts.Doubt, flags: dict[str, str], side: str, index: int, name: str, **seen: object
) -> None:
    doubt.put(flags, f"{side}[{index}].{_ON_WIRE.get(name, name)}", **seen)
