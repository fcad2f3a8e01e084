"""Nothing of an enriched chain is null without a reason in the message."""

from __future__ import annotations

import json
from collections.abc import Mapping
from math import exp
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.price_analysis import Extra
from enricher.clock import MINUTE, event_us, render
from enricher.market.surface.svi_scheduler import NOT_FITTED
from tests.unit.test_market_state import NOW_US, OneLane

Legs = list[dict[str, Any]]
START = event_us("2025-06-12T10:00:00+05:30")[0]
SPOT, STEP = 21500, 50
# What is said of a leg although it has a price and a volatility.
REMARKS = {"last_price", "wide", "locked", "crossed", "beyond_quote", "stale_quote"}
# Not unknown but not to be asked for: a parity is of call and put.
NEITHER = {"arbitrage.found.option"}


def unexplained(message: Mapping[str, Any]) -> list[str]:
    """The paths of an enriched chain that are null with no reason where `enricher.market.reasons` says."""
    flags, found = message["flags"], []

    def flagged(path: str) -> bool:
        parts = path.split(".")
        return any(".".join(parts[:length]) in flags for length in range(1, len(parts) + 1))

    def beside(path: str, holder: Mapping[str, Any]) -> bool:
        name = path.rpartition(".")[2]
        own = holder.get("reason") and path not in ("gex.call_wall", "gex.put_wall")
        return bool(own or holder.get(f"{name}_reason") or name in holder.get("reasons", {}))

    def walk(path: str, value: Any, holder: Mapping[str, Any]) -> None:
        if value is None:
            if not (flagged(path) or beside(path, holder) or path in NEITHER):
                found.append(path)
        elif isinstance(value, dict):
            for name, inner in value.items():
                if name != "reason" and not name.endswith("_reason"):
                    walk(f"{path}.{name}", inner, value)
        elif isinstance(value, list):
            for inner in value:
                walk(path, inner, {})

    for name, value in message.items():
        if name not in ("calls", "puts", "flags", "analytics"):
            walk(name, value, {})
    return found + _unexplained_columns(message.get("analytics"), flags)


def _unexplained_columns(analytics: Mapping[str, Any] | None, flags: Mapping[str, str]) -> list[str]:
    if analytics is None:
        return []
    found = [f"analytics.{name}" for name in ("gex", "pcr") if None in analytics[name]]
    for side in ("calls", "puts"):
        told = {k for why, ks in analytics["reasons"][side].items() if why not in REMARKS for k in ks}
        for name, column in analytics[side].items():
            unknown = {k for k, value in zip(analytics["strikes"], column, strict=True) if value is None}
            if unknown - (set() if name == "feed_iv" else told):
                found.append(f"analytics.{side}.{name}")
    return [path for path in found if path not in flags]


def legs(kind: str, without: tuple[str, ...] = (), **said: Any) -> Legs:
    found = []
    for step in range(-10, 11):
        strike = SPOT + STEP * step
        value = max(STEP * (-step if kind == "CALL" else step), 0) + 120 * exp(-((step / 6) ** 2))
        quote = {"bid": value - 0.5, "ask": value + 0.5, "last": value, "iv": 0.15}
        held = {"volume": 10 + step * step, "open_interest": 100 + step * step, "change_in_oi": 5}
        leg = {"strike": strike, **quote, **held, **said}
        found.append({name: value for name, value in leg.items() if name not in without})
    return found


def enriched(calls: Legs, puts: Legs, times: int = 1, analytics: bool = True, **said: Any) -> dict[str, Any]:
    """What is published of the last of so many chains, a minute apart; extras with the second."""
    extras = list(get_args(Extra)) if times == 2 else []
    message = {"product": "NIFTY", "expiry": "2025-06-26", "spot_price": SPOT, "calls": calls, "puts": puts}
    message |= said
    settings = {"market.analytics": analytics, "market.max_pain_curve": True, "market.extras": extras}
    lane = OneLane(message["product"], settings)
    for number in range(times):
        timed = {**message, "timestamp": render(START + number * MINUTE, False)}
        lane.take("option_chain", json.dumps(timed).encode())
        lane.settle()
    found: dict[str, Any] = json.loads(lane.keys[f"latest:chain:{lane.state.product}:{message['expiry']}"])
    return found


CALLS, PUTS = legs("CALL"), legs("PUT")


def both(*without: str, **said: Any) -> dict[str, Any]:
    return {"calls": legs("CALL", without, **said), "puts": legs("PUT", without, **said)}


FULL: dict[str, Any] = {"calls": CALLS, "puts": PUTS}
COIN = [{**leg, **{name: leg[name] / SPOT for name in ("bid", "ask", "last")}} for leg in CALLS]
CHAINS: dict[str, dict[str, Any]] = {
    "full": FULL,
    "without legs": {"calls": [], "puts": [], "strikes": [21000, 21500]},
    "of bare strikes": {"calls": [{"strike": 21500}], "puts": [{"strike": 21500}]},
    "of one strike": {"calls": CALLS[10:11], "puts": PUTS[10:11]},
    "without open interest": both("open_interest", "change_in_oi"),
    "of open interest 0": both(open_interest=0, volume=0, change_in_oi=0),
    "of falling open interest": both(change_in_oi=-5),
    "without volume": both("volume"),
    "without quotes": both("bid", "ask"),
    "without prices": both("bid", "ask", "last"),
    "without volatilities": both("iv"),
    "of one volatility": {"calls": [*legs("CALL", ("iv",))[:-1], CALLS[-1]], "puts": legs("PUT", ("iv",))},
    "of calls": {"calls": CALLS, "puts": []},
    "of puts": {"calls": [], "puts": PUTS},
    "of calls below and puts above": {"calls": CALLS[:9], "puts": PUTS[12:]},
    "with spot 0": {**FULL, "spot_price": 0},
    "with a spot next to 0": {**FULL, "spot_price": 5e-324},
    "with spot beyond all strikes": {**FULL, "spot_price": 90000},
    "with the largest numbers": both(open_interest=1e300, volume=1e300, last=1e300),
    "with the smallest numbers": both(open_interest=1e-300, volume=1e-300),
    "with ratios beyond numbers": {
        "calls": legs("CALL", open_interest=1e-300), "puts": legs("PUT", open_interest=1e300)
    },
    "that has expired": {**FULL, "expiry": "2025-06-10"},
    "of the last date": {**FULL, "expiry": "9999-12-31"},
    "of the first date": {**FULL, "expiry": "0001-01-01"},
    "of the last date without a zone": {**FULL, "expiry": "9999-12-31", "product": "N"},
    "of American options": {**FULL, "product": "SPY"},
    "of an index that cannot be held": {**FULL, "product": "VIX"},
    "of an index that cannot be held without quotes": {**both("bid", "ask"), "product": "VIX"},
    "of an unknown product": {**FULL, "product": "N"},
    "priced in coins": {"calls": COIN, "puts": COIN, "product": "BTC"},
    "of stale quotes": both(timestamp="2025-06-11T10:00:00+00:00"),
    "of prices that can be arbitraged": {"calls": CALLS, "puts": legs("PUT", bid=0.05, ask=0.1)},
    "with null everywhere": both(**dict.fromkeys(("bid", "ask", "last", "iv", "volume", "open_interest"))),
}


@pytest.mark.parametrize("analytics", [True, False])
@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("name", CHAINS)
def test_nothing_is_null_without_a_reason_in_a_chain(name: str, times: int, analytics: bool) -> None:
    message = enriched(**CHAINS[name], times=times, analytics=analytics)
    assert unexplained(message) == []


fields = st.sampled_from(["bid", "ask", "last", "iv", "volume", "open_interest", "change_in_oi"])
values = st.sampled_from([None, 0, 1, 1e-9, 1e9, 1e300, 5e-324, -1])
strips = st.lists(st.tuples(st.integers(0, 20), st.booleans(), fields, values), max_size=60)


@given(strips, st.sampled_from([0, 1e-300, SPOT, 1e9, 1e300]), st.sets(st.integers(0, 41)))
def test_nothing_is_null_without_a_reason_whatever_is_sent(
    changes: list[Any], spot: float, gone: set[int]
) -> None:
    sides = legs("CALL"), legs("PUT")
    for at, put, name, value in changes:
        sides[put][at][name] = value
    calls = [leg for at, leg in enumerate(sides[0]) if at not in gone]
    puts = [leg for at, leg in enumerate(sides[1], 21) if at not in gone]
    if calls or puts:
        assert unexplained(enriched(calls, puts, 2, spot_price=spot)) == []


def test_a_full_chain_says_nothing_of_reasons() -> None:
    assert set(enriched(CALLS, PUTS, 2)["flags"]) == set()


@pytest.mark.parametrize(
    ("chain", "path", "reason"),
    [
        ("of falling open interest", "pcr_oi_change", "open interest does not grow on both sides"),
        ("of calls", "pcr_oi_change", "no known change of open interest of the puts"),
        ("with spot 0", "max_pain_distance_pct", "spot is 0"),
        ("with spot 0", "trading_range", "spot is 0"),
        ("of calls", "trading_range", "no support"),
        ("without open interest", "trading_range", "no support and no resistance"),
        ("of one strike", "trading_range.position", "support and resistance are one strike"),
        ("without open interest", "max_pain_value", "no open interest"),
        ("without volume", "total_call_volume", "no leg has a known volume"),
        ("of calls", "exposure.delta.puts", "no leg with delta and open interest on this side"),
        ("without prices", "exposure.premium", "no leg with price and open interest"),
        ("without prices", "exposure.oi_weighted_iv", "no leg with volatility and open interest"),
        ("of calls", "gex.put_wall", "no strike with negative exposure"),
        ("of calls", "analytics.pcr", "open interest unknown, or 0 of the call, at 21 of 21 strikes"),
        ("of calls", "analytics.puts.feed_iv", "no usable volatility sent at 21 of 21 strikes"),
        ("of calls", "buildup.put_oi_change", "no leg with open interest known then and now"),
        ("of calls", "buildup.strikes.put", "no price or open interest, then or now, at 21 of 21 strikes"),
        ("of an unknown product", "conventions.currency", "not named in the product's terms"),
        ("without volatilities", "conventions.vendor_iv", "nothing sent that tells percent from decimals"),
        ("of calls", "all_expiries.pcr_oi", "no open interest of calls or of puts known today, or 0"),
    ],
)
def test_a_reason_says_what_is_missing(chain: str, path: str, reason: str) -> None:
    assert enriched(**CHAINS[chain], times=2)["flags"][path] == reason


def test_the_walk_over_a_message_finds_a_null_that_nobody_explains() -> None:
    message = enriched(CALLS, PUTS, 2)
    for path in ("max_pain_value", "exposure.delta.total", "all_expiries.pcr_oi", "expected_move.straddle"):
        holder: Any = message
        *way, name = path.split(".")
        for step in way:
            holder = holder[step]
        kept, holder[name] = holder[name], None
        assert unexplained(message) == [path]
        holder[name] = kept
    message["analytics"]["calls"]["gamma"][3] = message["analytics"]["gex"][3] = None
    assert unexplained(message) == ["analytics.gex", "analytics.calls.gamma"]


def ratios(calls: Legs, puts: Legs) -> dict[str, Any]:
    """What ``latest:pcr`` says after a chain."""
    lane = OneLane("NIFTY")
    message = {"product": "NIFTY", "expiry": "2025-06-26", "spot_price": SPOT, "calls": calls, "puts": puts}
    lane.take("option_chain", json.dumps({**message, "timestamp": render(START, False)}).encode())
    found: dict[str, Any] = json.loads(lane.keys["latest:pcr:NIFTY:2025-06-26"])
    return found


def test_a_ratio_that_is_null_has_its_reason_where_the_ratios_stand_alone_too() -> None:
    told = ratios([], PUTS)
    assert told["pcr_oi"] is told["pcr_volume"] is None
    assert told["flags"] == {
        "pcr_oi": "no known open interest of the calls", "pcr_volume": "no known volume of the calls"
    }  # fmt: skip
    assert "flags" not in ratios(CALLS, PUTS)


NEXT_MONTH = "2025-07-31"


def unexplained_in_surface(surface: Mapping[str, Any]) -> set[str]:
    """The paths of a surface that are null with no reason beside them or in its flags."""
    found: set[str] = set()

    def walk(path: str, value: Any, holder: Mapping[str, Any]) -> None:
        name = path.rpartition(".")[2]
        if value is None:
            beside = holder.get("reason") or holder.get(f"{name}_reason")
            beside = beside or holder.get("reasons", {}).get(name)
            # A parity is of call and put, so that a finding may name neither.
            if not (beside or path in surface.get("flags", {}) or path.endswith("found.option")):
                found.add(path)
        elif isinstance(value, dict):
            for inner, held in value.items():
                if inner != "reason" and not inner.endswith("_reason"):
                    walk(f"{path}.{inner}".removeprefix("."), held, value)
        elif isinstance(value, list):
            for held in value:
                walk(path, held, {})

    walk("", surface, {})
    return found


def drawn(said: Mapping[str, Any], fitted: bool = False) -> dict[str, Any]:
    """The surface of a product after a chain of this kind, one of another expiry, and again one of this."""
    message = {"product": "NIFTY", "expiry": "2025-06-26", "spot_price": SPOT, **said}
    product = message["product"]
    lane = OneLane(product)
    for minute, expiry in enumerate((message["expiry"], NEXT_MONTH, message["expiry"])):
        timed = {**message, "expiry": expiry, "timestamp": render(START + minute * MINUTE, False)}
        lane.take("option_chain", json.dumps(timed).encode())
        lane.settle()
    key = f"volatility_surface:{product}"
    while fitted and (due := lane.state.surface.svi.due()) is not None:
        shown = lane.state_store.on_time(lane.state, max(due, NOW_US))
        lane.keys.update({effect.key: effect.value for effect in shown})  # type: ignore[attr-defined]
    found: dict[str, Any] = json.loads(lane.keys[key])
    return found


@pytest.mark.parametrize("name", CHAINS)
def test_nothing_is_null_without_a_reason_in_a_surface(name: str) -> None:
    assert unexplained_in_surface(drawn(CHAINS[name])) == set()


@pytest.mark.parametrize("name", ["full", "of calls", "of one strike", "without prices"])
def test_nothing_is_null_without_a_reason_when_curves_are_fitted(name: str) -> None:
    surface = drawn(CHAINS[name], fitted=True)
    assert unexplained_in_surface(surface) == set()
    assert all("svi_reason" not in row and row["svi"] is not None for row in surface["smiles"])


@pytest.mark.parametrize(
    ("name", "field", "reason"),
    [
        ("full", "svi", NOT_FITTED),
        ("of calls", "variance_swap", "no_parity_pair"),
        ("of an index that cannot be held without quotes", "forward", "no_parity_pair"),
    ],
)
def test_a_row_says_beside_a_null_why_it_is_one(name: str, field: str, reason: str) -> None:
    row = drawn(CHAINS[name])["smiles"][0]
    assert row[field] is None
    assert row[f"{field}_reason"] == reason


def test_the_walk_over_a_surface_finds_a_null_that_nobody_explains() -> None:
    surface = drawn(CHAINS["full"])
    surface["smiles"][0]["forward"] = None
    surface["term"]["maturities"][1] |= {"iv": None, "reason": None}
    assert unexplained_in_surface(surface) == {"smiles.forward", "term.maturities.iv"}


def test_an_expiry_of_the_last_date_there_is_leaves_the_surface_of_a_product_whole() -> None:
    surface = drawn(CHAINS["of the last date"])
    assert [row["expiry"] for row in surface["smiles"]] == [NEXT_MONTH, "9999-12-31"]
    assert len(surface["term"]["years"]) >= 1
