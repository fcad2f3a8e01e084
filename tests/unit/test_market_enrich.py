"""The steps between a decoded chain and its published fields."""

from __future__ import annotations

import pytest

from enricher.config.loader import load
from enricher.market.enrich import least_move
from enricher.market.products import Contracts
from enricher.market.settings import MarketSettings


@pytest.mark.parametrize(
    ("product", "move"), [("NIFTY", 0.025), ("SPY", 0.005), ("BTC", 0.00005), ("BTC_USDC", 0.05)]
)
def test_the_least_move_is_half_the_tick_of_the_product(product: str, move: float) -> None:
    assert least_move(MarketSettings(), Contracts().of(product)) == pytest.approx(move)


def test_a_least_move_that_is_set_holds_for_every_product_also_at_zero() -> None:
    assert least_move(MarketSettings(half_tick=0.0), Contracts().of("NIFTY")) == 0.0
    assert least_move(MarketSettings(half_tick=2.0), Contracts().of("BTC")) == 2.0


def test_a_least_move_can_be_set_in_the_environment() -> None:
    settings = load(environ={"ENRICHER_MARKET__HALF_TICK": "0.5"}, sections={"market": MarketSettings})
    market = settings.routes["market"]
    assert isinstance(market, MarketSettings)
    assert market.half_tick == 0.5
