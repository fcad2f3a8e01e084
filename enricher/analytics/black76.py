"""Black's formula of 1976 on the forward: option prices, implied volatilities and Greeks.

Everywhere ``kind`` is +1 for a call and -1 for a put, ``forward`` and ``strike`` are prices of the
underlying above 0, ``years`` is the time to expiry in years of 365 days, ``sigma`` a decimal per year
(0.25 is 25 %), ``discount`` is exp(-rate * years). What cannot be known is None, with its reason in
snake_case. ``solve_side``, ``greeks_side`` and ``chain_greeks`` do whole columns of a chain.

Sources: F. Black, The pricing of commodity contracts, 1976; J. Hull, Options, Futures, and Other
Derivatives, for the Greeks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import erfc, exp, inf, log1p, pi, sqrt
from typing import Final

import msgspec

from enricher.analytics.normalised_black import time_value, total_volatility

Values = Sequence[float | None]
Column = list[float | None]
# strike, F - K, ln(F/K), its magnitude a, the smaller of F and K, e^(a/2)
Ladder = list[tuple[float, float, float, float, float, float]]

NEAR_EXPIRY_YEARS: Final = 300 / (365 * 86400)
"""Closer to expiry than this (5 minutes) every number is true to the formula and worth little."""
LEAST_SIGMA: Final = 0.001
MOST_SIGMA: Final = 10.0

_R: Final = sqrt(0.5)
_C: Final = 1 / sqrt(2 * pi)
_NOISE: Final = 64 * 2.0**-52  # what rounding leaves of a time value, as a share of the price
_FARTHEST: Final = 500.0  # |ln(F/K)| that still has a finite exponential
_LEAST: Final = 1e-100  # of forwards and strikes; products of them stay finite
_MOST: Final = 1e100


class Greeks(msgspec.Struct, frozen=True):
    """The sensitivities of one option, in traders' units.

    ``delta`` and ``gamma`` are per unit of the forward, ``delta_spot`` per unit of spot (delta * F/S; None
    without a spot); ``vega`` per volatility point, ``theta`` per calendar day with the forward held (no
    more than the time value is lost), ``rho`` per 1 % of rate with spot and yield held.
    """

    delta: float
    delta_spot: float | None
    gamma: float
    vega: float
    theta: float
    rho: float


class GreekColumns(msgspec.Struct, frozen=True):
    """Calls or puts of a chain as columns beside the strikes; ``reasons`` is {index: reason}.

    An index with a volatility and a reason is flagged (``out_of_range``); without one it is unknown.
    """

    iv: Column
    delta: Column
    delta_spot: Column
    gamma: Column
    vega: Column
    theta: Column
    rho: Column
    reasons: dict[int, str]


def expiry_flag(years: float) -> str | None:
    """``expired`` from expiry on, ``near_expiry`` in its last 5 minutes, else None."""
    return "expired" if years <= 0 else "near_expiry" if years < NEAR_EXPIRY_YEARS else None


def price(kind: int, forward: float, strike: float, years: float, sigma: float, discount: float) -> float:
    """The discounted price; the time value in it is right to about 1e-11 of itself, however small.

    Expired (``years`` <= 0) or without volatility it is the discounted intrinsic value.
    """
    intrinsic = max(kind * (forward - strike), 0.0)
    s = sigma * sqrt(years) if years > 0 else 0.0
    if s <= 0:
        return discount * intrinsic
    small, big = (forward, strike) if forward < strike else (strike, forward)
    return discount * (intrinsic + small * time_value(log1p((big - small) / small), s))


def implied_volatility(
    kind: int,
    price: float | None,
    forward: float,
    strike: float,
    years: float,
    discount: float,
    guess: float | None = None,
) -> tuple[float | None, str | None]:
    """The volatility at which Black's formula gives this price, and why there is none or a doubtful one.

    ``guess`` is a volatility to start from; without one the start is as good as one right to 0.1 %. The
    error is below 1e-12 of the result out of the money; in the money it is at least eps * price / vega,
    because only the time value tells, and the price holds that to eps * price. Without a value the reason is
    ``expired``, ``no_forward``, ``no_discount``, ``no_price``, ``below_intrinsic``, ``no_time_value``,
    ``above_maximum`` or ``far_strike``; with one it may be ``out_of_range``, outside [0.1 %, 1000 %].
    """
    sigmas, reasons = solve_side(kind, [strike], [price], forward, years, discount, [guess])
    return sigmas[0], reasons.get(0)


def solve_side(
    kind: int,
    strikes: Sequence[float],
    prices: Values,
    forward: float,
    years: float,
    discount: float,
    guesses: Values | None = None,
) -> tuple[Column, dict[int, str]]:
    """``implied_volatility`` of every price beside its strike, and {index: reason}."""
    if blocked := _blocked(forward, years, discount):
        return [None] * len(strikes), dict.fromkeys(range(len(strikes)), blocked)
    return _solved(kind, _ladder(strikes, forward), prices, years, discount, guesses)


def _ladder(strikes: Sequence[float], forward: float) -> Ladder:
    """What calls and puts of a strike have in common, for a whole chain."""
    rungs: Ladder = []
    for strike in strikes:
        above = forward - strike
        if above > 0:
            ratio = above / strike if strike > 0 else inf
            a = x = log1p(ratio)
            small = strike
        else:
            ratio = -above / forward
            a = log1p(ratio)
            x, small = -a, forward
        rungs.append((strike, above, x, a, small, sqrt(1 + ratio)))
    return rungs


def _solved(
    kind: int, ladder: Ladder, prices: Values, years: float, discount: float, guesses: Values | None
) -> tuple[Column, dict[int, str]]:
    """`solve_side` where there is a forward, a discount and time left."""
    root = sqrt(years)
    sigmas: Column = []
    reasons: dict[int, str] = {}
    at = -1
    for (_, above, _, a, small, up), price in zip(ladder, prices, strict=True):
        at += 1
        sigma = None
        if price is None or not price < inf:
            reasons[at] = "no_price"
        else:
            worth = price / discount
            above *= kind
            value = worth - above if above > 0 else worth
            noise = _NOISE * worth
            if noise < value < small - noise and a <= _FARTHEST and (beta := value / (small * up)) > 0:
                guess = guesses[at] if guesses is not None else None
                sigma = total_volatility(beta, a, up, guess * root if guess else 0.0) / root
                if not LEAST_SIGMA <= sigma <= MOST_SIGMA:
                    reasons[at] = "out_of_range"
            elif value <= noise:
                reasons[at] = "no_time_value" if value >= -noise else "below_intrinsic"
            elif value >= small - noise:
                reasons[at] = "above_maximum"
            else:  # the time value of a near strike may be less than a double can hold
                reasons[at] = "far_strike" if a > _FARTHEST else "no_time_value"
        sigmas.append(sigma)
    return sigmas, reasons


def greeks(
    kind: int,
    forward: float,
    strike: float,
    years: float,
    sigma: float,
    discount: float,
    rate: float,
    spot: float | None = None,
) -> Greeks | None:
    """The Greeks of one option; None once it is expired or without a forward or a volatility."""
    return greeks_at(greeks_side(kind, [strike], [sigma], forward, years, discount, rate, spot), 0)


def greeks_at(side: GreekColumns, at: int) -> Greeks | None:
    """The Greeks of one place of a side; None where there are none."""
    delta, gamma, vega = side.delta[at], side.gamma[at], side.vega[at]
    theta, rho = side.theta[at], side.rho[at]
    if delta is None or gamma is None or vega is None or theta is None or rho is None:
        return None
    return Greeks(delta, side.delta_spot[at], gamma, vega, theta, rho)


def greeks_side(
    kind: int,
    strikes: Sequence[float],
    sigmas: Values,
    forward: float,
    years: float,
    discount: float,
    rate: float,
    spot: float | None = None,
) -> GreekColumns:
    """The Greeks at every strike where ``sigmas`` has a volatility > 0, None elsewhere.

    With d1 = ln(F/K)/s + s/2 and d2 = d1 - s: delta = +-D N(+-d1), gamma = D phi(d1)/(F s),
    vega = D F phi(d1) sqrt(T)/100, theta = (-D F phi(d1) sigma/(2 sqrt(T)) + r price)/365,
    rho = +-K T D N(+-d2)/100.
    """
    if blocked := _blocked(forward, years, discount):
        return _unknown(sigmas, blocked)
    return _sensitivities(kind, _ladder(strikes, forward), sigmas, forward, years, discount, rate, spot)


def _sensitivities(
    kind: int,
    ladder: Ladder,
    sigmas: Values,
    forward: float,
    years: float,
    discount: float,
    rate: float,
    spot: float | None,
) -> GreekColumns:
    """`greeks_side` where there is a forward, a discount and time left."""
    empty: Column = [None] * len(ladder)
    delta, gamma, vega, theta, rho = empty[:], empty[:], empty[:], empty[:], empty[:]
    reasons: dict[int, str] = {}
    root = sqrt(years)
    r, half = _R * kind, 0.5 * kind * discount
    of_phi, of_vega = discount * _C, forward * root / 100
    of_decay, of_rho = forward / (2 * root), years / 100
    at = -1
    for (strike, above, x, _, _, _), sigma in zip(ladder, sigmas, strict=True):
        at += 1
        if sigma is None or not 1e-9 < sigma < 1e3 or not _LEAST < strike < _MOST:
            reasons[at] = "no_volatility"
            continue
        s = sigma * root
        d1 = x / s + 0.5 * s
        phi = of_phi * exp(-0.5 * d1 * d1)
        held = half * erfc(-r * d1)
        owed = half * strike * erfc(r * (s - d1))
        worth = held * forward - owed
        decay = (rate * worth - of_decay * phi * sigma) / 365
        if decay < 0:
            above *= kind
            left = worth - discount * above if above > 0 else worth
            if decay < -left:
                decay = -left if left > 0 else 0.0
        delta[at] = held
        gamma[at] = phi / (forward * s)
        vega[at] = of_vega * phi
        theta[at] = decay
        rho[at] = of_rho * owed
    factor = forward / spot if spot else None
    delta_spot = empty if factor is None else [None if d is None else d * factor for d in delta]
    return GreekColumns(list(sigmas), delta, delta_spot, gamma, vega, theta, rho, reasons)


def chain_greeks(
    strikes: Sequence[float],
    call_prices: Values,
    put_prices: Values,
    forward: float,
    years: float,
    discount: float,
    rate: float,
    spot: float | None = None,
) -> tuple[GreekColumns, GreekColumns]:
    """Volatilities and Greeks of all calls and all puts, each leg from its own price."""
    if blocked := _blocked(forward, years, discount):
        none: Column = [None] * len(strikes)
        return _unknown(none, blocked), _unknown(none, blocked)
    ladder = _ladder(strikes, forward)
    sides = []
    for kind, prices in ((1, call_prices), (-1, put_prices)):
        sigmas, reasons = _solved(kind, ladder, prices, years, discount, None)
        side = _sensitivities(kind, ladder, sigmas, forward, years, discount, rate, spot)
        side.reasons.update(reasons)
        sides.append(side)
    return sides[0], sides[1]


def _unknown(sigmas: Values, reason: str) -> GreekColumns:
    """The columns of a side of which nothing can be computed."""
    unknown: Column = [None] * len(sigmas)
    reasons = dict.fromkeys(range(len(sigmas)), reason)
    return GreekColumns(
        list(sigmas), unknown[:], unknown[:], unknown[:], unknown[:], unknown[:], unknown[:], reasons
    )


def _blocked(forward: float, years: float, discount: float) -> str | None:
    """Why nothing of a whole chain can be computed."""
    if not years > 0:
        return "expired"
    if not _LEAST < forward < _MOST:
        return "no_forward"
    return None if 1e-9 < discount < 1e9 and years < 1e5 else "no_discount"
