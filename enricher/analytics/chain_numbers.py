"""What one option chain says without its prices: put-call ratios, max pain, the money, open-interest walls.

`chain_numbers` gives all of it for a decoded chain, unrounded; the single functions work on plain columns.
Unknown is None, with its reason in ``flags``; a leg that is not there contributes nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from math import isfinite
from operator import add
from typing import Final

import msgspec

from enricher.analytics.columns import INT64, Column, Columns, columns, total
from enricher.analytics.oi_walls import Wall, walls
from enricher.messages.doubts import SPOT_ZERO
from enricher.messages.models import Chain, Leg, Number

AROUND_SPOT: Final = (
    "spot_price", "atm_strike", "atm_straddle_price", "atm_straddle_mid", "call_buildup_otm",
    "put_buildup_otm", "resistance", "support", "resistance_by_change", "support_by_change",
    "max_pain_distance_pct",
)  # fmt: skip
"""The fields that need a spot."""
_TIE = 1e-9
_NO_STRADDLE = "no two-sided quote of call or put at the money"
_NO_LAST = "no last price of call or put at the money"
_UNTRADED = "a last price of 0 of call or put at the money: it was not traded"
_STALE_STRADDLE = "stale quote of call or put at the money"


class MaxPain(msgspec.Struct, frozen=True):
    """The strike where option buyers as a whole are paid least at expiry, and that payment.

    ``pain`` is in price units times units of open interest.
    """

    strike: Number
    pain: float


class ChainNumbers(msgspec.Struct, frozen=True, kw_only=True):
    """Everything `chain_numbers` says of one chain; ``flags`` is {field: reason}.

    Ratios are puts over calls. ``call_buildup_otm`` and ``put_buildup_otm`` are the open interest out of the
    money. ``max_pain_distance_pct`` is in percent of spot, all prices are as sent.
    """

    pcr_oi: float | None
    pcr_volume: float | None
    pcr_oi_change: float | None
    atm_strike: Number | None
    atm_straddle_price: Number | None
    atm_straddle_mid: float | None
    max_pain_strike: Number | None
    max_pain_value: float | None
    max_pain_distance_pct: float | None
    total_call_oi: Number | None
    total_put_oi: Number | None
    total_call_volume: Number | None
    total_put_volume: Number | None
    call_buildup_otm: Number | None
    put_buildup_otm: Number | None
    resistance: tuple[Wall, ...]
    support: tuple[Wall, ...]
    resistance_by_change: tuple[Wall, ...]
    support_by_change: tuple[Wall, ...]
    flags: dict[str, str]


def chain_numbers(chain: Chain, cells: Columns | None = None, no_spot: str | None = None) -> ChainNumbers:
    """All numbers of a chain but those that need prices to be understood.

    ``cells`` are its columns, without stale prices where ages are known (`analytics.staleness`). ``no_spot``
    says why the spot that was sent is none; then what lies around it is None, with this reason.
    """
    strikes, flags = chain.strikes, dict(chain.flags)
    spot = chain.spot if no_spot is None else None
    why = no_spot or SPOT_ZERO.says
    cells = columns(chain) if cells is None else cells
    call_oi, put_oi = cells.calls.oi, cells.puts.oi
    call_change, put_change = cells.calls.oi_change, cells.puts.oi_change

    call_total, put_total = total(call_oi), total(put_oi)
    call_volume, put_volume = total(cells.calls.volume), total(cells.puts.volume)
    _flag_total(flags, "total_call_oi", call_total, call_oi, len(chain.call_at))
    _flag_total(flags, "total_put_oi", put_total, put_oi, len(chain.put_at))
    _flag_ratio(flags, "pcr_oi", put_total, call_total, "open interest")
    _flag_ratio(flags, "pcr_volume", put_volume, call_volume, "volume")

    at_money: Number | None = None
    straddle: Number | None = None
    straddle_mid = None
    if spot is None:
        flags |= dict.fromkeys(AROUND_SPOT, why)
    else:
        at_money = atm_strike(strikes, spot)
        call, put = chain.call_at.get(at_money), chain.put_at.get(at_money)
        straddle = _traded_straddle(call, put)
        at = strikes.index(at_money)
        straddle_mid = _straddle_mid(cells, at)
        if straddle is None:
            untraded = any(leg is not None and leg.last == 0 for leg in (call, put))
            flags["atm_straddle_price"] = _UNTRADED if untraded else _NO_LAST
        if straddle_mid is None:
            stale = at in cells.calls.stale_quotes or at in cells.puts.stale_quotes
            flags["atm_straddle_mid"] = _STALE_STRADDLE if stale else _NO_STRADDLE

    pain = max_pain(strikes, call_oi, put_oi, spot)
    if pain is None:
        flags["max_pain_strike"] = "no open interest"
    elif call_total is None or put_total is None:
        known, unknown = ("puts", "calls") if call_total is None else ("calls", "puts")
        flags["max_pain_strike"] = f"by the {known} alone: no known open interest of the {unknown}"

    call_otm = put_otm = None
    if spot is not None:
        call_otm = _otm(flags, "call_buildup_otm", call_oi[bisect_right(strikes, spot) :], call_total)
        put_otm = _otm(flags, "put_buildup_otm", put_oi[: bisect_left(strikes, spot)], put_total)
    return ChainNumbers(
        pcr_oi=ratio(put_total, call_total),
        pcr_volume=ratio(put_volume, call_volume),
        pcr_oi_change=_ratio_of_gains(total(put_change), total(call_change)),
        atm_strike=at_money,
        atm_straddle_price=straddle,
        atm_straddle_mid=straddle_mid,
        max_pain_strike=pain.strike if pain else None,
        max_pain_value=pain.pain if pain else None,
        max_pain_distance_pct=_distance_pct(pain.strike, spot) if pain and spot else None,
        total_call_oi=call_total,
        total_put_oi=put_total,
        total_call_volume=call_volume,
        total_put_volume=put_volume,
        call_buildup_otm=call_otm,
        put_buildup_otm=put_otm,
        resistance=walls(strikes, call_oi, spot, "resistance"),
        support=walls(strikes, put_oi, spot, "support"),
        resistance_by_change=walls(strikes, call_change, spot, "resistance"),
        support_by_change=walls(strikes, put_change, spot, "support"),
        flags=flags,
    )


def ratio(puts: Number | None, calls: Number | None) -> float | None:
    """puts / calls; None when either is unknown, the calls are 0, or it is beyond a double."""
    if puts is None or not calls:
        return None
    quotient = puts / calls
    return quotient if isfinite(quotient) else None


def pcr(call_oi: Column, put_oi: Column) -> float | None:
    """The put-call ratio: the sum of the puts over that of the calls, by open interest or by volume.

    None where nothing of a side is known or the calls are 0.
    """
    return ratio(total(put_oi), total(call_oi))


def pcr_by_strike(call_oi: Column, put_oi: Column) -> list[float | None]:
    """Put over call open interest at every strike, as `pcr`; infinite where it is beyond a double."""
    return [
        None if put is None or not call else put / call for call, put in zip(call_oi, put_oi, strict=True)
    ]


def max_pain(
    strikes: Sequence[Number], call_oi: Column, put_oi: Column, spot: Number | None = None
) -> MaxPain | None:
    """The strike S that minimises what all options pay if they expire at S; None without OI.

    ``strikes`` ascend; the columns stand beside them. Pain(S) = sum of call OI * max(0, S-K) plus
    sum of put OI * max(0, K-S), S over the listed strikes. Pains within 1e-9 of the least (relative)
    are a tie: nearest to ``spot``, then the lower. Linear: each side's pain grows strike by strike
    by the gap times the open interest passed so far, calls from below and puts from above, so that
    only positive numbers are added and fractional open interest leaves no residue.
    """
    pains = pain_curve(strikes, call_oi, put_oi)
    if pains is None:
        return None
    least = min(pains)
    if not isfinite(least):
        return None
    limit = least * (1 + _TIE)
    tied = [strike for strike, pain in zip(strikes, pains, strict=True) if pain <= limit]
    best = tied[0] if spot is None or len(tied) == 1 else atm_strike(tied, spot)
    return MaxPain(best, pains[strikes.index(best)])


def pain_curve(strikes: Sequence[Number], call_oi: Column, put_oi: Column) -> list[float] | None:
    """What all options pay if they expire at each strike, see `max_pain`; None without open interest."""
    at = list(map(float, strikes))
    from_below = _pains(at, call_oi)
    from_above = _pains([-strike for strike in reversed(at)], put_oi[::-1])
    if from_above is None:
        return from_below
    from_above.reverse()
    return from_above if from_below is None else list(map(add, from_below, from_above))


def atm_strike(strikes: Iterable[Number], spot: Number) -> Number:
    """The strike nearest to ``spot``, the lower of two equally near; ValueError without strikes.

    Equally near allows for the last digits of decimals that binary cannot show (1e-9 of the gap).
    """
    ascending = sorted(strikes)
    if not ascending:
        raise ValueError("no strikes, so none is nearest to spot")
    after = bisect_left(ascending, spot)
    if after == 0 or after == len(ascending):
        return ascending[min(after, len(ascending) - 1)]
    lower, upper = ascending[after - 1], ascending[after]
    nearer = (spot - lower) - (upper - spot)
    return upper if nearer > _TIE * (upper - lower) else lower


def _middle(bid: Number | None, ask: Number | None) -> float | None:
    return None if bid is None or ask is None or not 0 < bid <= ask else (bid + ask) / 2


def _straddle_mid(cells: Columns, at: int) -> float | None:
    call = _middle(cells.calls.bid[at], cells.calls.ask[at])
    put = _middle(cells.puts.bid[at], cells.puts.ask[at])
    return None if call is None or put is None else call + put


def _pains(strikes: Sequence[float], oi: Column) -> list[float] | None:
    """What this side is paid at each strike, walking up; None without any open interest."""
    pain = passed = 0.0
    before = strikes[0] if strikes else 0.0
    pains = []
    for here, held in zip(strikes, oi, strict=True):
        pain += (here - before) * passed
        pains.append(pain)
        before = here
        if held:
            passed += held
    return pains if passed > 0 else None


def _traded_straddle(call: Leg | None, put: Leg | None) -> Number | None:
    """Call plus put by last price; None unless both have one above 0, for nothing is traded at 0."""
    if not (call and put and call.last and put.last):
        return None
    amount = call.last + put.last
    return amount if amount < INT64 else float(amount)


def _ratio_of_gains(puts: Number | None, calls: Number | None) -> float | None:
    """A ratio of changes means something only while both sides grow."""
    return ratio(puts, calls) if puts and calls and puts > 0 and calls > 0 else None


def _distance_pct(strike: Number, spot: Number) -> float | None:
    distance = (strike - spot) / spot * 100
    return distance if isfinite(distance) else None


def _otm(flags: dict[str, str], field: str, oi: Column, whole: Number | None) -> Number | None:
    """Open interest out of the money: 0 only when the side is known and has nothing out there."""
    amount = total(oi)
    if amount is None and whole is not None and not oi:
        return 0
    if amount is None:
        flags[field] = "no known open interest out of the money"
    return amount


def _flag_total(flags: dict[str, str], field: str, amount: Number | None, oi: Column, legs: int) -> None:
    if amount is None:
        flags[field] = "no leg has a known open interest"
    elif unknown := legs - len(oi) + oi.count(None):
        flags[field] = f"unknown at {unknown} of {legs} legs"


def _flag_ratio(
    flags: dict[str, str], field: str, puts: Number | None, calls: Number | None, what: str
) -> None:
    if puts is None or calls is None:
        flags[field] = f"no known {what} of the {'calls' if calls is None else 'puts'}"
    elif not calls:
        flags[field] = f"the {what} of the calls is 0"
