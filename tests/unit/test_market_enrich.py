"""The steps between a decoded chain and its published fields."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import orjson
import pytest

from enricher.analytics.position_buildup import snapshot
from enricher.analytics.steps import at_once
from enricher.assembly import planned
from enricher.clock import MINUTE, event_us, render
from enricher.engine.effects import Insert, SetKey
from enricher.engine.router import Context
from enricher.market.chain_enrichment import enriching, least_move, shown_price
from enricher.market.products import Contracts
from enricher.market.reasons import AHEAD
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import ProductState
from enricher.messages.models import Chain
from enricher.systems import load
from tests.chains import made_chain
from tests.unit.test_market_state import fold_chain


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


SPANS = MarketSettings(lateness=0.0, buildup_min_age=0.0)
START = event_us("2025-06-12T10:00:00+00:00")[0]
# What the contract promises of a chain, times apart.
PROMISED = {
    "product", "expiry", "spot_price", "pcr_oi", "pcr_volume", "atm_strike", "atm_straddle_price",
    "max_pain_strike", "total_call_oi", "total_put_oi", "call_buildup_otm", "put_buildup_otm", "calls",
    "puts", "flags",
}  # fmt: skip


def chain(
    minute: int = 0, product: str = "NIFTY", last: float = 100.0, oi: float = 10, **said: Any
) -> Chain:
    leg = {"last": last, "bid": last, "ask": last, "open_interest": oi}
    legs = [{"strike": strike, **leg} for strike in (95, 100, 105)]
    return made_chain(product, "2025-06-26", 100, render(START + minute * MINUTE, False), legs, legs, **said)


def enriched(chains: list[Chain], **settings: Any) -> tuple[dict[str, Any], Any]:
    """What is said of the last of these chains, after the others have been folded."""
    state = ProductState(chains[-1].product, SPANS, Contracts().of(chains[-1].product))
    for number, one in enumerate(chains):
        taken = snapshot(one)
        fields, known = at_once(enriching(state, one, taken, MarketSettings(**settings), None))
        fold_chain(state, one, str(number), taken, known)
    return fields, known


def test_without_analytics_a_chain_has_the_fields_of_the_contract_and_nothing_is_remembered_of_it() -> None:
    plain, known = enriched([chain(), chain(1)], analytics=False)
    full, kept = enriched([chain(), chain(1)])
    assert known is None
    assert kept is not None
    assert plain.keys() >= PROMISED
    assert {"forward", "smile", "gex", "analytics", "all_expiries"} <= full.keys() - plain.keys()


def test_what_the_contract_promises_is_the_same_with_analytics_and_without() -> None:
    plain, _ = enriched([chain(), chain(1, last=101, oi=12)], analytics=False)
    full, _ = enriched([chain(), chain(1, last=101, oi=12)])
    plain.pop("flags")
    assert plain == {name: full[name] for name in plain}
    assert plain["buildup"]["strikes"][0] == {"strike": 95, "call": "long_buildup", "put": "long_buildup"}


def test_without_analytics_the_first_chain_says_why_it_has_no_build_up() -> None:
    fields, _ = enriched([chain()], analytics=False)
    assert fields["buildup"] is None
    assert fields["flags"]["buildup"] == "no earlier snapshot to compare with"


def test_what_cannot_be_computed_with_costs_a_chain_its_analytics_and_nothing_else() -> None:
    fields, known = enriched([msgspec.structs.replace(chain(), expiry="10000-01-01")])
    assert known is None
    assert fields.keys() >= PROMISED
    assert fields["flags"]["analytics"] == "numbers beyond what can be computed with"


@pytest.mark.parametrize(
    ("product", "half_tick", "moved", "label"),
    [
        ("NIFTY", None, 0.02, "neutral"),
        ("NIFTY", None, 0.05, "long_buildup"),
        ("NIFTY", 0.0, 0.02, "long_buildup"),
        ("NIFTY", 1.0, 0.5, "neutral"),
        ("BTC", None, 0.0001, "long_buildup"),
        ("BTC", None, 0.00004, "neutral"),
        ("BTC", 0.01, 0.0001, "neutral"),
    ],
)
@pytest.mark.parametrize("analytics", [True, False])
def test_the_least_move_that_counts_reaches_the_build_up(
    product: str, half_tick: float | None, moved: float, label: str, analytics: bool
) -> None:
    chains = [chain(0, product), chain(1, product, 100 + moved, 12)]
    fields, _ = enriched(chains, half_tick=half_tick, analytics=analytics)
    shown = [fields["buildup"], fields["buildup_day"]] if analytics else [fields["buildup"]]
    for change in shown:
        assert {row["call"] for row in change["strikes"]} == {label}


@pytest.mark.parametrize("analytics", [True, False])
def test_the_route_enriches_with_what_is_set(analytics: bool) -> None:
    settings = {"market.analytics": analytics, "market.half_tick": 5.0, "market.buildup_min_age": 0}
    (route,) = (
        route
        for route in planned(load(overrides=settings))[0].routes
        if route.topic == "market:option_chain"
    )
    state = ProductState("NIFTY", SPANS, Contracts().of("NIFTY"))
    for one in (chain(), chain(1, last=104, oi=12)):
        change, effects = route.handler(state, one, Context("", b"{}", START + 5 * MINUTE, 1, {}))
        route.state_store.fold(state, change)
    (stored,) = (effect.document for effect in effects if isinstance(effect, Insert))
    (shown,) = (orjson.loads(e.value) for e in effects if isinstance(e, SetKey) and "latest:chain" in e.key)
    assert ("smile" in stored, "smile" in shown) == (analytics, analytics)
    assert stored["buildup"]["strikes"][1]["call"] == "neutral"


@pytest.mark.parametrize(
    ("product", "last", "straddle"),
    [
        ("NIFTY", 100.05, 200.1),
        ("NIFTY", 0.05, 0.1),
        ("NIFTY", 100.123, 200.25),
        ("BTC", 0.0235, 0.047),
        ("BTC", 0.0001, 0.0002),
        ("SPY", 1.015, 2.03),
        ("SOL_USDC", 0.0123, 0.0246),  # finer than the tick that is shipped
        ("COIN", 0.0235, 0.047),  # of terms that nobody has named
        ("COIN", 23.511, 47.02),
    ],
)
def test_a_straddle_is_shown_to_the_step_of_its_prices(product: str, last: float, straddle: float) -> None:
    fields, _ = enriched([chain(product=product, last=last)])
    assert fields["atm_straddle_mid"] == straddle
    # By last prices it has 2 decimals whatever the contract, and says so where that takes something away.
    assert fields["atm_straddle_price"] == round(straddle, 2)
    lost = None if straddle == round(straddle, 2) else f"{straddle} before it is rounded to 2 decimals"
    assert fields["flags"].get("atm_straddle_price") == lost


def test_the_mid_between_two_steps_is_shown_whole() -> None:
    assert shown_price(Contracts().of("BTC"), 0.0235 + 0.02355) == 0.04705
    assert shown_price(Contracts().of("NIFTY"), 100.125 + 100.1) == round(200.225, 2)


def of_strikes(count: int) -> Chain:
    legs = [{"strike": 50 + k, "bid": 9.9, "ask": 10.1, "open_interest": 10} for k in range(count)]
    return chain(calls=legs, puts=legs)


def routed(one: Chain) -> tuple[Any, int]:
    """What the route makes of a chain, and in how many steps."""
    (route,) = (
        route
        for route in planned(load())[0].routes
        if route.topic == "market:option_chain"
    )
    state = ProductState(one.product, SPANS, Contracts().of(one.product))
    found = route.handler(state, one, Context("", b"{}", START + 5 * MINUTE, 1, {}))
    steps = 1
    while isinstance(found, Generator):
        try:
            next(found)
        except StopIteration as end:
            return end.value, steps
        steps += 1
    return found, steps


def test_a_chain_of_more_than_a_few_strikes_gives_others_turns_while_it_is_analysed() -> None:
    found = {strikes: routed(of_strikes(strikes)) for strikes in (21, 30, 31, 200)}
    for (_, effects), _ in found.values():
        assert "smile" in effects[0].document
    assert [steps for _, steps in found.values()][:2] == [1, 1]
    assert min(found[31][1], found[200][1]) > 7


def test_a_chain_of_american_options_gives_others_turns_however_few_they_are() -> None:
    american = msgspec.structs.replace(of_strikes(5), product="SPY")
    assert routed(american)[1] > 7


def test_a_chain_enriched_in_steps_is_the_one_enriched_at_once() -> None:
    one = of_strikes(61)
    state = ProductState("NIFTY", SPANS, Contracts().of("NIFTY"))
    fields, _ = at_once(enriching(state, one, snapshot(one), MarketSettings(), ZoneInfo("UTC")))
    (_, effects), _ = routed(one)
    assert {name: effects[0].document[name] for name in fields if name != "timestamp"} == fields


def test_what_is_ahead_of_the_clock_says_so_where_it_is_published() -> None:
    body = b'{"product": "NIFTY", "price": 1, "tick_id": 1, "timestamp": "2025-10-14T10:00:30+00:00"}'
    (route,) = (r for r in planned(load())[0].routes if r.topic == "market:underlying")
    said = []
    for seconds in (60, 0):
        now_us = 1_760_436_000_000_000 + seconds * 1_000_000
        context = Context("", body, now_us, 1, {})
        state = ProductState("NIFTY", SPANS, Contracts().of("NIFTY"))
        _, effects = route.handler(state, route.decode(body, context), context)
        said.append(orjson.loads(effects[-1].message).get("flags"))
    assert said == [None, {"timestamp": AHEAD}]
    (_, effects), _ = routed(msgspec.structs.replace(of_strikes(21), ahead_us=30_000_000))
    assert effects[0].document["flags"]["timestamp"] == AHEAD
    (_, effects), _ = routed(of_strikes(21))
    assert "timestamp" not in effects[0].document["flags"]


def test_a_time_of_a_leg_that_tells_nothing_of_its_age_is_flagged() -> None:
    later = render(START + 2 * MINUTE, False)
    times: list[Any] = ["14-Oct-2025 15:30:00", 1760436672, later, render(START + MINUTE, False), "", None]
    calls = [{"strike": 100 + at, "last": 1, "timestamp": time} for at, time in enumerate(times)]
    puts = [{"strike": 100, "last_trade_time": "yesterday"}]
    fields, _ = enriched([chain(calls=calls, puts=puts)], analytics=False)
    told = {name: reason for name, reason in fields["flags"].items() if "." in name}
    assert told == {
        "calls.timestamp": "cannot be read at 100, 101; later than the chain by more than a minute at 102",
        "puts.last_trade_time": "cannot be read at 100",
    }


def test_sums_of_what_is_known_at_some_of_the_legs_say_at_how_many_it_is_not() -> None:
    calls = [{"strike": 95, "volume": 3, "change_in_oi": 2}, {"strike": 100, "change_in_oi": 1}]
    puts = [{"strike": 100, "volume": 1, "change_in_oi": 6}, {"strike": 105, "volume": 1}]
    fields, _ = enriched([chain(calls=calls, puts=puts)], analytics=False)
    assert (fields["total_call_volume"], fields["total_put_volume"], fields["pcr_oi_change"]) == (3, 2, 2.0)
    assert fields["flags"]["total_call_volume"] == "unknown at 1 of 2 legs"
    assert fields["flags"]["pcr_oi_change"] == "unknown at 1 of 4 legs"
    assert "total_put_volume" not in fields["flags"]
