"""What an analysed chain says of itself, as it is published."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from math import inf, isfinite, nan
from typing import Any

import bson
import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.chain_prices import chain_prices
from enricher.analytics.columns import columns
from enricher.analytics.price_analysis import PriceAnalysis, analyse_prices
from enricher.analytics.rounding import rounded_all
from enricher.analytics.staleness import NO_AGES, fresh
from enricher.clock import event_us, render
from enricher.market.products import Contracts, ProductSettings
from enricher.market.serialisation import Fields, analysis_fields, rounded
from tests.chains import made_chain


def fields_of(product: str, moment: str, expiry: str = "2025-06-20", **terms: Any) -> Fields:
    contract = Contracts({product: ProductSettings(**terms)} if terms else {}).of(product)
    at = event_us(moment)[0]
    legs = [{"strike": strike, "bid": 4.9, "ask": 5.1} for strike in (95, 100, 105)]
    chain = made_chain(product, expiry, 100, render(at, True), legs, legs)
    cells = fresh(columns(chain), NO_AGES, 300)
    found = analyse_prices(chain, chain_prices(chain, cells, contract), contract)
    return analysis_fields(found, cells.strikes, contract, expiry, 300)


def flags(product: str, moment: str) -> dict[str, str]:
    told: dict[str, str] = fields_of(product, moment)["flags"]
    return told


def test_dividends_in_cash_are_told_and_how_early_exercise_counts_them() -> None:
    moment = "2025-06-10T12:00:00-04:00"
    assert "dividends" not in fields_of("SPY", moment)["conventions"]
    assert "model" not in fields_of("SPY", moment, dividends=(("2025-06-16", 1.5),))["flags"]
    told = fields_of("SPY", moment, dividends=(("2025-06-16", 1.5), ("2025-06-18", 0.5)))
    assert told["conventions"]["dividends"] == [["2025-06-16", 1.5], ["2025-06-18", 0.5]]
    assert told["conventions"]["model"] == "black76_and_early_exercise"
    assert told["flags"]["model"] == "early exercise of several dividends in cash is an approximation"
    gone = fields_of("SPY", moment, dividends=(("2025-06-10", 1.5),))
    assert "model" not in gone["flags"]
    assert "dividends" not in gone["conventions"]


@pytest.mark.parametrize(
    ("moment", "flag"),
    [
        ("2025-06-20T15:00:00-04:00", None),
        ("2025-06-20T15:58:00-04:00", "near_expiry"),
        ("2025-06-20T16:00:00-04:00", "expired"),
    ],
)
def test_a_chain_near_or_past_its_expiry_says_so(moment: str, flag: str | None) -> None:
    assert flags("XSP", moment).get("years") == flag


XSP, EXPIRY = Contracts().of("XSP"), "2025-06-20"
AT = event_us("2025-06-10T12:00:00-04:00")[0]
CALLS = [(90, 10.4), (95, 5.9), (100, 2.4), (105, 0.62), (110, 0.1)]
PUTS = [(90, 0.12), (95, 0.6), (100, 2.1), (105, 5.3), (110, 9.8)]


def analysed(max_age: float = 300, **said: Any) -> tuple[PriceAnalysis, Fields]:
    """The analysis of a small chain, and what is shown of it; ``said`` changes the call at 100."""
    sides = [
        [{"strike": k, "bid": p * 0.99, "ask": p * 1.01, "open_interest": 7, "iv": 16.0} for k, p in side]
        for side in (CALLS, PUTS)
    ]
    sides[0][2] |= said
    chain = made_chain("XSP", EXPIRY, 100, render(AT, True), *sides)
    cells = fresh(columns(chain), NO_AGES, 300)
    found = analyse_prices(chain, chain_prices(chain, cells, XSP), XSP)
    return found, analysis_fields(found, cells.strikes, XSP, EXPIRY, max_age)


def numbers(value: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Every float of plain data, with its path; the places of a list are left out."""
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from numbers(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list):
        for inner in value:
            yield from numbers(inner, path)


DIGITS = {"years": 10, "discount": 10, "smile.ivs": 8, "variance_swap.variance": 10, "gex": 4, "arbitrage": 4}
DIGITS |= {f"analytics.{side}.gamma": 10 for side in ("calls", "puts")}
DIGITS |= {f"exposure.{name}": 2 for name in ("delta", "vega", "premium")}


def test_numbers_are_shown_to_the_digits_that_the_page_promises() -> None:
    for path, number in numbers(analysed()[1]):
        parts = path.split(".")
        known = (DIGITS.get(".".join(parts[:length])) for length in range(len(parts), 0, -1))
        digits = next((found for found in known if found is not None), 6)
        exponent = Decimal(repr(number)).as_tuple().exponent
        assert isinstance(exponent, int)
        assert -exponent <= digits, path


def test_what_is_shown_is_what_was_found() -> None:
    found, shown = analysed()
    assert shown["forward"]["price"] == pytest.approx(found.forward.value, abs=1e-6)
    assert shown["gex"]["net"] == pytest.approx(found.gamma_exposure.net, abs=0.01)
    assert shown["smile"]["ivs"] == pytest.approx(found.smile.iv, abs=1e-8)
    assert shown["atm_iv"] == shown["smile"]["atm_iv"] == pytest.approx(found.smile_measures.atm_iv, abs=1e-6)
    for side, name in ((found.calls, "calls"), (found.puts, "puts")):
        for greek in ("iv", "delta", "gamma", "vega", "theta", "rho"):
            assert shown["analytics"][name][greek] == pytest.approx(getattr(side, greek), abs=1e-6)
    assert shown["analytics"]["calls"]["feed_iv"] == [0.16] * 5


def test_what_is_shown_is_plain_data_that_json_and_bson_can_hold() -> None:
    _, shown = analysed()
    assert orjson.loads(orjson.dumps(shown)) == shown
    kept = bson.decode(bson.encode({**shown, "timestamp": datetime(2025, 6, 10, tzinfo=UTC)}))
    kept.pop("timestamp")
    assert kept == shown


def test_a_chain_says_on_what_terms_and_in_which_units_it_was_computed() -> None:
    conventions = analysed(max_age=60)[1]["conventions"]
    said = {"rate": XSP.rate, "day_count": "ACT/365", "units": 100.0, "lot": 100.0, "max_price_age": 60}
    said |= {"model": "black76", "vega": "per_volatility_point", "theta": "per_calendar_day"}
    assert {name: conventions[name] for name in said} == said
    assert conventions["vendor_iv"] == "percent"


@pytest.mark.parametrize(
    ("said", "reasons"),
    [
        ({}, {}),
        ({"bid": None, "ask": None}, {"no_price": [100]}),
        ({"bid": None, "ask": None, "last": 2.4, "volume": 5}, {"last_price": [100]}),
        ({"bid": None}, {"no_bid": [100], "no_price": [100]}),
        ({"bid": 2.4, "ask": 2.4}, {"locked": [100]}),
        ({"bid": 0.01, "ask": 0.02}, {"below_intrinsic": [100]}),
    ],
)
def test_a_leg_is_listed_under_what_there_is_to_say_of_it(said: dict[str, Any], reasons: Fields) -> None:
    assert analysed(**said)[1]["analytics"]["reasons"]["calls"] == reasons


def test_strikes_under_a_reason_ascend_and_stand_there_once() -> None:
    found, _ = analysed()
    flags = {3: "wide", 1: "wide", 0: "no_price", 4: "no_price"}
    reasons = {2: "wide", 4: "no_price", 3: "wide", 0: "no_price"}
    calls = msgspec.structs.replace(found.calls, flags=flags, reasons=reasons)
    changed = msgspec.structs.replace(found, calls=calls)
    shown = analysis_fields(changed, [90, 95, 100, 105, 110], XSP, EXPIRY, 300)
    assert shown["analytics"]["reasons"]["calls"] == {"no_price": [90, 110], "wide": [95, 100, 105]}


@pytest.mark.parametrize("number", [None, nan, inf, -inf])
def test_what_is_not_finite_is_shown_as_unknown(number: float | None) -> None:
    assert rounded(number) is None
    assert rounded_all([1.23456789, number]) == [1.234568, None]


def plainly(number: float | None, digits: int) -> float | None:
    return None if number is None or not isfinite(number) else round(number, digits) + 0


@given(st.lists(st.none() | st.floats(allow_nan=True)), st.integers(0, 10))
def test_numbers_are_rounded_as_python_rounds_them(column: list[float | None], digits: int) -> None:
    plain = [plainly(number, digits) for number in column]
    assert list(map(repr, rounded_all(column, digits))) == list(map(repr, plain))
    assert [repr(rounded(number, digits)) for number in column] == list(map(repr, plain))


places = st.sampled_from([0.0, 0.5, 0.4999999, 1e-9])


@given(st.lists(st.integers(-(10**9), 10**9)), st.integers(0, 10), places)
def test_numbers_near_the_middle_of_two_steps_are_rounded_like_others(
    steps: list[int], digits: int, beside: float
) -> None:
    column: list[float | None] = [(step + beside) / 10**digits for step in steps]
    plain = [plainly(number, digits) for number in column]
    assert rounded_all(column, digits) == plain
    assert [rounded(number, digits) for number in column] == plain


@given(st.integers())
def test_a_whole_number_is_shown_as_one(number: int) -> None:
    assert repr(rounded(number)) == repr(number)


def test_a_last_price_that_was_sent_as_a_whole_number_is_shown_as_one() -> None:
    price = analysed(bid=None, ask=None, last=2)[1]["analytics"]["calls"]["price"][2]
    assert (price, type(price)) == (2, int)
