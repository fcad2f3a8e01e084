"""The library's functions about one option: known values, laws, and what they say of wrong arguments."""

from __future__ import annotations

import doctest
import inspect
import re
from decimal import Decimal
from math import exp, inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from enricher import analytics
from enricher.analytics import american_pricing, greeks, implied_volatility, price, price_bars
from enricher.analytics import option_pricing as options
from tests.pages import blocks

GIVEN = {"forward": 105.0, "strike": 100.0, "years": 0.5, "rate": 0.03}


@pytest.mark.parametrize(
    ("kind", "forward", "strike", "years", "volatility", "rate", "worth"),
    [
        # Hull, Options, Futures, and Other Derivatives: a European put on a futures contract.
        ("put", 20, 20, 4 / 12, 0.25, 0.09, 1.12),
        # Haug, The Complete Guide to Option Pricing Formulas: Black-76.
        ("call", 19, 19, 0.75, 0.28, 0.10, 1.7011),
        # Hull: a call on a stock of 42 (forward 42 exp(r T)), strike 40, half a year, r = 10 %, 20 %.
        ("call", 42 * exp(0.05), 40, 0.5, 0.2, 0.1, 4.76),
        ("put", 42 * exp(0.05), 40, 0.5, 0.2, 0.1, 0.81),
    ],
)
def test_prices_are_those_of_the_textbooks(
    kind: str, forward: float, strike: float, years: float, volatility: float, rate: float, worth: float
) -> None:
    found = price(
        forward=forward, strike=strike, years=years, volatility=volatility, rate=rate, kind=kind
    )
    assert found == pytest.approx(worth, abs=0.005 if worth != 1.7011 else 5e-5)


def test_greeks_are_those_of_the_textbook() -> None:
    # Hull, the Greek letters: a call on a stock of 49, strike 50, 20 weeks, r = 5 %, 20 %.
    forward = 49 * exp(0.05 * 0.3846)
    call = greeks(forward=forward, strike=50, years=0.3846, volatility=0.2, rate=0.05, kind="call", spot=49)
    assert call is not None
    assert call.delta_spot == pytest.approx(0.522, abs=5e-4)
    assert call.vega * 100 == pytest.approx(12.1, abs=0.05)
    assert call.rho * 100 == pytest.approx(8.91, abs=0.005)


forwards = st.floats(1, 1e5)
moneyness = st.floats(-2.0, 2.0)
volatilities = st.floats(0.02, 3.0)
times = st.floats(1 / 365, 3.0)
rates = st.floats(-0.1, 0.3)


@given(forwards, moneyness, times, volatilities, rates)
def test_calls_and_puts_keep_put_call_parity(
    forward: float, k: float, years: float, volatility: float, rate: float
) -> None:
    terms = {"forward": forward, "strike": forward * exp(k), "years": years, "rate": rate}
    call, put = (price(**terms, volatility=volatility, kind=kind) for kind in ("call", "put"))
    assert call - put == pytest.approx(exp(-rate * years) * (forward - terms["strike"]), abs=1e-10 * forward)


@given(forwards, moneyness, times, volatilities, rates)
def test_a_price_out_of_the_money_gives_its_volatility_back(
    forward: float, k: float, years: float, volatility: float, rate: float
) -> None:
    kind = "call" if k >= 0 else "put"
    terms = {"forward": forward, "strike": forward * exp(k), "years": years, "rate": rate, "kind": kind}
    worth = price(**terms, volatility=volatility)
    assume(worth > 1e-90)
    value, reason = implied_volatility(price=worth, **terms)
    assert reason is None
    assert value == pytest.approx(volatility, rel=1e-9)


@given(forwards, moneyness, times, volatilities, rates)
def test_delta_and_vega_are_slopes_of_the_price(
    forward: float, k: float, years: float, volatility: float, rate: float
) -> None:
    terms = {"strike": forward * exp(k), "years": years, "rate": rate, "kind": "call"}
    found = greeks(forward=forward, volatility=volatility, **terms)
    assert found is not None
    step = 1e-5 * forward
    up, down = (price(forward=forward + move, volatility=volatility, **terms) for move in (step, -step))
    assert found.delta == pytest.approx((up - down) / (2 * step), abs=1e-5)
    up, down = (price(forward=forward, volatility=volatility + move, **terms) for move in (1e-5, -1e-5))
    assert found.vega * 100 == pytest.approx((up - down) / 2e-5, rel=1e-4, abs=1e-5 * forward)


@pytest.mark.parametrize("kind", ["call", "Call", "CALL", "c", "C", "CE", "ce"])
def test_a_call_has_many_names(kind: str) -> None:
    assert price(**GIVEN, volatility=0.2, kind=kind) == price(**GIVEN, volatility=0.2, kind="call")


@pytest.mark.parametrize("kind", ["put", "PUT", "p", "P", "PE", "pe"])
def test_a_put_has_many_names(kind: str) -> None:
    assert price(**GIVEN, volatility=0.2, kind=kind) == price(**GIVEN, volatility=0.2, kind="put")


@pytest.mark.parametrize("kind", ["", "calls", "X", 1, None, b"call"])
def test_another_kind_is_refused_with_what_is_right(kind: Any) -> None:
    with pytest.raises(ValueError, match='expected "call" or "put"'):
        price(**GIVEN, volatility=0.2, kind=kind)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("forward", 0), ("forward", -5.0), ("forward", inf), ("forward", "100"),
        ("strike", 0.0), ("strike", nan), ("strike", None), ("strike", True), ("strike", 1e300),
        ("years", nan), ("years", inf), ("years", 365), ("years", "1"),
        ("rate", 6.5), ("rate", nan), ("rate", None),
        ("strike", 10**400), ("strike", [5.0]), ("strike", np.array([5.0, 6.0])), ("years", Decimal("sNaN")),
        ("rate", np.datetime64("2025-10-30")), ("volatility", np.array([0.2, 0.3])),
        ("volatility", -0.2), ("volatility", inf), ("volatility", "20"),
    ],
)  # fmt: skip
def test_a_wrong_argument_is_named_with_what_is_right(name: str, value: Any) -> None:
    for function in (price, greeks):
        arguments: dict[str, Any] = {**GIVEN, "volatility": 0.2, "kind": "call", name: value}
        with pytest.raises(ValueError, match=f"^{name} is .*: expected "):
            function(**arguments)
    if name != "volatility":
        arguments = {**GIVEN, "price": 5.0, "kind": "call", name: value}
        with pytest.raises(ValueError, match=f"^{name} is .*: expected "):
            implied_volatility(**arguments)


@pytest.mark.parametrize("value", [-1.0, inf, "5"])
def test_a_wrong_price_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"^price is .*: expected a number from 0 on"):
        implied_volatility(**GIVEN, price=value, kind="call")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"price": None}, "no_price"),
        ({"price": nan}, "no_price"),
        ({"forward": None}, "no_forward"),
        ({"forward": nan}, "no_forward"),
        ({"years": 0.0}, "expired"),
        ({"years": -0.1}, "expired"),
        ({"price": 1.0}, "below_intrinsic"),
        ({"price": 0.0, "strike": 120.0}, "no_time_value"),
        ({"price": 106.0}, "above_maximum"),
    ],
)
def test_what_has_no_volatility_says_why(changes: dict[str, Any], reason: str) -> None:
    arguments: dict[str, Any] = {**GIVEN, "price": 8.0, "kind": "call", **changes}
    assert implied_volatility(**arguments) == (None, reason)


def test_a_volatility_out_of_range_is_given_and_marked() -> None:
    worth = price(**GIVEN, volatility=12.0, kind="put")
    value, reason = implied_volatility(**GIVEN, price=worth, kind="put")
    assert (round(value or 0, 6), reason) == (12.0, "out_of_range")


@pytest.mark.parametrize("changes", [{"years": 0}, {"years": -1}, {"volatility": 0}, {"volatility": None}])
def test_without_time_or_volatility_there_are_no_greeks(changes: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {**GIVEN, "volatility": 0.2, "kind": "call", **changes}
    assert greeks(**arguments) is None


@pytest.mark.parametrize("changes", [{"years": 0}, {"years": -1}, {"years": 0, "volatility": 0}])
def test_expired_an_option_is_worth_what_it_pays(changes: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {**GIVEN, "volatility": 0.2, **changes}
    assert price(**arguments, kind="call") == 5.0
    assert price(**arguments, kind="put") == 0.0


def test_numbers_of_numpy_are_numbers() -> None:
    terms = {name: np.float64(value) for name, value in GIVEN.items()}
    half = price(**GIVEN, volatility=0.5, kind="call")
    assert price(**terms, volatility=np.float32(0.5), kind="call") == half
    assert implied_volatility(**GIVEN, price=np.nan, kind="call").reason == "no_price"


PAGE = Path(__file__).parents[2] / "docs" / "analytics.md"
TEXT = PAGE.read_text(encoding="utf-8")


def failures(examples: doctest.DocTest) -> str:
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=said.append)
    return "".join(said)


def test_the_examples_of_the_page_give_what_they_show() -> None:
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks(TEXT)), {}, PAGE.name, str(PAGE), 0)
    assert len(examples.examples) > 15
    assert not failures(examples)


def test_the_examples_of_the_docstrings_give_what_they_show() -> None:
    for module in (options, american_pricing, price_bars):
        tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
        assert tests
        assert not "".join(map(failures, tests))


def test_the_table_has_every_function() -> None:
    functions = {name for name in analytics.__all__ if inspect.isfunction(getattr(analytics, name))}
    assert set(re.findall(r"^\| `(\w+)` \| .* \| .* \|$", TEXT, re.MULTILINE)) == functions
