"""What is remembered of the last chain of each expiry, and what the expiries of a product say together.

It is made from what was stored of a chain, also while the chain is still in hand, so that a restart, which
reads it back, changes no number. Volatilities of nodes are stored to 8 decimals for its sake.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import log
from typing import Any, Final

import msgspec

from enricher.market import term, variance
from enricher.market.analytics import price_scale
from enricher.market.arbitrage import ChainQuotes
from enricher.market.chain import ratio, total
from enricher.market.columns import columns
from enricher.market.contracts import Contract
from enricher.market.models import Chain, Number
from enricher.market.prices import Unit
from enricher.market.report import Fields, rounded
from enricher.market.smile import Smile

MONTH_DAYS: Final = 30

Totals = tuple[Number | None, Number | None, Number | None, Number | None]


class Remembered(msgspec.Struct, frozen=True):
    """The last chain of one expiry: ``totals`` are call and put open interest, call and put volume.

    ``row`` is what the surface shows of it. ``said`` is what it said of the product as a whole, by measure.
    """

    expiry: str
    event_us: int
    totals: Totals
    forward: float | None
    discount: float
    smile: Smile
    strip: variance.Strip
    quotes: ChainQuotes
    unit: Unit | None
    row: Fields
    said: dict[str, float | None]


def remember(chain: Chain, fields: Mapping[str, Any], contract: Contract) -> Remembered | None:
    """What later chains and the surface need of this one; ``fields`` are as stored. None if unanalysed."""
    found, t = fields.get("smile"), fields.get("years")
    if not isinstance(found, Mapping) or t is None:
        return None
    ahead, swap = fields["forward"]["price"], fields["variance_swap"]
    cells = columns(chain, price_scale(contract, chain.spot_price))
    return Remembered(
        expiry=chain.expiry,
        event_us=chain.event_us,
        totals=(
            fields["total_call_oi"],
            fields["total_put_oi"],
            fields["total_call_volume"],
            fields["total_put_volume"],
        ),
        forward=ahead,
        discount=fields["discount"],
        smile=_smile(found["strikes"], found["ivs"], ahead, t),
        strip=variance.Strip(t, variance=swap["variance"], truncated=swap["truncated"]),
        quotes=ChainQuotes(
            cells.strikes, cells.calls.bid, cells.calls.ask, cells.puts.bid, cells.puts.ask
        ),
        unit=fields["conventions"]["vendor_iv"],
        row={
            "as_of": chain.event_us,
            "years": t,
            "forward": ahead,
            "smile": found,
            "variance_swap": swap["volatility"],
            "arbitrage": fields["arbitrage"],
        },
        said={name: one["value"] for name, one in fields.get("standing", {}).items()},
    )


def together(now: Iterable[Remembered], today: Iterable[Remembered]) -> Fields:
    """The numbers that all expiries make together.

    Put-call ratios over the chains of ``today`` (the sums first), volatilities to 30 days over those of
    ``now``, the last minutes, when two of their expiries bracket 30 days.
    """
    rows = list(now)
    calls, puts, call_volume, put_volume = (
        total(one.totals[at] for one in today) for at in range(4)
    )
    years, ws = term.at_moneyness(one.smile for one in rows if one.smile.reason is None)
    at_money = term.constant_maturity(years, ws, MONTH_DAYS)
    swap = variance.constant_maturity([one.strip for one in rows], MONTH_DAYS / term.YEAR_DAYS)
    return {
        "expiries": len(rows),
        "pcr_oi": ratio(puts, calls),
        "pcr_volume": ratio(put_volume, call_volume),
        "iv_30d": rounded(at_money.iv),
        "iv_30d_reason": at_money.reason,
        "variance_swap_30d": {
            "volatility": rounded(swap.volatility),
            "near": rounded(swap.near, 10),
            "far": rounded(swap.far, 10),
            "truncated": swap.truncated,
            "reason": swap.reason,
        },
    }


def _smile(
    strikes: Sequence[float], ivs: Sequence[float], forward: float | None, t: float
) -> Smile:
    if t <= 0 or not forward or not strikes:
        reason = "expired" if t <= 0 else "no_forward" if not forward else "no_nodes"
        return Smile(forward, t, [], [], [], [], {}, reason)
    ks = [log(strike / forward) for strike in strikes]
    return Smile(forward, t, list(strikes), ks, [iv * iv * t for iv in ivs], list(ivs), {}, None)
