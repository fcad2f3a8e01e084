"""What an analysed chain says of itself, as it is published."""

from __future__ import annotations

import json

import pytest

from enricher.market.analytics import Terms, analyse_prices
from enricher.market.clock import event_us, render
from enricher.market.columns import columns
from enricher.market.fresh import UNTOLD, fresh
from enricher.market.models import decode_chain
from enricher.market.products import Contracts
from enricher.market.report import analysis_fields


def flags(product: str, moment: str, expiry: str = "2025-06-20") -> dict[str, str]:
    contract, at = Contracts().of(product), event_us(moment)[0]
    legs = [{"strike": strike, "bid": 4.9, "ask": 5.1} for strike in (95, 100, 105)]
    message = {"product": product, "expiry": expiry, "spot_price": 100, "timestamp": render(at, True)}
    chain = decode_chain(json.dumps({**message, "calls": legs, "puts": legs}).encode(), now_us=2**60)
    cells, terms = fresh(columns(chain), UNTOLD, 300), Terms()
    found = analyse_prices(chain, cells, contract, terms)
    told: dict[str, str] = analysis_fields(found, cells.strikes, contract, expiry, terms)["flags"]
    return told


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


def test_american_options_are_marked_as_computed_like_european_ones() -> None:
    moment = "2025-06-10T12:00:00-04:00"
    assert flags("SPY", moment)["model"] == "european approximation of american options"
    assert "model" not in flags("XSP", moment)
