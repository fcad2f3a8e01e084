"""Nothing of a drawn surface is null without a reason in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from enricher.clock import MINUTE, render
from enricher.market.surface.svi_scheduler import NOT_FITTED
from tests.unit.test_market_reasons import CHAINS, SPOT, START
from tests.unit.test_market_state import NOW_US, OneLane

NEXT_MONTH = "2025-07-31"


def unexplained(surface: Mapping[str, Any]) -> set[str]:
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
    assert unexplained(drawn(CHAINS[name])) == set()


@pytest.mark.parametrize("name", ["full", "of calls", "of one strike", "without prices"])
def test_nothing_is_null_without_a_reason_when_curves_are_fitted(name: str) -> None:
    surface = drawn(CHAINS[name], fitted=True)
    assert unexplained(surface) == set()
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
    assert unexplained(surface) == {"smiles.forward", "term.maturities.iv"}


def test_an_expiry_of_the_last_date_there_is_leaves_the_surface_of_a_product_whole() -> None:
    surface = drawn(CHAINS["of the last date"])
    assert [row["expiry"] for row in surface["smiles"]] == [NEXT_MONTH, "9999-12-31"]
    assert len(surface["term"]["years"]) >= 1
