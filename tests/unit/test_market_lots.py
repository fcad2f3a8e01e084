"""How many units one contract is for, by its expiry and the day of looking."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import pytest

from enricher.analytics.position_buildup import snapshot
from enricher.analytics.steps import at_once
from enricher.clock import event_us
from enricher.market.chain_enrichment import enriching
from enricher.market.products import Contracts, ProductSettings
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import ProductState
from tests.chains import made_chain

SHIPPED_CONTRACTS = Contracts()
SPANS = MarketSettings(windows=(1,), lateness=0.0, buildup_min_age=0.0)


def us(text: str) -> int:
    return event_us(text)[0]


def published(product: str, expiry: str, moment: str) -> dict[str, Any]:
    legs = [{"strike": 100, "bid": 4.0, "ask": 4.1, "open_interest": 10}]
    chain = made_chain(product, expiry, 100, moment, legs, legs, strikes=[100])
    state = ProductState(product, SPANS)
    fields, _ = at_once(enriching(state, chain, snapshot(chain), MarketSettings(), UTC))
    return fields


@pytest.mark.parametrize(
    ("moment", "lot"), [("2025-12-30T15:00:00+05:30", 75), ("2025-12-31T10:00:00+05:30", 65)]
)
def test_exposures_of_a_quarterly_contract_count_by_the_lot_of_the_day(moment: str, lot: float) -> None:
    fields = published("NIFTY", "2026-03-31", moment)
    conventions = fields["conventions"]
    assert (conventions["lot"], conventions["units"], conventions["assumed"]) == (lot, lot, False)
    assert fields["exposure"]["premium"]["total"] == pytest.approx(2 * 4.05 * 10 * lot)


def test_a_chain_of_years_ago_says_that_its_lot_is_assumed() -> None:
    assert published("NIFTY", "2022-03-31", "2022-03-28T10:47:00+05:30")["conventions"]["assumed"] is True


LOTS = [
    # what the exchange announced: index, expiry, day of looking, lot
    ("NIFTY", "2024-04-25", "2024-04-20", 50),
    ("NIFTY", "2024-05-02", "2024-04-26", 25),
    ("NIFTY", "2024-06-27", "2024-04-25", 50),
    ("NIFTY", "2024-06-27", "2024-04-26", 25),
    ("NIFTY", "2024-12-26", "2024-12-26", 25),
    ("NIFTY", "2025-01-02", "2024-12-10", 75),
    ("NIFTY", "2025-01-30", "2025-01-20", 25),
    ("NIFTY", "2025-02-27", "2024-12-10", 75),
    ("NIFTY", "2025-03-27", "2024-12-26", 25),
    ("NIFTY", "2025-03-27", "2024-12-27", 75),
    ("NIFTY", "2025-12-30", "2025-12-30", 75),
    ("NIFTY", "2026-01-06", "2025-12-10", 65),
    ("NIFTY", "2026-03-31", "2025-12-30", 75),
    ("NIFTY", "2026-03-31", "2025-12-31", 65),
    ("BANKNIFTY", "2023-07-20", "2023-07-20", 25),
    ("BANKNIFTY", "2023-07-27", "2023-07-20", 15),
    ("BANKNIFTY", "2023-09-28", "2023-06-30", 25),
    ("BANKNIFTY", "2023-09-28", "2023-07-03", 15),
    ("BANKNIFTY", "2025-01-29", "2025-01-02", 15),
    ("BANKNIFTY", "2025-02-26", "2024-12-02", 30),
    ("BANKNIFTY", "2025-03-26", "2024-12-24", 15),
    ("BANKNIFTY", "2025-03-26", "2024-12-26", 30),
    ("BANKNIFTY", "2025-06-26", "2025-06-02", 30),
    ("BANKNIFTY", "2025-07-31", "2025-05-02", 35),
    ("BANKNIFTY", "2025-09-25", "2025-04-24", 30),
    ("BANKNIFTY", "2025-09-25", "2025-04-25", 35),
    ("BANKNIFTY", "2026-01-27", "2025-12-01", 30),
    ("FINNIFTY", "2024-07-23", "2024-07-01", 40),
    ("FINNIFTY", "2024-07-30", "2024-07-01", 25),
    ("FINNIFTY", "2025-01-30", "2025-01-01", 25),
    ("FINNIFTY", "2025-02-27", "2025-01-01", 65),
    ("FINNIFTY", "2026-01-27", "2026-01-01", 60),
    ("MIDCPNIFTY", "2024-07-22", "2024-07-01", 75),
    ("MIDCPNIFTY", "2024-07-29", "2024-07-01", 50),
    ("MIDCPNIFTY", "2025-06-26", "2025-06-01", 120),
    ("MIDCPNIFTY", "2025-07-31", "2025-06-01", 140),
    ("NIFTYNXT50", "2024-12-27", "2024-12-01", 10),
    ("NIFTYNXT50", "2025-02-27", "2025-02-01", 25),
    ("SENSEX", "2025-02-25", "2025-02-01", 20),
    ("BANKEX", "2025-02-25", "2025-02-01", 30),
]  # fmt: skip


@pytest.mark.parametrize(("product", "expiry", "day", "lot"), LOTS)
def test_a_lot_is_what_the_exchange_announced(product: str, expiry: str, day: str, lot: float) -> None:
    contract = SHIPPED_CONTRACTS.of(product).as_of(us(f"{day}T15:29:00+05:30"))
    assert contract.units(expiry) == lot
    assert not contract.assumes(expiry)
    assert contract.conventions(expiry)["lot"] == lot


def test_long_contracts_change_their_lot_with_the_end_of_a_day() -> None:
    nifty = SHIPPED_CONTRACTS.of("NIFTY")
    midnight = us("2025-12-31T00:00:00+05:30")
    assert nifty.as_of(midnight - 1).units("2026-03-31") == 75
    assert nifty.as_of(midnight) is nifty
    assert nifty.units("2026-03-31") == 65


@pytest.mark.parametrize(
    ("product", "expiry"),
    [("NIFTY", "2022-03-31"), ("BANKNIFTY", "2020-01-02"), ("NIFTYNXT50", "2024-05-31"),
     ("SENSEX", "2025-01-07"), ("BANKEX", "2024-12-30"), ("NSE:RELIANCE", "2026-01-27")],
)  # fmt: skip
def test_a_lot_that_is_not_known_is_assumed(product: str, expiry: str) -> None:
    contract = SHIPPED_CONTRACTS.of(product)
    assert contract.assumes(expiry)
    assert contract.conventions(expiry)["assumed"] is True
    assert contract.units(expiry) > 0


def test_a_lot_that_is_set_is_known_for_every_expiry() -> None:
    contract = Contracts({"NIFTY": ProductSettings(lot=75)}).of("NIFTY").as_of(us("2019-01-01T00:00:00Z"))
    assert (contract.units("2019-01-31"), contract.assumes("2019-01-31")) == (75, False)


def test_other_terms_do_not_make_a_lot_known() -> None:
    settings = {"NSE:INFY": ProductSettings(rate=0.07), "NSE:TCS": ProductSettings(oi_unit="units")}
    contracts = Contracts(settings)
    assert contracts.of("NSE:INFY").assumed
    assert not contracts.of("NSE:TCS").assumed
