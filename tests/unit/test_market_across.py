"""What two neighbouring expiries say of each other, and how long that holds."""

from __future__ import annotations

from math import log

from enricher.market.across import Across
from enricher.market.arbitrage import ChainQuotes
from enricher.market.remembered import Remembered
from enricher.market.smile import Smile
from enricher.market.variance import Strip

STRIKES = [90.0, 100.0, 110.0]


def last_chain(expiry: str, years: float, iv: float) -> Remembered:
    ks = [log(strike / 100.0) for strike in STRIKES]
    none: list[float | None] = [None] * 3
    return Remembered(
        expiry=expiry,
        event_us=1,
        totals=(None, None, None, None),
        forward=100.0,
        discount=1.0,
        smile=Smile(100.0, years, STRIKES, ks, [iv * iv * years] * 3, [iv] * 3, {}, None),
        strip=Strip(years),
        quotes=ChainQuotes(STRIKES, none, none, none, none),
        unit=None,
        row={},
        said={},
    )


def test_a_chain_that_replaces_one_of_the_same_time_is_compared_anew() -> None:
    across = Across()
    near = last_chain("2025-10-30", 0.1, 0.2)
    rising, falling = (last_chain("2025-11-27", 0.2, iv) for iv in (0.2, 0.1))
    assert across.fields([near, rising], {})["calendar"]["violation_count"] == 0
    assert across.fields([near, falling], {})["calendar"]["violation_count"] > 0
