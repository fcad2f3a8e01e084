"""`enricher.analytics` as a library: its promises, chains in every form, and what it says of mistakes."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from fractions import Fraction
from math import exp, inf, nan
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import enricher
from enricher import analytics
from enricher.analytics import (
    Contract,
    analyse,
    arbitrage,
    atm,
    buildup,
    expected_move,
    forward,
    gamma_exposure,
    max_pain,
    ohlc,
    pcr,
    price,
    smile,
    smile_measures,
    straddle,
    svi,
    variance_swap,
    walls,
    zero_gamma,
)
from enricher.clock import MINUTE, event_us

PACKAGE = Path(enricher.__file__).parent
NIFTY = Contract(
    name="NIFTY", zone="Asia/Kolkata", expiry_time="15:30", rate=0.06, tick_size=0.05, lot=75, currency="INR"
)
AT, EXPIRY, SPOT = "2025-10-14T10:00:00", "2025-10-30", 25_110.0
YEARS = (event_us("2025-10-30T15:30:00")[0] - event_us(AT)[0]) / (365 * 86_400e6)
FORWARD = SPOT * exp(0.05 * YEARS)
STRIKES = [22_400.0 + 200 * step for step in range(28)]


def sigma(strike: float) -> float:
    k = (strike - FORWARD) / FORWARD
    return 0.14 - 0.3 * k + 2 * k * k


def leg(strike: float, kind: str) -> dict[str, Any]:
    terms = {"forward": FORWARD, "strike": strike, "years": YEARS, "rate": 0.06}
    worth = price(**terms, volatility=sigma(strike), kind=kind)
    held = 1000 + (strike * 7) % 900 + (5000 if strike == (25_600 if kind == "call" else 24_800) else 0)
    return {
        "strike": strike, "kind": kind, "bid": worth * 0.999, "ask": worth * 1.001, "last": worth,
        "open_interest": held, "volume": 10, "iv": 100 * sigma(strike), "change_in_oi": held - 1400,
    }  # fmt: skip


LEGS = [leg(strike, kind) for kind in ("call", "put") for strike in STRIKES]
TERMS: dict[str, Any] = {"contract": NIFTY, "at": AT, "spot": SPOT, "expiry": EXPIRY}


def side(kind: str, name: str) -> list[Any]:
    return [leg[name] for leg in LEGS if leg["kind"] == kind]


MESSAGE = {
    "product": "NIFTY", "expiry": EXPIRY, "spot_price": SPOT, "timestamp": AT,
    "calls": [{k: v for k, v in leg.items() if k != "kind"} for leg in LEGS if leg["kind"] == "call"],
    "puts": [{k: v for k, v in leg.items() if k != "kind"} for leg in LEGS if leg["kind"] == "put"],
}  # fmt: skip
WHOLE = analyse(LEGS, **TERMS)


def test_the_library_promises_these_names() -> None:
    functions = {
        "american_greeks", "american_implied_volatility", "american_price", "analyse", "arbitrage", "atm",
        "buildup", "constant_maturity", "expected_move", "forward", "gamma_exposure", "greeks",
        "implied_volatility", "india_variance_swap", "max_pain", "ohlc", "pcr", "price",
        "second_order_greeks", "smile", "smile_measures", "straddle", "svi", "variance_swap", "walls",
        "zero_gamma",
    }  # fmt: skip
    types = {
        "Bar", "Buildup", "ChainAnalysis", "ConstantMaturity", "Contract", "ExpectedMove", "Exposure",
        "Finding", "Findings", "Forward", "GammaExposure", "Greeks", "ImpliedVolatility", "IndiaStrip",
        "MaxPain", "PricedSide", "SecondOrderAnalysis", "SecondOrderGreeks", "Smile", "SmileMeasures",
        "StrikeExposure", "Strip", "Svi", "SviFit", "TradingRange", "TradingTime", "Wall", "Walls",
        "ZeroGamma",
    }  # fmt: skip
    assert set(analytics.__all__) == functions | types
    assert all(inspect.isfunction(getattr(analytics, name)) for name in functions)
    assert all(inspect.isclass(getattr(analytics, name)) for name in types)
    assert all(getattr(analytics, name).__doc__ for name in analytics.__all__)
    assert set(analytics.__all__) <= set(dir(analytics))


def test_a_function_stays_a_function_when_every_module_is_imported() -> None:
    for file in (PACKAGE / "analytics").glob("*.py"):
        if file.stem != "__init__":
            assert file.stem not in analytics.__all__
            __import__(f"enricher.analytics.{file.stem}")
    assert inspect.isfunction(analytics.forward)


def test_importing_it_brings_no_driver_no_server_and_no_market() -> None:
    code = (
        "import sys; from enricher.analytics import *\n"
        "heavy = ('redis', 'motor', 'pymongo', 'bson', 'anyio', 'enricher.market', 'enricher.engine')\n"
        "print([name for name in sys.modules if name.startswith(heavy)])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_it_imports_nothing_of_the_project_but_messages_and_the_clock() -> None:
    allowed = {"analytics", "messages", "clock", "errors", "lazy_exports"}
    for file in (PACKAGE / "analytics").glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("enricher."):
                assert (node.module or "").split(".")[1] in allowed, file.name


@dataclass
class Row:
    strike: float
    option_type: str
    bid: float
    ask: float
    last: float
    oi: float
    volume: int
    iv: float
    change_in_oi: float


def test_a_chain_says_the_same_in_every_form() -> None:
    rows = [Row(x["strike"], x["kind"].upper(), *[x[name] for name in list(x)[2:]]) for x in LEGS]
    forms: list[Any] = [
        (MESSAGE, {"contract": NIFTY}),
        (json.dumps(MESSAGE), {"contract": NIFTY}),
        (json.dumps(MESSAGE).encode(), {"contract": NIFTY}),
        (rows, TERMS),
        (iter(LEGS), TERMS),
        (pd.DataFrame(LEGS), TERMS),
        (reversed(LEGS), {**TERMS, "expiry": date(2025, 10, 30)}),
        (LEGS, {**TERMS, "at": datetime(2025, 10, 14, 4, 30, tzinfo=UTC)}),
        (WHOLE.chain, {"contract": NIFTY}),
    ]
    for chain, terms in forms:
        found = analyse(chain, **terms)
        for name in type(found).__struct_fields__:
            if name != "chain":
                assert getattr(found, name) == getattr(WHOLE, name), name


def test_what_the_chain_was_made_of_is_found_again() -> None:
    assert WHOLE.forward.value == pytest.approx(FORWARD, rel=1e-12)
    assert WHOLE.forward.source == "parity"
    assert (WHOLE.atm, WHOLE.years) == (25_200, pytest.approx(YEARS, rel=1e-12))
    for found in (WHOLE.calls, WHOLE.puts):
        assert found.iv == pytest.approx([sigma(strike) for strike in STRIKES], rel=1e-6)
    assert WHOLE.atm_iv == pytest.approx(0.14, abs=1e-4)
    assert WHOLE.skew is not None
    assert WHOLE.skew > 0
    assert WHOLE.at == datetime(2025, 10, 14, 4, 30, tzinfo=UTC)
    assert WHOLE.flags == {}


def test_what_an_analysis_says_is_what_the_functions_say() -> None:
    calls, puts = WHOLE.calls, WHOLE.puts
    oi = side("call", "open_interest"), side("put", "open_interest")
    mids = [[(bid + ask) / 2 for bid, ask in zip(side(k, "bid"), side(k, "ask"), strict=True)]
            for k in ("call", "put")]  # fmt: skip
    quotes = [side(kind, name) for kind in ("call", "put") for name in ("bid", "ask")]
    assert WHOLE.pcr == pcr(*oi) == sum(oi[1]) / sum(oi[0])
    assert WHOLE.max_pain == max_pain(STRIKES, *oi, spot=SPOT)
    assert WHOLE.atm == atm(STRIKES, SPOT)
    ahead = forward(STRIKES, *mids, spot=SPOT, years=WHOLE.years, rate=0.06)
    assert WHOLE.forward == ahead
    assert ahead.value is not None
    assert WHOLE.straddle == straddle(STRIKES, *mids, strike=WHOLE.atm)
    assert WHOLE.expected_move == expected_move(
        STRIKES, *mids, spot=SPOT, forward=ahead.value, atm_iv=WHOLE.atm_iv, years=WHOLE.years
    )
    assert WHOLE.walls == walls(STRIKES, *oi, spot=SPOT)
    assert WHOLE.walls.resistance[0].strike == 25_600
    assert WHOLE.walls.support[0].strike == 24_800
    assert WHOLE.gamma_exposure == gamma_exposure(
        STRIKES, calls.gamma, puts.gamma, *oi, price=ahead.value, units=75
    )
    assert WHOLE.zero_gamma == zero_gamma(
        STRIKES, calls.iv, puts.iv, *oi, price=SPOT, forward=ahead.value, years=WHOLE.years
    )
    assert WHOLE.smile == smile(STRIKES, calls.iv, puts.iv, forward=ahead.value, years=WHOLE.years)
    assert WHOLE.smile_measures == smile_measures(WHOLE.smile)
    assert WHOLE.variance_swap == variance_swap(STRIKES, *quotes, years=WHOLE.years, rate=0.06)
    assert WHOLE.arbitrage.count == arbitrage(STRIKES, *quotes, years=WHOLE.years, rate=0.06).count == 0
    curve = svi(WHOLE.smile).svi
    assert curve is not None
    assert curve.volatility(0.0, WHOLE.years) == pytest.approx(0.14, abs=1e-3)


def test_a_quote_below_another_is_a_profit_that_is_named() -> None:
    dear = [{**x, "bid": 2000, "ask": 2001} if x is LEGS[16] else x for x in LEGS]
    found = analyse(dear, **TERMS).arbitrage
    assert found.count > 0
    assert found.listed[0].amount > 500


def test_build_up_stands_between_two_analyses() -> None:
    more = [{**x, "last": x["last"] + 5, "open_interest": x["open_interest"] + 50} for x in LEGS]
    now = analyse(more, **{**TERMS, "at": "2025-10-14T10:05:00"})
    found = buildup(now, WHOLE)
    assert set(found.calls.values()) == set(found.puts.values()) == {"long_buildup"}
    assert found.call_oi_change == 50 * len(STRIKES)
    with pytest.raises(ValueError, match="is not before"):
        buildup(WHOLE, now)
    with pytest.raises(ValueError, match=r"before is of NIFTY 2025-11-06: expected NIFTY 2025-10-30"):
        buildup(now, analyse(LEGS, **{**TERMS, "expiry": "2025-11-06"}))


@pytest.mark.parametrize(
    ("legs", "changes", "message"),
    [
        (LEGS, {"at": None}, "plain legs need at"),
        (LEGS, {"spot": None}, "plain legs need spot"),
        (LEGS, {"expiry": None}, "plain legs need one expiry"),
        (LEGS, {"expiry": "30-Oct-2025"}, "expected a date as YYYY-MM-DD"),
        (LEGS, {"at": "yesterday"}, "at is 'yesterday': expected a datetime or an ISO 8601 text"),
        (LEGS, {"spot": -1}, "spot is -1: expected a number above 0"),
        (LEGS, {"max_age": nan}, "max_age is nan: expected a number from 0 on"),
        ([{**LEGS[0], "kind": "long"}], {}, "kind is 'long': expected"),
        ([{"kind": "call", "bid": 5}], {}, r"\$.calls\[0\].strike: expected a value"),
        ([{**LEGS[0], "strike": "25000"}], {}, r"\$.calls\[0\].strike: expected a number"),
        ([], {}, "expected at least one strike"),
        ("no JSON", {}, "no option chain"),
        ({"product": "X"}, {}, "no option chain"),
        ([{**LEGS[0], "bid": object()}], {}, "no option chain"),
        ([{**LEGS[0], "strike": pd.NA}], {}, r"\$.calls\[0\].strike: expected a value"),
        ({"spot_price": Decimal("NaN")}, {"spot": None}, "no option chain"),
        (None, {}, "chain is None: expected a message of the feed, or legs"),
        (LEGS, {"contract": "NIFTY"}, "contract is 'NIFTY': expected a Contract"),
    ],
)
def test_what_is_no_chain_says_what_is_wrong(legs: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        analyse(legs, **{**TERMS, **changes})


def test_legs_of_several_expiries_are_refused() -> None:
    two = [{**LEGS[0], "expiry": "2025-10-30"}, {**LEGS[1], "expiry": "2025-11-06"}]
    with pytest.raises(ValueError, match="one expiry; theirs: 2025-10-30, 2025-11-06"):
        analyse(two, **{**TERMS, "expiry": None})


def test_what_is_not_known_is_none_and_says_why() -> None:
    bare = [{"strike": strike, "kind": kind, "bid": nan} for strike in (90, 110) for kind in "cp"]
    found = analyse(bare, contract=Contract(name="X"), at=AT, spot=100, expiry=EXPIRY)
    assert (found.pcr, found.max_pain, found.straddle, found.atm_iv, found.skew) == (None,) * 5
    assert found.flags["pcr_oi"] == "no known open interest of the calls"
    assert found.smile.reason == "no_nodes"
    assert found.expected_move.reason == "no_straddle"
    assert (found.gamma_exposure.reason, found.zero_gamma.reason) == ("no_gamma", "no_gamma")
    assert found.variance_swap.reason == "no_parity_pair"
    assert svi(found.smile).reason == "no_nodes"
    late = analyse(LEGS, **{**TERMS, "at": "2025-10-31T10:00:00"})
    assert late.years < 0
    assert (late.smile.reason, late.variance_swap.reason, late.zero_gamma.reason) == ("expired",) * 3
    assert late.calls.reasons == dict.fromkeys(range(len(STRIKES)), "expired")
    assert late.pcr == WHOLE.pcr


def test_the_contract_decides_what_exposures_are_worth() -> None:
    single = analyse(LEGS, **{**TERMS, "contract": msgspec.structs.replace(NIFTY, lot=1)})
    assert WHOLE.gamma_exposure.net == pytest.approx(75 * (single.gamma_exposure.net or 0))
    assert analyse(MESSAGE).contract.assumed


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ({"zone": "Mars"}, "zone is 'Mars': expected a time zone"),
        ({"expiry_time": "3pm"}, "expiry_time is '3pm': expected a time of day"),
        ({"rate": 6.5}, r"rate is 6.5: expected a decimal a year from -1 to 1 \(0.05 is 5 %\)"),
        ({"lot": 0}, "lot is 0: expected a number above 0"),
        ({"rate": None}, "rate is None: expected a decimal a year"),
        ({"expiry_time": None}, "expiry_time is None: expected a time of day"),
    ],
)
def test_a_contract_that_cannot_be_is_refused(terms: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Contract(name="X", **terms)


def test_an_amount_may_be_any_kind_of_number_or_missing_as_pandas_has_it() -> None:
    assert forward([100], [Decimal("7.5")], [Fraction(5, 2)], spot=105, years=0.1).value == 105
    assert pcr(pd.Series([8, pd.NA], dtype="Int64"), [5, 3]) == 1
    exact = [{**leg, "bid": Decimal(str(leg["bid"]))} for leg in LEGS]
    assert repr(analyse(exact, **TERMS)) == repr(WHOLE)
    missing = [{**LEGS[0], "bid": none, "volume": none} for none in (None, nan, pd.NA, Decimal("NaN"))]
    assert len({repr(analyse([leg, *LEGS[1:]], **TERMS)) for leg in missing}) == 1
    assert len(ohlc([("2025-10-14T09:15:00", 5.0)], minutes=np.int64(5))) == 1  # type: ignore[arg-type]


def test_columns_may_be_lists_tuples_arrays_and_series() -> None:
    strikes, calls, puts = [100, 110, 120], [5, None, 3], [1, 4, nan]
    expected = max_pain(strikes, calls, puts, 111)
    for made in (tuple, np.array, pd.Series):
        columns = [made([nan if x is None else x for x in column]) for column in (strikes, calls, puts)]
        assert max_pain(*columns, spot=111) == expected
    assert pcr(calls, puts) == 5 / 8
    assert pcr([None, nan], puts) is None
    assert pcr([0, 0], puts) is None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: max_pain([100, 100], [1, 1], [1, 1]), "strikes must ascend, and 100 follows 100"),
        (lambda: max_pain([100, nan], [1, 1], [1, 1]), "strikes: expected a number for each"),
        (lambda: max_pain([100, 110], [1], [1, 1]), "call_oi has 1 values: expected 2, one a strike"),
        (lambda: max_pain([100, 110], [1, -1], [1, 1]), "call_oi has -1: expected numbers from 0 on"),
        (lambda: max_pain([100, 110], [1, inf], [1, 1]), "call_oi has inf: expected numbers from 0 on"),
        (lambda: max_pain([100, 110], ["1", 2], [1, 1]), "call_oi has '1': expected numbers"),
        (lambda: max_pain(100, [1], [1]), "strikes is 100: expected a list of numbers"),  # type: ignore[arg-type]
        (lambda: atm([], 100), "no strikes"),
        (lambda: atm([100], nan), "spot is nan: expected a number above 0"),
        (lambda: straddle([100], [1], [1], strike=105), "strike is 105.0: expected one of the strikes"),
        (lambda: walls([100], [1], [1], spot=100, count=0), "count is 0: expected a whole number from 1"),
        (lambda: smile([100], [0.2], [0.2], forward=100, years=30), None),
        (lambda: smile([100], [0.2], [0.2], forward=100, years=300), "years is 300: expected years"),
        (lambda: forward([100], [1], [1], spot=100, years=1, rate=5), "rate is 5: expected a decimal a year"),
        (lambda: svi(WHOLE.smile, [1, 2]), "weights has 2 values: expected 28"),
        (lambda: svi(WHOLE.smile, [nan] * 28), "weights is None: expected a number above 0"),
        (lambda: pcr([[1]], [1]), r"call_oi has \[1\]: expected numbers from 0 on"),
        (lambda: pcr({100: 1}, [1]), r"call_oi is \{100: 1\}: expected a list of numbers"),  # type: ignore[arg-type]
        (lambda: pcr([10**400], [1]), "call_oi has 1000"),
        (lambda: pcr([object()], [1]), "call_oi has <object"),  # type: ignore[list-item]
    ],
)
def test_a_wrong_argument_about_a_chain_is_named(call: Any, message: str | None) -> None:
    if message is None:
        call()
        return
    with pytest.raises(ValueError, match=message):
        call()


def test_help_shows_what_is_asked() -> None:
    assert list(inspect.signature(max_pain).parameters) == ["strikes", "call_oi", "put_oi", "spot"]
    assert "buyers" in (analytics.MaxPain.__doc__ or "")
    assert "minimises" in (max_pain.__doc__ or "")


prices = st.floats(1, 1000)
ticks = st.lists(st.tuples(st.integers(0, 10_000), prices, st.none() | st.integers(0, 100)), max_size=30)


@given(ticks, st.sampled_from([1, 5, 15, 60, 1440]))
def test_bars_are_the_first_the_extreme_and_the_last_of_their_ticks(
    ticks: list[tuple[int, float, int | None]], minutes: int
) -> None:
    start = datetime(2025, 10, 14, tzinfo=UTC).timestamp()
    given_ticks = [(datetime.fromtimestamp(start + s, UTC), p, size) for s, p, size in ticks]
    bars = ohlc(given_ticks, minutes)
    by_start: dict[float, list[tuple[int, float, int | None]]] = {}
    for tick in sorted(ticks, key=lambda tick: tick[0]):
        by_start.setdefault(tick[0] // (minutes * 60), []).append(tick)
    assert len(bars) == len(by_start)
    for bar, (number, held) in zip(bars, sorted(by_start.items()), strict=True):
        paid = [p for _, p, _ in held]
        assert bar.start.timestamp() == start + number * minutes * 60
        assert (bar.end - bar.start).total_seconds() == minutes * 60
        assert (bar.open, bar.high, bar.low, bar.close) == (paid[0], max(paid), min(paid), paid[-1])
        sizes = [size for _, _, size in held if size is not None]
        assert (bar.ticks, bar.volume) == (len(held), sum(sizes) if sizes else None)


def test_long_bars_begin_when_the_market_opens() -> None:
    ticks = [("2025-10-14T09:20:00", 1.0), ("2025-10-14T10:14:59", 2.0), ("2025-10-14T10:15:00", 3.0)]
    bars = ohlc(ticks, 60, zone="Asia/Kolkata", session_open="09:15")
    assert [(bar.start, bar.close) for bar in bars] == [
        (datetime(2025, 10, 14, 3, 45, tzinfo=UTC), 2.0),
        (datetime(2025, 10, 14, 4, 45, tzinfo=UTC), 3.0),
    ]
    assert event_us("2025-10-14T09:15:00+05:30")[0] % (60 * MINUTE) != 0


@pytest.mark.parametrize(
    ("ticks", "given", "message"),
    [
        ([("2025-10-14T09:15:00", nan)], {}, "price is nan: expected a number above 0"),
        ([("2025-10-14", 5.0)], {}, "time is '2025-10-14': expected a datetime"),
        ([("2025-10-14T09:15:00",)], {}, r"expected \(time, price\) or \(time, price, size\)"),
        ([("2025-10-14T09:15:00", 5.0, -1)], {}, "size is -1: expected a number from 0 on"),
        ([None], {}, r"a tick is None: expected \(time, price\)"),
        ([{"time": "2025-10-14", "price": 5.0}], {}, r"expected \(time, price\)"),
        ([], {"minutes": 0}, "minutes is 0: expected a whole number from 1 to 1,440"),
        ([], {"minutes": 1.5}, "minutes is 1.5: expected a whole number"),
        ([], {"zone": "India"}, "zone is 'India': expected a time zone"),
        ([], {"session_open": "9"}, "session_open is '9': expected a time of day"),
    ],
)
def test_a_wrong_tick_or_length_is_refused(ticks: Any, given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ohlc(ticks, **{"minutes": 5, **given})
