"""Part `formulas`: what the mathematics of options costs, formula by formula, without messages or servers.

`options` is per option: volatilities from a cold start and from a guess, prices, Greeks, and the same by
QuantLib, vollib and lets_be_rational, each called from Python one option at a time and timed in turns with
ours. `curves` is one fit of raw SVI from the first node to the least g(k). `chain` is the enrichment of one
synthetic chain by subject, as the market route calls it. Times are CPU of this one thread, the best of
several repetitions in a round.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from functools import partial
from math import exp, sqrt
from typing import Any

from benchmarks.parts import Options
from benchmarks.report import Report, calibrate, median, spread
from benchmarks.workloads import workload
from enricher.analytics import (
    black76,
    exposure,
    forward_price,
    prices,
    quote_arbitrage,
    variance,
    volatility_smile,
)
from enricher.analytics.chain_numbers import chain_numbers
from enricher.analytics.chain_prices import chain_prices
from enricher.analytics.columns import columns
from enricher.analytics.position_buildup import snapshot
from enricher.analytics.price_analysis import analyse_prices
from enricher.analytics.raw_svi import fit
from enricher.analytics.staleness import NO_AGES, fresh
from enricher.analytics.steps import at_once
from enricher.market.chain_enrichment import enriching
from enricher.market.products import Contracts
from enricher.market.serialisation import analysis_fields
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import ProductState
from enricher.messages.models import Chain, decode_chain

COLUMNS = ["formula", "of", "us", "scaled", "us_spread"]
BESIDE = ["formula", "of", "by", "us", "times_ours", "scaled", "us_spread"]
SCALED = "scaled: us divided by what bson.encode of a tick takes (us) in the same run"
OURS = "enricher"
VOLATILITY, PRICE, GREEKS = "implied volatility", "price", "five Greeks"
WEEK = 7 / 365
_MINUTE = 60_000_000

Work = Callable[[], Any]


def run(options: Options) -> list[Report]:
    """A table each; ``formulas.only=NAME`` takes that one alone."""
    tables = {"options": of_options, "curves": of_curves, "chain": of_chains}
    only = options.settings.get("formulas.only")
    if only is not None and only not in tables:
        raise ValueError(f"formulas.only must be one of {', '.join(tables)}, not {only!r}")
    return [make(options) for name, make in tables.items() if only in (None, name)]


def of_options(options: Options) -> Report:
    """Microseconds per option, over quotes within four standard deviations, minutes to a year ahead."""
    report = Report("options", "CPU time per option, of ours and of others in turns", BESIDE)
    quotes = list(_quotes(50 if options.quick else 500))
    asked = [(kind, k, t, iv, black76.price(kind, 100.0, k, t, iv, 1.0)) for kind, k, t, iv in quotes]
    strikes, sigmas = [k for _, k, _, _ in quotes], [iv for _, _, _, iv in quotes]
    ours: dict[str, Work] = {
        VOLATILITY: lambda: [
            black76.implied_volatility(kind, paid, 100.0, k, t, 1.0) for kind, k, t, _, paid in asked
        ],
        f"{VOLATILITY}, from a guess 3 % off": lambda: [
            black76.implied_volatility(kind, paid, 100.0, k, t, 1.0, iv * 1.03)
            for kind, k, t, iv, paid in asked
        ],
        PRICE: lambda: [black76.price(kind, 100.0, k, t, iv, 1.0) for kind, k, t, iv in quotes],
        GREEKS: lambda: black76.greeks_side(1, strikes, sigmas, 100.0, WEEK, 1.0, 0.05),
    }
    others: dict[str, dict[str, Work]] = {}
    for name, theirs in (("QuantLib", _quantlib), ("vollib", _vollib), ("lets_be_rational", _rational)):
        try:
            others[name] = theirs(asked)
        except ImportError:
            report.notes.append(f"{name} is not installed, so not measured")
    for formula, work in ours.items():
        by = {name: works[formula] for name, works in others.items() if formula in works}
        report.rows += _rows(formula, f"{len(quotes)} options", {OURS: work, **by}, len(quotes), options)
    report.notes.append(f"{SCALED}; times ours: median of the rounds' own")
    return report


Asked = list[tuple[int, float, float, float, float]]
"""Kind, strike, years, volatility and price of options on a forward of 100 without a discount."""


def _quantlib(asked: Asked) -> dict[str, Work]:
    import QuantLib as ql  # noqa: N813  as its own documentation writes it

    kinds = {1: ql.Option.Call, -1: ql.Option.Put}
    # Its own accuracy of 1e-6 leaves an error of 0.1 % in these.
    precisely = (1.0, 0.0, ql.nullDouble(), 1e-12)

    def sensitive() -> None:
        for kind, k, t, iv, _ in asked:
            made = ql.BlackCalculator(ql.PlainVanillaPayoff(kinds[kind], k), 100.0, iv * sqrt(t), 1.0)
            _ = made.deltaForward(), made.gammaForward(), made.vega(t), made.theta(100.0, t), made.rho(t)

    return {
        VOLATILITY: lambda: [
            ql.blackFormulaImpliedStdDev(kinds[kind], k, 100.0, paid, *precisely) / sqrt(t)
            for kind, k, t, _, paid in asked
        ],
        PRICE: lambda: [
            ql.blackFormula(kinds[kind], k, 100.0, iv * sqrt(t)) for kind, k, t, iv, _ in asked
        ],
        GREEKS: sensitive,
    }


def _vollib(asked: Asked) -> dict[str, Work]:
    from vollib.black import black
    from vollib.black.greeks import analytical
    from vollib.black.implied_volatility import implied_volatility

    kinds = {1: "c", -1: "p"}
    greeks = [getattr(analytical, name) for name in ("delta", "gamma", "vega", "theta", "rho")]
    return {
        VOLATILITY: lambda: [
            implied_volatility(paid, 100.0, k, 0.0, t, kinds[kind]) for kind, k, t, _, paid in asked
        ],
        PRICE: lambda: [black(kinds[kind], 100.0, k, t, 0.0, iv) for kind, k, t, iv, _ in asked],
        GREEKS: lambda: [
            greek(kinds[kind], 100.0, k, t, 0.05, iv) for kind, k, t, iv, _ in asked for greek in greeks
        ],
    }


def _rational(asked: Asked) -> dict[str, Work]:
    from lets_be_rational import black
    from lets_be_rational import implied_volatility_from_a_transformed_rational_guess as solve

    return {
        VOLATILITY: lambda: [solve(paid, 100.0, k, t, kind) for kind, k, t, _, paid in asked],
        PRICE: lambda: [black(100.0, k, iv, t, kind) for kind, k, t, iv, _ in asked],
    }


def of_curves(options: Options) -> Report:
    """Microseconds per fit, to a smile with a little noise."""
    report = Report("curves", "CPU time per fit of raw SVI", COLUMNS)
    for nodes in (21,) if options.quick else (21, 200):
        chance = random.Random(nodes)
        ks = [-0.2 + 0.4 * at / (nodes - 1) for at in range(nodes)]
        ivs = [(0.14 - 0.2 * k + 0.9 * k * k) * (1 + chance.gauss(0, 0.01)) for k in ks]
        ws = [iv * iv * WEEK for iv in ivs]
        work = partial(fit, ks, ws, WEEK)
        report.rows += _rows("SVI", f"{nodes} nodes", {OURS: work}, 1, options)
    report.notes.append(SCALED)
    return report


def of_chains(options: Options) -> Report:
    """Microseconds per chain, subject by subject."""
    report = Report("chain", "CPU time per chain by subject", COLUMNS)
    for strikes in (21,) if options.quick else (21, 200):
        _, body = workload("chains", 1, 1, strikes)[0]
        for name, work in _subjects(body):
            report.rows += _rows(name, f"{strikes} strikes", {OURS: work}, 1, options)
    report.notes.append(SCALED)
    report.notes.append("everything: all but decoding, with what ties it together, as the handler does it")
    return report


def _rows(
    formula: str, of: str, by: dict[str, Work], items: int, options: Options
) -> list[dict[str, Any]]:
    """A row for each who computes it, in turns: medians over the rounds after one that is not counted."""
    us: dict[str, list[float]] = {name: [] for name in by}
    scaled: dict[str, list[float]] = {name: [] for name in by}
    for number in range(options.rounds + 1):
        for name, work in by.items():
            speed, best = calibrate(5).bson_us, _best(work, 3 if options.quick else 15) / items
            if number:
                us[name].append(best)
                scaled[name].append(best / speed)
    return [
        {
            "formula": formula,
            "of": of,
            "by": name,
            "us": median(us[name], 2),
            "times_ours": median([theirs / mine for theirs, mine in zip(us[name], us[OURS], strict=True)], 2),
            "scaled": median(scaled[name], 2),
            "us_spread": spread(us[name], 2),
        }
        for name in by
    ]


def _best(work: Work, repeats: int) -> float:
    best = float("inf")
    for _ in range(repeats):
        before = time.thread_time_ns()
        work()
        best = min(best, (time.thread_time_ns() - before) / 1000)
    return best


def _quotes(wanted: int) -> Iterator[tuple[int, float, float, float]]:
    """Kind, strike, years and volatility of options on a forward of 100, all out of the money."""
    chance = random.Random(7)
    for _ in range(wanted):
        years = chance.choice((30 / 525_600, 1 / 365, WEEK, 30 / 365, 1.0))
        sigma = chance.uniform(0.08, 0.8)
        strike = 100 * exp(chance.uniform(-4, 4) * sigma * sqrt(years))
        yield 1 if strike >= 100 else -1, strike, years, sigma


def _subjects(body: bytes) -> Iterator[tuple[str, Work]]:
    """What there is to do about a chain, in the order in which it is done."""
    chain: Chain = decode_chain(body, now_us=2**60)
    contract = Contracts().of(chain.product)
    cells = fresh(columns(chain), NO_AGES, prices.MAX_AGE)
    calls, puts, strikes = cells.calls, cells.puts, cells.strikes
    found = analyse_prices(chain, chain_prices(chain, cells, contract), contract)
    years, discount, spot, ahead = found.years, found.discount, chain.spot_price, found.forward.value or 0.0
    by_calls, by_puts, tick = found.calls, found.puts, contract.tick_size
    held = (calls.oi, puts.oi)
    known = (by_calls, by_puts)
    mids = (by_calls.price, by_puts.price)

    def chosen() -> None:
        for side in (calls, puts):
            prices.choose(side.bid, side.ask, side.last, tick)

    def solved() -> None:
        for kind, side in ((1, by_calls), (-1, by_puts)):
            black76.solve_side(kind, strikes, side.price, ahead, years, discount)

    def sensitive() -> None:
        for kind, side in ((1, known[0]), (-1, known[1])):
            black76.greeks_side(kind, strikes, side.iv, ahead, years, discount, contract.rate, spot)

    def exposed() -> None:
        for of in ("delta", "vega"):
            exposure.exposure(getattr(known[0], of), getattr(known[1], of), *held, found.units)
        exposure.exposure(*mids, *held, found.units)
        exposure.weighted_iv(known[0].iv, known[1].iv, *held)

    yield "decode", lambda: decode_chain(body, now_us=2**60)
    yield "columns", lambda: fresh(columns(chain), NO_AGES, prices.MAX_AGE)
    yield "open interest: ratios, max pain, walls", lambda: chain_numbers(chain, cells)
    yield "price of every leg", chosen
    yield "forward by parity", lambda: forward_price.parity_forward(strikes, *mids, discount, spot)
    yield "implied volatilities", solved
    yield "Greeks", sensitive
    yield "smile and its measures", lambda: volatility_smile.smile_measures(
        volatility_smile.smile(strikes, known[0].iv, known[1].iv, ahead, years)
    )
    yield "gamma exposure", lambda: exposure.gamma_exposure(
        strikes, known[0].gamma, known[1].gamma, *held, price=ahead, units=found.units
    )
    yield "zero gamma", lambda: exposure.zero_gamma(
        strikes, known[0].iv, known[1].iv, *held, price=spot, forward=ahead, years=years
    )
    yield "other exposures", exposed
    yield "variance strip", lambda: variance.variance_strip(
        strikes, calls.bid, calls.ask, puts.bid, puts.ask, years=years, rate=contract.rate
    )
    yield "arbitrage", lambda: quote_arbitrage.check_chain(found.quotes, discount, least=tick)
    yield "rounding and layout", lambda: analysis_fields(found, strikes, contract, chain.expiry, 300.0)
    yield "everything", _whole(chain)


def _whole(chain: Chain) -> Work:
    settings, zone = MarketSettings(lateness=0.0, buildup_min_age=0.0), None
    state = ProductState(chain.product, settings)
    return lambda: at_once(enriching(state, chain, snapshot(chain), settings, zone))
