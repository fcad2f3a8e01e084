"""What can be wrong with an input that is well-formed: every doubt, where it is flagged, and what it says.

A doubt does not refuse a message. What it concerns is stored as sent, has its reason in ``flags``, and is
kept out of whatever it would spoil. docs/doubts.md has the rule, the effect and the setting of each.
"""

from __future__ import annotations

from typing import Final

import msgspec


class Doubt(msgspec.Struct, frozen=True):
    """A path in ``flags`` and a sentence with places for what was seen."""

    flag: str
    says: str

    def of(self, **seen: object) -> str:
        """The sentence about what was seen; numbers as short as they are."""
        return self.says.format(**{name: shown(value) for name, value in seen.items()})

    def put(self, flags: dict[str, str], field: str = "", **seen: object) -> None:
        """Add the sentence to what ``flags`` say there; ``field`` is the place of a doubt about any field."""
        text, place = self.of(**seen), field or self.flag
        flags[place] = f"{flags[place]}; {text}" if place in flags else text


def shown(value: object) -> str:
    """A number without a needless fraction, up to 6 digits of it; all else as text."""
    if isinstance(value, float):
        return f"{value:.6f}".rstrip("0").rstrip(".") if abs(value) < 1e15 else f"{value:g}"
    return str(value)


LEG_NO_VALUE: Final = Doubt("{side}[{index}].{field}", "{value} stands for no value")
LEG_NEGATIVE: Final = Doubt("{side}[{index}].{field}", "negative")
LEG_NOT_FINITE: Final = Doubt("{side}[{index}].{field}", "not finite")
SPOT_ZERO: Final = Doubt("spot_price", "spot is 0")
SPOT_OUTSIDE: Final = Doubt(
    "spot_price", "spot {spot} is far from every strike, {low} to {high}: another unit?"
)
SPOT_APART: Final = Doubt("spot_price", "spot {spot} is {percent} % from the forward {forward}")
UNIT_UNKNOWN: Final = Doubt("{field}", "{value} is no unit known here: it does not count")
FUTURE_NONE: Final = Doubt("future_price", "no number above 0")
FUTURE_OUTSIDE: Final = Doubt("future_price", "far from every strike, {low} to {high}: another unit?")
FUTURE_APART: Final = Doubt("future_price", "{percent} % from the forward {forward} of the options")
EXPIRED: Final = Doubt("expiry", "over before the chain's own time")
OI_IN_UNITS: Final = Doubt("open_interest", "open interest looks like units (all multiples of lot {lot})")
OI_IN_CONTRACTS: Final = Doubt(
    "open_interest", "open interest looks like contracts, though it is said to be units (of lot {lot})"
)
OI_JUMPED: Final = Doubt(
    "{field}", "open interest is {times} times that of the earlier chain, where a lot is {lot}: another unit?"
)
SCALE_JUMPED: Final = Doubt("strikes", "{times} times those of the chain before: another unit?")
SCALES_MIXED: Final = Doubt("expiries", "left out, for their prices are of another scale: {expiries}")
COIN_BY_SPOT: Final = Doubt(
    "price_scale", "prices in the underlying are converted by spot: no future price and no parity pair"
)
COIN_UNKNOWN: Final = Doubt(
    "price_scale", "prices in the underlying have no price in currency: no future price, parity pair or spot"
)
NO_VALUE: Final = Doubt("{field}", "{value} stands for no value")
TICK_ZERO: Final = Doubt("price", "0 is no price: the tick moves nothing")
TICK_NO_VALUE: Final = Doubt("price", "{value} stands for no value: the tick moves nothing")
TICK_SCALE: Final = Doubt(
    "price", "{times} times the price before, within minutes: another unit? The tick moves nothing"
)
TICK_ABOVE: Final = Doubt("price", "above the day's high {high}")
TICK_BELOW: Final = Doubt("price", "below the day's low {low}")
DAY_ZERO: Final = Doubt("{field}", "0 is no price")
DAY_CROSSED: Final = Doubt("low", "above the day's high {high}")

QUOTE_CROSSED: Final = Doubt("bid", "above the ask {ask}")
QUOTE_IV: Final = Doubt("iv", "{iv} is no volatility")
QUOTE_EXPIRED: Final = Doubt("expiry", "over before the quote's own time")
SURFACE_UNITS: Final = Doubt("ivs", "sent in another unit, and shown in {unit}: {strikes}")
VOLUME_CUMULATIVE: Final = Doubt("volume", "volume never falls: cumulative? (market.volume)")
VOLUME_FELL: Final = Doubt("volume", "the volume of the day fell from {before} to {volume}")

WORDS: Final = frozenset(
    ("", "-", "--", "nan", "na", "n/a", "#n/a", "none", "null", "nil", "inf", "-inf", "infinity", "undefined")
)
"""Texts that stand for no number."""

LIMITS: Final = frozenset(
    [2**bits - 1 for bits in (31, 32, 63, 64)]
    + [-(2**31), -(2**63), 2.0**63, 2.0**64, 1.7976931348623157e308, 3.4028234663852886e38, 3.4028235e38]
)
"""What programs write for a number they do not have: the ends of integers and of floats."""

NINES: Final = frozenset(10**digits - less for digits in range(5, 16) for less in (1, 0.01, 0.05, 0.1))
"""Nines from 99999 on: no value where they are far from their neighbours, for prices may be such."""
