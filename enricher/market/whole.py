"""A product as a whole: what the newest chains of its live expiries say together, as of the newest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from enricher.market.across import term_fields
from enricher.market.chain import total, walls
from enricher.market.models import Number
from enricher.market.reasons import BEYOND
from enricher.market.remembered import Remembered, front, seen, together
from enricher.market.report import Fields
from enricher.market.stored import wall_fields

if TYPE_CHECKING:
    from enricher.market.state import ProductState

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
        return fields | _numbers(rows, state.spot, moment_us, fields["expected"])
    except (ArithmeticError, ValueError):
        names = (*_TOTALS, *_JOINED, *_OTHERS)
        return fields | dict.fromkeys(names) | {"flags": dict.fromkeys(names, BEYOND)}


def _numbers(rows: Sequence[Remembered], spot: Number | None, moment_us: int, expected: int) -> Fields:
    joined = together(rows, rows, moment_us, expected)
    expiry, atm_iv = front(rows, moment_us) or (None, None)
    fields: Fields = {name: total(one.totals[at] for one in rows) for at, name in enumerate(_TOTALS)}
    fields |= {name: joined[name] for name in _JOINED}
    fields |= {
        "front_expiry": expiry,
        "front_atm_iv": atm_iv,
        "term": term_fields([seen(one, moment_us) for one in rows], moment_us),
        "resistance": _walls(rows, spot, "resistance"),
        "support": _walls(rows, spot, "support"),
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
        flags["iv_30d"] = joined["iv_30d_reason"]
    return {**fields, "flags": flags}


def _walls(rows: Sequence[Remembered], spot: Number | None, side: Any) -> list[dict[str, Any]]:
    """The largest open interest by strike, that of all expiries added."""
    held: dict[Number, Number] = {}
    for one in rows:
        column = one.oi[0] if side == "resistance" else one.oi[1]
        for strike, amount in zip(one.quotes.strikes, column, strict=True):
            if amount is not None:
                held[strike] = held.get(strike, 0) + amount
    strikes = sorted(held)
    return [] if spot is None else wall_fields(
        walls(strikes, [held[strike] for strike in strikes], spot, side)
    )


def _event_us(one: Remembered) -> int:
    return one.event_us
