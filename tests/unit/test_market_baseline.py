"""What a chain's build-up is compared with: how old it must be, and what is said until there is one."""

from __future__ import annotations

from typing import Any

import pytest

from enricher.analytics.contracts import Contract
from enricher.analytics.position_buildup import Snapshot, SnapshotHistory, snapshot
from enricher.analytics.steps import at_once
from enricher.clock import SECOND, render
from enricher.config.loader import load
from enricher.market.chain_enrichment import enriching
from enricher.market.products import Contracts, ProductSettings
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import ProductState
from enricher.messages.models import Chain
from tests.chains import made_chain
from tests.unit.test_market_state import fold_chain

AT = 1_750_046_400_000_000


class Lane:
    """Chains of one product, enriched and folded one after the other."""

    def __init__(self, settings: MarketSettings | None = None, contract: Contract | None = None) -> None:
        self.settings = settings or MarketSettings(analytics=False)
        self.state = ProductState("NIFTY", self.settings, contract)

    def take(self, seconds: float, oi: float, last: float = 5.0) -> dict[str, Any]:
        """The fields of a chain that comes so many seconds after the first."""
        chain = chain_at(seconds, oi, last)
        taken = snapshot(chain, str(seconds))
        fields, _ = at_once(enriching(self.state, chain, taken, self.settings, None))
        fold_chain(self.state, chain, str(seconds), taken)
        return fields


def chain_at(seconds: float, oi: float, last: float) -> Chain:
    leg = {"strike": 21500, "last": last, "open_interest": oi}
    at = render(AT + int(seconds * SECOND), naive=False)
    return made_chain("NIFTY", "2025-06-26", 21500, at, [leg], [])


def since(fields: dict[str, Any]) -> float | None:
    return None if fields["buildup"] is None else (fields["buildup"]["since_us"] - AT) / SECOND


def test_nothing_younger_than_three_minutes_is_compared_with() -> None:
    lane = Lane()
    reason = "no snapshot at least 180 s older to compare with"
    for seconds in (0, 60, 120, 179.999999):
        fields = lane.take(seconds, 100 + seconds)
        assert since(fields) is None
        assert fields["flags"]["buildup"] == reason
    found = lane.take(180, 400, last=6.0)
    assert (since(found), found["buildup"]["call_oi_change"]) == (0, 300)
    assert found["buildup"]["strikes"][0]["call"] == "long_buildup"
    assert "buildup" not in found["flags"]


def test_open_interest_that_the_exchange_has_not_refreshed_hides_no_build_up() -> None:
    """Chains every ten seconds, open interest every three minutes: neighbours hardly ever differ."""
    lane = Lane()
    found = [lane.take(n * 10, 1000 + n // 18, last=5 + 0.1 * n) for n in range(73)]
    labels = {one["buildup"]["strikes"][0]["call"] for one in found if one["buildup"] is not None}
    assert labels == {"long_buildup"}


def test_a_clock_that_goes_back_changes_what_nobody_else_is_compared_with() -> None:
    lane = Lane()
    lane.take(0, 100)
    lane.take(200, 130)
    assert since(lane.take(90, 170)) is None
    assert since(lane.take(185, 120)) == 0
    assert since(lane.take(379, 140)) == 185
    assert since(lane.take(380, 140)) == 185
    assert since(lane.take(400, 150)) == 185


def test_without_a_least_age_it_is_the_chain_before() -> None:
    lane = Lane(MarketSettings(analytics=False, buildup_min_age=0.0))
    assert lane.take(0, 100)["flags"]["buildup"] == "no earlier snapshot to compare with"
    assert since(lane.take(1, 110)) == 0
    assert since(lane.take(1.5, 120)) == 1


@pytest.mark.parametrize("age", [0.0, 60.0])
def test_a_product_may_have_an_age_of_its_own(age: float) -> None:
    contracts = Contracts({"NIFTY": ProductSettings(buildup_min_age=age)})
    lane = Lane(contract=contracts.of("NIFTY"))
    lane.take(0, 100)
    assert since(lane.take(60, 110)) == 0
    assert contracts.of("BANKNIFTY").buildup_min_age is None


def test_an_age_of_a_product_names_none_of_its_terms() -> None:
    terms = Contracts({"ACME": ProductSettings(buildup_min_age=5)}).of("ACME")
    assert (terms.assumed, terms.buildup_min_age) == (True, 5)


def test_the_age_of_a_product_is_read_from_the_configuration() -> None:
    own = {"market.products": {"NIFTY": {"buildup_min_age": 240}}}
    market = load(environ={}, overrides=own, sections={"market": MarketSettings}).routes["market"]
    assert isinstance(market, MarketSettings)
    assert (market.buildup_min_age, market.products["NIFTY"].buildup_min_age) == (180.0, 240)


def test_what_is_kept_for_comparing_names_the_documents_to_find_again() -> None:
    lane = Lane()
    for seconds in range(0, 400, 10):
        lane.take(seconds, 1)
    (kept,) = lane.state.baselines.identities()[0].values()
    assert kept == ["210", "240", "270", "300", "330", "360", "390"]


def test_a_chain_corrected_for_its_own_moment_is_compared_with_the_one_before() -> None:
    history = SnapshotHistory(0, 0)
    for at, name in ((5, "before"), (9, "as it came"), (9, "corrected")):
        found = history.baseline(9)
        history.add(Snapshot(at, {}, {}, name))
    assert found is not None
    assert found.identity == "before"
    later = history.baseline(10)
    assert later is not None
    assert later.event_us == 9
