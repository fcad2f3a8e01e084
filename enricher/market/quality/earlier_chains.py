"""Where a chain contradicts those before it: in the unit of its open interest, or the scale of strikes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from enricher.analytics.chain_doubts import oi_jump
from enricher.analytics.contracts import Contract
from enricher.analytics.position_buildup import Buildup
from enricher.messages import doubts
from enricher.messages.models import Chain, Number

_SCALES: Final = 20.0
"""Times, or a part: strikes and forwards of one product that differ by more are of two scales."""


def unit_changed(
    change: Buildup | None, chain: Chain, contract: Contract, totals: Sequence[Number | None]
) -> str | None:
    """Why a build-up is none: the open interest it compares is counted in two units.

    ``totals`` are those of calls and puts now.
    """
    if change is None:
        return None
    changes = [each for each in (change.call_oi_change, change.put_oi_change) if each is not None]
    held = [each for each in totals if each is not None]
    if not changes or not held:
        return None
    lot = contract.lot_of(chain.expiry)
    times = oi_jump(sum(held), sum(changes), lot)
    return None if times is None else doubts.OI_JUMPED.of(times=rounded(times), lot=lot)


def flag_scale(chain: Chain, before: Sequence[Number] | None, flags: dict[str, str]) -> None:
    """Says in ``flags`` that the strikes are of another scale than those of the chain before."""
    if not before:
        return
    middle, was = chain.strikes[len(chain.strikes) // 2], before[len(before) // 2]
    if not same_scale(middle, was):
        doubts.SCALE_JUMPED.put(flags, times=rounded(middle / was))


def same_scale(one: float | None, other: float | None) -> bool:
    """Whether two prices of one product may be of one scale; they may where one is not known."""
    return not one or not other or other / _SCALES < one < other * _SCALES


def rounded(times: float) -> float:
    """A factor as it is shown: two digits."""
    return float(f"{times:.2g}")
