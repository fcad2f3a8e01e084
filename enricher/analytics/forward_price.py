"""The forward of an expiry, the straddle at the money, and the move that the options expect.

Columns stand beside ascending ``strikes``; a mid is None where a leg has no two-sided quote. Prices, strikes,
spot and forward share one unit, ``discount`` is D = exp(-rate * years). Put-call parity: C - P = D (F - K)
(Stoll 1969; Hull, Options, Futures, and Other Derivatives). It holds for European options; for American ones
`american.parity_forward` corrects it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, isfinite, sqrt
from statistics import median
from typing import Literal

import msgspec

from enricher.analytics.chain_numbers import atm_strike
from enricher.analytics.columns import Column

ForwardSource = Literal["future", "parity", "carry"]

_MOST, _LEAST = 5, 3


class Forward(msgspec.Struct, frozen=True, gc=False):
    """A forward price, where it came from and, for parity, at which strikes (ascending).

    ``value`` is None exactly when ``reason`` says why: ``no_parity_pair``.
    """

    value: float | None
    source: ForwardSource | None = None
    strikes: tuple[float, ...] = ()
    reason: str | None = None


class ExpectedMove(msgspec.Struct, frozen=True, gc=False):
    """What the options expect the price to move until expiry, in price units, either way.

    ``straddle`` costs call and put at ``strike``, by mid; it is about the mean absolute move, so it is the
    ``expected_move`` too. ``one_sigma`` is F sigma sqrt(T); ``low`` and ``high`` are the forward less and
    plus the expected move. Once expired there is no move to expect, whatever the straddle is still quoted
    at. ``reason`` says why something is None, the first that applies of ``no_spot``,
    ``no_straddle``, ``expired``, ``no_forward`` and ``no_atm_iv``.
    """

    strike: float | None
    straddle: float | None
    expected_move: float | None
    one_sigma: float | None
    low: float | None
    high: float | None
    reason: str | None


def parity_forward(
    strikes: Sequence[float],
    call_mids: Column,
    put_mids: Column,
    discount: float,
    spot: float,
    in_underlying: bool = False,
) -> Forward:
    """The forward by put-call parity: the median of K + (C - P) / D over the strikes nearest to the money.

    The strike of least |C - P| (ties: nearest spot, then lower) is the middle; with it count its nearest
    neighbours that have both mids, five in all, or three where there are less than five. With one or two
    pairs the strike of least |C - P| counts alone.

    With ``in_underlying`` the mids are in units of the underlying: c = C / F and p = P / F, so that parity
    says F = K / (1 - (c - p) / D). A pair that allows no such F does not count.
    """
    differences: list[float] = []
    paired: list[float] = []
    for strike, call, put in zip(strikes, call_mids, put_mids, strict=True):
        if call is not None and put is not None and not (in_underlying and call - put >= discount):
            paired.append(strike)
            differences.append(call - put)
    if not paired:
        return Forward(None, reason="no_parity_pair")
    least = min(map(abs, differences))
    tied = [at for at, difference in enumerate(differences) if abs(difference) == least]
    middle = tied[0] if len(tied) == 1 else min(tied, key=lambda at: abs(paired[at] - spot))
    first, end = _nearest(paired, middle)
    if in_underlying:
        values = [paired[at] / (1.0 - differences[at] / discount) for at in range(first, end)]
    else:
        values = [paired[at] + differences[at] / discount for at in range(first, end)]
    value = median(values) if len(values) > 1 else values[0]
    return Forward(value, "parity", tuple(paired[first:end]))


def forward(
    strikes: Sequence[float],
    call_mids: Column,
    put_mids: Column,
    *,
    spot: float,
    years: float,
    rate: float = 0.0,
    dividend_yield: float | None = 0.0,
    dividends: float = 0.0,
    future: float | None = None,
    in_underlying: bool = False,
) -> Forward:
    """The best forward there is: the price of the ``future`` of this expiry, else by parity, else by carry.

    Carry is (spot - dividends) exp((rate - dividend_yield) years), and spot itself once expired, where
    ``dividends`` is the present value of those paid in cash until then. A ``dividend_yield`` of None and a
    spot that is not above the dividends forbid it. A future counts when it is positive and finite.
    ``in_underlying`` is of the mids, as in `parity_forward`.
    """
    if future is not None and future > 0 and isfinite(future):
        return Forward(future, "future")
    left = max(years, 0.0)
    by_parity = parity_forward(strikes, call_mids, put_mids, exp(-rate * left), spot, in_underlying)
    if by_parity.value is not None and by_parity.value > 0:
        return by_parity
    if dividend_yield is None or not spot > dividends:
        return Forward(None, reason="no_parity_pair")
    return Forward((spot - dividends) * exp((rate - dividend_yield) * left), "carry")


def straddle(strikes: Sequence[float], call_mids: Column, put_mids: Column, strike: float) -> float | None:
    """Call plus put at one of the strikes, by mid; None unless both have one."""
    if strike not in strikes:
        raise ValueError(f"strike is {strike!r}: expected one of the strikes")
    at = strikes.index(strike)
    call, put = call_mids[at], put_mids[at]
    return None if call is None or put is None else call + put


def one_sigma(forward: float, sigma: float, years: float) -> float:
    """One standard deviation of the price at expiry, F sigma sqrt(T), in price units; 0 once expired."""
    return forward * sigma * sqrt(max(years, 0.0))


def expected_move(
    strikes: Sequence[float],
    call_mids: Column,
    put_mids: Column,
    *,
    spot: float | None,
    years: float,
    forward: float | None = None,
    atm_iv: float | None = None,
) -> ExpectedMove:
    """The straddle at the strike nearest to spot, and the one-sigma move of the volatility at the money.

    ``atm_iv`` is a decimal a year. ValueError without strikes.
    """
    strike = cost = None
    if spot is not None:
        strike = atm_strike(strikes, spot)
        cost = straddle(strikes, call_mids, put_mids, strike)
    sigma = low = high = None
    if years > 0 and forward is not None and cost is not None:
        low, high = forward - cost, forward + cost
    if years > 0 and forward is not None and atm_iv is not None:
        sigma = one_sigma(forward, atm_iv, years)
    reason = None
    if spot is None:
        reason = "no_spot"
    elif cost is None:
        reason = "no_straddle"
    elif years <= 0:
        reason = "expired"
    elif forward is None:
        reason = "no_forward"
    elif atm_iv is None:
        reason = "no_atm_iv"
    return ExpectedMove(strike, cost, cost if years > 0 else None, sigma, low, high, reason)


def _nearest(paired: Sequence[float], middle: int) -> tuple[int, int]:
    """The range of the five (else three, else one) neighbouring strikes nearest to the one in the middle."""
    count = len(paired)
    wanted = _MOST if count >= _MOST else _LEAST if count >= _LEAST else 1
    first, end = middle, middle + 1
    while end - first < wanted:
        below = paired[middle] - paired[first - 1] if first else None
        above = paired[end] - paired[middle] if end < count else None
        if above is None or (below is not None and below <= above):
            first -= 1
        else:
            end += 1
    return first, end
