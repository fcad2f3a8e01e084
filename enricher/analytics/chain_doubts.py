"""What one chain says that can hardly be meant, besides its prices (`enricher.analytics.chain_prices`)."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain as joined
from typing import Final

from enricher.analytics.columns import Columns
from enricher.analytics.contracts import Contract
from enricher.messages import doubts
from enricher.messages.models import Chain, Number

_LEAST: Final = 5  # legs with open interest that tell what it is counted in
_JUMP: Final = 10.0
_ABOUT: Final = 1.25


def chain_doubts(chain: Chain, cells: Columns, contract: Contract) -> dict[str, str]:
    """{field: reason} of the open interest and the expiry of a chain."""
    flags: dict[str, str] = {}
    if chain.event_us >= contract.expiry_us(chain.expiry):
        doubts.EXPIRED.put(flags)
    lot = contract.lot_of(chain.expiry)
    if lot > 1:
        held = joined(cells.calls.oi, cells.puts.oi)
        if contract.oi_unit == "units":
            if _few_multiples(held, lot):
                doubts.OI_IN_CONTRACTS.put(flags, lot=lot)
        elif chain.oi_unit is None and not contract.oi_stated and _all_multiples(held, lot):
            doubts.OI_IN_UNITS.put(flags, lot=lot)
    return flags


def oi_jump(now: Number | None, change: Number | None, lot: float) -> float | None:
    """How many times the open interest before, if that is about a lot or its inverse; None where it is not.

    ``now`` and its ``change`` since then are sums over the same legs. Between two snapshots open interest
    does not grow by the factor of a lot, so it is counted in another unit.
    """
    if not now or change is None or lot < _JUMP or now - change <= 0:
        return None
    times = now / (now - change)
    if times >= _JUMP:
        return times if lot / _ABOUT <= times <= lot * _ABOUT else None
    return times if times <= 1 / _JUMP and 1 / (lot * _ABOUT) <= times <= _ABOUT / lot else None


def _all_multiples(held: Iterable[Number | None], lot: float) -> bool:
    count = 0
    for amount in held:
        if amount:
            if amount % lot:
                return False
            count += 1
    return count >= _LEAST


def _few_multiples(held: Iterable[Number | None], lot: float) -> bool:
    amounts = [amount for amount in held if amount]
    return len(amounts) >= _LEAST and sum([not amount % lot for amount in amounts]) * 2 < len(amounts)
