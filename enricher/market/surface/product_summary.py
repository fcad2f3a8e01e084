"""A product as a whole: what the newest chains of its live expiries say together, as of the newest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from enricher.analytics.oi_walls import WallSide, walls
from enricher.market.documents import wall_fields
from enricher.market.reasons import BEYOND
from enricher.market.serialisation import Fields
from enricher.market.surface.expiry_snapshot import Remembered, front, ratios, sums, to_month
from enricher.market.surface.strike_interest import Held
from enricher.messages.models import Number

if TYPE_CHECKING:
    from enricher.market.state.product_state import ProductState

_TOTALS = ("total_call_oi", "total_put_oi", "total_call_volume", "total_put_volume")
_JOINED = ("pcr_oi", "pcr_volume", "iv_30d", "variance_swap_30d")
_OTHERS = ("front_expiry", "front_atm_iv", "term", "resistance", "support")


def whole(state: ProductState, timestamp: str, moment_us: int) -> Fields | None:
    """What is shown of a product at the moment of its newest chain; None when no expiry is in.

    In are the live expiries whose newest chain is of the last `market.expiry_window`.
    """
    since = moment_us - state.spans.expiry_us
    rows = [
        one
        for _, one in sorted(state.known.items())
        if since < one.event_us <= moment_us and state.contract.expiry_us(one.expiry) > moment_us
    ]
    if not rows:
        return None
    newest = max(rows, key=_event_us)
    fields: Fields = {
        "product": state.product,
        "timestamp": timestamp,
        "spot_price": state.spot,
        "expiries": len(rows),
        "expected": state.expected(newest, newest.event_us, rows),
    }
    try:
        return fields | _numbers(state, rows, moment_us)
    except (ArithmeticError, ValueError):
        names = (*_TOTALS, *_JOINED, *_OTHERS)
        return fields | dict.fromkeys(names) | {"flags": dict.fromkeys(names, BEYOND)}


def _numbers(state: ProductState, rows: Sequence[Remembered], moment_us: int) -> Fields:
    joined, totals = state.across.joined(rows, moment_us), sums(rows)
    month = to_month(joined.rows, joined.money, moment_us)
    iv_reason = month.pop("iv_30d_reason")
    expiry, atm_iv = front(joined.rows) or (None, None)
    calls, puts = state.interest.of(rows)
    fields: Fields = {
        **dict(zip(_TOTALS, totals, strict=True)),
        **ratios(totals),
        **month,
        "front_expiry": expiry,
        "front_atm_iv": atm_iv,
        "term": joined.term,
        "resistance": _walls(calls, state.spot, "resistance"),
        "support": _walls(puts, state.spot, "support"),
    }
    flags: dict[str, str] = {}
    for name, what in (("oi", "open interest"), ("volume", "volume")):
        for side in ("call", "put"):
            if fields[f"total_{side}_{name}"] is None:
                flags[f"total_{side}_{name}"] = f"no known {what} of the {side}s"
        if fields[f"pcr_{name}"] is None:
            flags[f"pcr_{name}"] = f"no known {what} of calls or of puts, or 0 of the calls"
    if atm_iv is None:
        flags["front_expiry"] = flags["front_atm_iv"] = "no expiry has a volatility at the money"
    if fields["iv_30d"] is None:
        flags["iv_30d"] = iv_reason
    return {**fields, "flags": flags}


def _walls(held: Held, spot: Number | None, side: WallSide) -> list[dict[str, Any]]:
    """The largest open interest by strike."""
    if spot is None:
        return []
    strikes = sorted(held)
    return wall_fields(walls(strikes, [held[strike] for strike in strikes], spot, side))


def _event_us(one: Remembered) -> int:
    return one.event_us
