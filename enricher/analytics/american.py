"""American options on a stock with dividends, by yield or in cash: prices, implied volatilities, Greeks.

``kind`` is +1 for a call, -1 for a put; the forward is F = (S - D) e^((r - q) T), D the present value of the
dividends in cash. An American option is worth the European one (`enricher.analytics.black76`) and the premium
for early exercise (`early_premium`), and never less than exercise pays. Greeks have the units and conventions
of `black76.Greeks`: delta, gamma and theta on the forward, rho with spot and dividends held.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log, sqrt
from statistics import median
from typing import Final

import msgspec

from enricher.analytics import black76
from enricher.analytics.black76 import Column, GreekColumns, Values
from enricher.analytics.dividend_lattice import Dividends, present_value
from enricher.analytics.early_premium import Premium, of_cash, of_yield
from enricher.analytics.exercise_boundary import FINE, QUICK, Scheme
from enricher.analytics.forward_price import Forward
from enricher.analytics.steps import Steps, at_once

MOST_YIELD: Final = 0.5
"""Dividend yields that a forward may imply, a year and either way; beyond them it is the spot that is off."""
TWO_BOUNDARIES: Final = "negative_rate"

_NOISE: Final = 1e-12
_LEAST_LEFT: Final = 2e-5
"""Share of the strike that an option in the money must be worth beyond exercise to tell a volatility."""
_MOST_STEPS: Final = 30
_NEXT_TO_NOTHING: Final = 0.01  # of volatility
_MOST_FORWARDS: Final = 6
_AT_ONE_SIGMA: Final = QUICK._replace(step=0.0)
_OF_SIGMA, _OF_RATE = 1e-3, 2e-4  # changes by which derivatives are taken


class Terms(msgspec.Struct, frozen=True, gc=False):
    """What all options of one expiry share; ``rest`` and ``forward`` agree on ``dividend_yield``.

    ``rest`` is ``spot`` without the present value of the ``dividends`` (years from now, amount) to expiry.
    """

    spot: float
    rest: float
    forward: float
    years: float
    rate: float
    dividend_yield: float
    dividends: Dividends = ()

    @property
    def discount(self) -> float:
        """What 1 at expiry is worth now."""
        return exp(-self.rate * self.years)


def terms_of(
    spot: float, forward: float, years: float, rate: float, dividends: Dividends = ()
) -> Terms:
    """The terms that this forward implies; for a spot that is unknown (0) or too far off, one that fits."""
    paid = present_value(dividends, rate)
    rest = spot - paid
    dividend_yield = rate - log(forward / rest) / years if rest > 0 else 0.0
    if not (rest > 0 and abs(dividend_yield) <= MOST_YIELD):
        dividend_yield = max(-MOST_YIELD, min(MOST_YIELD, dividend_yield))
        rest = forward * exp((dividend_yield - rate) * years)
    return Terms(rest + paid, rest, forward, years, rate, dividend_yield, dividends)


class Exercise:
    """Calls or puts of one expiry, of which ``turn`` take half a millisecond.

    ArithmeticError where a negative rate makes two boundaries.
    """

    __slots__ = ("_higher", "early", "kind", "terms", "turn")

    def __init__(self, kind: int, terms: Terms, scheme: Scheme = FINE) -> None:
        self.kind, self.terms = kind, terms
        self.turn = 1 if terms.dividends else 4
        of = terms.rest, terms.rate, terms.dividend_yield, terms.years
        self.early: Premium | None = (
            of_cash(kind, terms.spot, *of, terms.dividends, scheme)
            if terms.dividends
            else of_yield(kind, *of, scheme)
        )
        self._higher: Premium | None = None

    def price(self, strike: float, sigma: float) -> float:
        """The price at a volatility, at least what exercise pays."""
        terms = self.terms
        european = black76.price(self.kind, terms.forward, strike, terms.years, sigma, terms.discount)
        paid = max(self.kind * (terms.spot - strike), 0.0)
        return max(european + self.premium(strike, sigma), paid)

    def premium(self, strike: float, sigma: float) -> float:
        """What the right to exercise early is worth."""
        return self.early.premium(strike, sigma) if self.early is not None else 0.0

    def implied_volatility(
        self, price: float | None, strike: float, european: tuple[float | None, str | None]
    ) -> tuple[float | None, str | None]:
        """As `black76.implied_volatility`; ``european`` is what that says of this price.

        It bounds the volatility from above: a European option is worth less. From there Newton's steps with
        the vega of the European option, then secants, kept within what is known to be too low and too high.
        """
        sigma = european[0]
        if self.early is None or price is None or sigma is None:
            return european
        terms = self.terms
        paid = max(self.kind * (terms.spot - strike), 0.0)
        if terms.dividends:  # waiting for an ex-date may pay more than exercising now
            paid = max(paid, self.price(strike, _NEXT_TO_NOTHING))
        if paid > 0 and price <= paid + _LEAST_LEFT * strike:
            return None, "no_time_value" if price >= paid * (1 - _NOISE) else "below_intrinsic"
        low, high = 0.0, sigma
        over = self.price(strike, sigma) - price
        if over <= _NOISE * price:
            return european
        slope = self._vega(strike, sigma)
        for _ in range(_MOST_STEPS):
            step = -over / slope if slope > 0 else -sigma
            here = sigma + step
            if not low < here < high:
                here = 0.5 * (low + high)
            there = self.price(strike, here) - price
            if there > 0:
                high = here
            else:
                low = here
            if abs(here - sigma) <= self.early.finest * here:
                sigma = here
                break
            slope = (there - over) / (here - sigma)
            sigma, over = here, there
        within = black76.LEAST_SIGMA <= sigma <= black76.MOST_SIGMA
        return sigma, None if within else "out_of_range"

    def greeks(self, strikes: Sequence[float], sigmas: Values, spot: float | None) -> GreekColumns:
        """The Greeks at every strike where there is a volatility.

        ``spot``, less dividends in cash, is for ``delta_spot``.
        """
        return at_once(self.greek_steps(strikes, sigmas, spot))

    def greek_steps(
        self, strikes: Sequence[float], sigmas: Values, spot: float | None
    ) -> Steps[GreekColumns]:
        """The same in steps."""
        terms = self.terms
        side = black76.greeks_side(
            self.kind, strikes, sigmas, terms.forward, terms.years, terms.discount, terms.rate, spot
        )
        if self.early is not None:
            for at, (strike, sigma) in enumerate(zip(strikes, sigmas, strict=True)):
                if sigma is not None and side.delta[at] is not None:
                    self._add(side, at, strike, sigma, self.early)
                    if at % self.turn == 0:
                        yield
        factor = terms.forward / spot if spot else None
        delta_spot: Column = [None if factor is None or d is None else d * factor for d in side.delta]
        return msgspec.structs.replace(side, delta_spot=delta_spot)

    def _add(self, side: GreekColumns, at: int, strike: float, sigma: float, early: Premium) -> None:
        """Adds what early exercise changes to the Greeks of a European option."""
        terms, kind = self.terms, self.kind
        premium, first, second = early.slopes(strike, sigma)
        if premium <= 0:
            return
        paid = kind * (terms.spot - strike)
        european = black76.price(kind, terms.forward, strike, terms.years, sigma, terms.discount)
        worth = european + premium
        forward = terms.forward
        if worth <= paid * (1 + _NOISE):  # exercised at once
            side.delta[at] = kind * terms.rest / forward
            side.gamma[at] = side.vega[at] = side.theta[at] = side.rho[at] = 0.0
            return
        gamma = max((side.gamma[at] or 0.0) + (second - first) / (forward * forward), 0.0)
        side.delta[at] = (side.delta[at] or 0.0) + first / forward
        side.gamma[at] = gamma
        h = _OF_SIGMA * sigma
        by_sigma = (early.premium(strike, sigma + h) - premium) / h
        side.vega[at] = max((side.vega[at] or 0.0) + by_sigma / 100, 0.0)
        # By Black and Scholes' equation, which holds wherever one does not exercise.
        decay = (terms.rate * worth - 0.5 * (sigma * forward) ** 2 * gamma) / 365
        side.theta[at] = max(decay, paid - worth if paid > 0 else -worth)
        if self._higher is None:
            self._higher = early.at(terms.rate + _OF_RATE)
        by_rate = (self._higher.premium(strike, sigma) - premium) / _OF_RATE
        side.rho[at] = (side.rho[at] or 0.0) + by_rate / 100

    def _vega(self, strike: float, sigma: float) -> float:
        """Of the European option, per 1 of volatility."""
        terms = self.terms
        s = sigma * sqrt(terms.years)
        d1 = log(terms.forward / strike) / s + 0.5 * s
        return terms.discount * terms.forward * sqrt(terms.years) * exp(-0.5 * d1 * d1) / 2.5066282746310002


def greeks_steps(
    strikes: Sequence[float],
    call_prices: Values,
    put_prices: Values,
    forward: float,
    years: float,
    discount: float,
    rate: float,
    spot: float | None = None,
    dividends: Dividends = (),
) -> Steps[tuple[GreekColumns, GreekColumns]]:
    """As `black76.chain_greeks`, of American options on a stock at ``spot``, in steps of a few options.

    What ``dividends`` in cash do not explain of the forward is a yield. Where a negative rate makes two
    boundaries the volatilities are None, for the reason ``negative_rate``.
    """
    terms = terms_of(spot or 0.0, forward, years, rate, dividends) if forward > 0 and years > 0 else None
    moving = terms.rest if spot and terms else spot or None
    european = black76.chain_greeks(
        strikes, call_prices, put_prices, forward, years, discount, rate, moving
    )
    if terms is None or not any(side.iv.count(None) < len(strikes) for side in european):
        return european
    yield
    calls = yield from _early(1, strikes, call_prices, european[0], terms, moving)
    puts = yield from _early(-1, strikes, put_prices, european[1], terms, moving)
    return calls, puts


def _early(
    kind: int,
    strikes: Sequence[float],
    prices: Values,
    side: GreekColumns,
    terms: Terms,
    moving: float | None,
) -> Steps[GreekColumns]:
    """One side of a chain with what early exercise changes."""
    try:
        exercise = Exercise(kind, terms, QUICK)
    except ArithmeticError:
        known = dict.fromkeys(range(len(strikes)), TWO_BOUNDARIES) | side.reasons
        none: Column = [None] * len(strikes)
        return msgspec.structs.replace(
            side, iv=none, delta=none, delta_spot=none, gamma=none, vega=none, theta=none, rho=none,
            reasons=known,
        )  # fmt: skip
    if exercise.early is None:
        return side
    sigmas: Column = []
    reasons: dict[int, str] = {}
    for at, strike in enumerate(strikes):
        found = side.iv[at], side.reasons.get(at)
        sigma, reason = exercise.implied_volatility(prices[at], strike, found)
        sigmas.append(sigma)
        if reason is not None:
            reasons[at] = reason
        if at % exercise.turn == 0:
            yield
    found_side = yield from exercise.greek_steps(strikes, sigmas, moving)
    found_side.reasons.update(reasons)
    return found_side


def parity_forward(
    european: Forward,
    strikes: Sequence[float],
    call_mids: Values,
    put_mids: Values,
    spot: float,
    years: float,
    rate: float,
    dividends: Dividends = (),
) -> Forward:
    """The forward by parity without what early exercise adds to calls and puts; others stay as they are.

    ``european`` is `forward_price.parity_forward` of the same mids. C - P = D (F - K) holds for European
    options, which American ones exceed by their premiums: these, at one volatility at the money and at the
    forward found before, are taken away until it stays within 1e-6.
    """
    if european.source != "parity" or european.value is None or years <= 0:
        return european
    middle = european.strikes[len(european.strikes) // 2]
    at = strikes.index(middle)
    call, put = call_mids[at] or 0.0, put_mids[at] or 0.0
    discount, ahead = exp(-rate * years), european.value
    early_call = early_put = 0.0
    for _ in range(_MOST_FORWARDS):
        kind, price = (1, call - early_call) if middle >= ahead else (-1, put - early_put)
        sigma, _ = black76.implied_volatility(kind, price, ahead, middle, years, discount)
        if sigma is None:
            return european
        terms = terms_of(spot, ahead, years, rate, dividends)
        try:
            calls, puts = (Exercise(kind, terms, _AT_ONE_SIGMA) for kind in (1, -1))
        except ArithmeticError:
            return european
        early_call, early_put = calls.premium(middle, sigma), puts.premium(middle, sigma)
        more = median([puts.premium(k, sigma) - calls.premium(k, sigma) for k in european.strikes])
        before, ahead = ahead, european.value + more / discount
        if not ahead > 0:
            return european
        if abs(ahead - before) <= 1e-6 * ahead:
            break
    return msgspec.structs.replace(european, value=ahead)
