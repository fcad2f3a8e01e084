"""What an analysis becomes in a stored and published chain: plain data, rounded here and nowhere before.

Volatilities, deltas and ratios have 6 decimals, gammas 10, prices, vegas, thetas and rhos 6, amounts of
currency 2. What is unknown is null; ``reasons`` and ``flags`` say why, the legs by side and reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from enricher.analytics.black76 import expiry_flag
from enricher.analytics.contracts import Contract
from enricher.analytics.exposure import ASSUMPTION, Exposure
from enricher.analytics.price_analysis import PriceAnalysis, PricedSide
from enricher.analytics.quote_arbitrage import Findings
from enricher.analytics.rounding import LARGEST, WHOLE, rounded_all
from enricher.analytics.second_order import SecondOrderAnalysis
from enricher.analytics.trading_time import TradingTime
from enricher.analytics.variance import Strip
from enricher.analytics.volatility_smile import SmileMeasures
from enricher.market.reasons import BEYOND, explain_analysis
from enricher.messages.models import Number

Fields = dict[str, Any]

MODELS = {"european": "black76", "american": "black76_and_early_exercise"}

def rounded(value: float | None, digits: int = 6) -> float | None:
    """The value as it is shown, as `rounded_all` shows a column; a whole number stays one."""
    if type(value) is float:
        scale = 10.0**digits
        times = value * scale
        whole = times + WHOLE - WHOLE
        if -1e12 < times < 1e12 and -0.499 < times - whole < 0.499:
            return whole / scale
    # A 0 is added for the sake of -0.0, which it makes 0.0; whole numbers stay so.
    return round(value, digits) + 0 if value is not None and -LARGEST <= value <= LARGEST else None


def analysis_fields(
    analysis: PriceAnalysis, strikes: Sequence[Number], contract: Contract, expiry: str, max_age: float
) -> Fields:
    """The fields that an analysis adds to a chain, its ``flags`` among them ({field: reason}).

    ``max_age`` is that of the prices in seconds.
    """
    ahead, move = analysis.forward, analysis.expected_move
    flags: dict[str, str] = {}
    if (near := expiry_flag(analysis.years)) is not None:
        flags["years"] = near
    if contract.exercise == "american" and len(analysis.dividends) > 1:
        flags["model"] = "early exercise of several dividends in cash is an approximation"
    if ahead.reason is not None:
        flags["forward"] = ahead.reason
    if move.reason is not None:
        flags["expected_move"] = move.reason
    if (no_atm := analysis.smile_measures.reasons.get("atm_iv")) is not None:
        flags["atm_iv"] = no_atm
    gamma, zero = analysis.gamma_exposure, analysis.zero_gamma
    sides = _side(analysis.calls), _side(analysis.puts)
    fields: Fields = {
        "years": rounded(analysis.years, 10),
        "discount": rounded(analysis.discount, 10),
        "forward": {
            "price": rounded(ahead.value),
            "source": ahead.source,
            "strikes": list(ahead.strikes),
        },
        "atm_forward_strike": analysis.atm_forward_strike,
        "atm_iv": rounded(analysis.smile_measures.atm_iv),
        "expected_move": {
            "strike": move.strike,
            "straddle": rounded(move.straddle),
            "move": rounded(move.expected_move),
            "one_sigma": rounded(move.one_sigma),
            "low": rounded(move.low),
            "high": rounded(move.high),
        },
        "smile": {
            **measures_fields(analysis.smile_measures),
            "strikes": analysis.smile.strikes,
            "ivs": rounded_all(analysis.smile.iv, 8),
        },
        "gex": {
            "net": rounded(gamma.net, 2),
            "gross": rounded(gamma.gross, 2),
            "call_wall": gamma.call_wall,
            "put_wall": gamma.put_wall,
            "zero_gamma": rounded(zero.price, 4),
            "rising": zero.rising,
            "legs": gamma.legs,
            "assumption": ASSUMPTION,
            "reason": gamma.reason or zero.reason,
        },
        "exposure": {
            "delta": _exposure(analysis.delta_exposure),
            "vega": _exposure(analysis.vega_exposure),
            "premium": _exposure(analysis.premium),
            "oi_weighted_iv": rounded(analysis.oi_weighted_iv),
            "vega_weighted_iv": rounded(analysis.vega_weighted_iv),
        },
        "variance_swap": strip_fields(analysis.variance_swap),
        "arbitrage": findings_fields(analysis.arbitrage),
        "analytics": {
            "strikes": list(strikes),
            "calls": sides[0],
            "puts": sides[1],
            "gex": rounded_all(gamma.by_strike, 2),
            "reasons": {
                "calls": _by_reason(strikes, analysis.calls),
                "puts": _by_reason(strikes, analysis.puts),
            },
        },
        "conventions": {
            **contract.conventions(expiry),
            "units": analysis.units,
            "model": MODELS[contract.exercise],
            "price": "mid_else_last",
            "max_price_age": max_age,
            "delta": "forward",
            "vega": "per_volatility_point",
            "theta": "per_calendar_day",
            "rho": "per_percent",
            "vendor_iv": analysis.vendor_unit,
        },
    }
    if analysis.second_order is not None:
        fields["second_order"] = _second_order(analysis.second_order, *sides)
    if analysis.dividends:
        fields["conventions"]["dividends"] = [list(each) for each in contract.dividends]
    if analysis.trading_time is not None:
        fields["trading_time"] = _trading_time(analysis.trading_time, analysis.smile_measures.atm_iv)
    if analysis.india_vix is not None:
        strip = analysis.india_vix
        fields["india_vix"] = {**strip_fields(strip), "splined": list(strip.splined)}
    explain_analysis(fields, flags)
    return {**fields, "flags": flags}


def measures_fields(measures: SmileMeasures) -> Fields:
    """The measures of a smile."""
    return {
        "nodes": measures.nodes,
        "atm_iv": rounded(measures.atm_iv),
        "call_25_iv": rounded(measures.call_25_iv),
        "put_25_iv": rounded(measures.put_25_iv),
        "risk_reversal": rounded(measures.risk_reversal),
        "butterfly": rounded(measures.butterfly),
        "slope": rounded(measures.slope),
        "skew": rounded(measures.skew),
        "average_iv": rounded(measures.average_iv),
        "reasons": measures.reasons,
    }


def strip_fields(strip: Strip) -> Fields:
    """A variance swap's strip."""
    return {
        "volatility": rounded(strip.volatility),
        "variance": rounded(strip.variance, 10),
        "forward": rounded(strip.forward),
        "k0": strip.k0,
        "lowest": strip.lowest,
        "highest": strip.highest,
        "strikes": strip.count,
        "put_wing": strip.put_wing,
        "call_wing": strip.call_wing,
        "truncated": strip.truncated,
        "reason": strip.reason or (BEYOND if rounded(strip.volatility) is None else None),
    }


def findings_fields(findings: Findings) -> Fields:
    """Arbitrage findings, the largest first, and how many there are in all."""
    rows = [
        {"kind": f.kind, "option": f.option, "strikes": list(f.strikes), "amount": rounded(f.amount, 4)}
        for f in findings.listed
    ]
    return {"count": findings.count, "found": rows}


def _exposure(exposure: Exposure) -> Fields:
    return {
        "total": rounded(exposure.total, 2),
        "calls": rounded(exposure.calls, 2),
        "puts": rounded(exposure.puts, 2),
        "legs": exposure.legs,
    }


def _trading_time(time: TradingTime, atm_iv: float | None) -> Fields:
    known = time.factor is not None and atm_iv is not None
    return {
        "years": rounded(time.years, 10),
        "days_in_year": time.days_in_year,
        "closed_weight": time.closed_weight,
        "factor": rounded(time.factor, 8),
        "atm_iv": rounded(time.factor * atm_iv) if time.factor is not None and atm_iv is not None else None,
        "reason": time.reason if known or time.reason else "no_atm_iv",
    }


def _second_order(found: SecondOrderAnalysis, calls: Fields, puts: Fields) -> Fields:
    """What the open interest is exposed to; the Greeks of the legs join the columns of their sides."""
    for columns, side in ((calls, found.calls), (puts, found.puts)):
        for name in ("vanna", "charm", "volga"):
            columns[name] = rounded_all(getattr(side, name), 8)
    exposures = {"vanna": found.vanna_exposure, "charm": found.charm_exposure, "volga": found.volga_exposure}
    return {"assumption": ASSUMPTION} | {
        name: {
            "net": rounded(exposure.net, 2),
            "gross": rounded(exposure.gross, 2),
            "by_strike": rounded_all(exposure.by_strike, 2),
            "legs": exposure.legs,
            "reason": exposure.reason,
        }
        for name, exposure in exposures.items()
    }


def _side(side: PricedSide) -> Fields:
    # A last price may have been sent as a whole number, and stays one.
    whole = "last" in side.source
    return {
        "price": [rounded(price) for price in side.price] if whole else rounded_all(side.price),
        "iv": rounded_all(side.iv),
        "delta": rounded_all(side.delta),
        "gamma": rounded_all(side.gamma, 10),
        "vega": rounded_all(side.vega),
        "theta": rounded_all(side.theta),
        "rho": rounded_all(side.rho),
        "feed_iv": rounded_all(side.vendor_iv.values),
    }


def _by_reason(strikes: Sequence[Number], side: PricedSide) -> dict[str, list[Number]]:
    """{reason: strikes} of a side, about the price and about the volatility.

    ``last_price``: no mid. ``stale_quote``: bid and ask were too old to count, whatever the price is of.
    ``feed_iv_other_unit``: the volatility sent was read as percent though the chain's are decimals, or the
    other way round; ``feed_iv_unit_unclear``: nothing tells which it is; ``feed_iv_out_of_range``: no
    volatility is so small or so large.
    """
    by_reason: dict[str, list[Number]] = {}
    if "last" in side.source:
        sources = zip(strikes, side.source, strict=True)
        by_reason["last_price"] = [k for k, source in sources if source == "last"]
    if side.sent.stale_quotes:
        by_reason["stale_quote"] = [strikes[at] for at in sorted(side.sent.stale_quotes)]
    if side.vendor_iv.odd:
        by_reason["feed_iv_other_unit"] = [strikes[at] for at in side.vendor_iv.odd]
    if side.vendor_iv.unclear:
        by_reason["feed_iv_unit_unclear"] = [strikes[at] for at in side.vendor_iv.unclear]
    if side.vendor_iv.beyond:
        by_reason["feed_iv_out_of_range"] = [strikes[at] for at in side.vendor_iv.beyond]
    _sort_in(by_reason, strikes, side.flags)
    _sort_in(by_reason, strikes, side.reasons, side.flags)
    for held in by_reason.values():
        held.sort()
    return by_reason


def _sort_in(
    by_reason: dict[str, list[Number]],
    strikes: Sequence[Number],
    reasons: Mapping[int, str],
    known: Mapping[int, str] = MappingProxyType({}),
) -> None:
    for at, reason in reasons.items():
        if known.get(at) != reason:
            by_reason.setdefault(reason, []).append(strikes[at])
