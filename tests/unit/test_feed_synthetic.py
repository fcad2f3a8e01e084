"""The synthetic market makes messages that the market accepts, the same for the same seed."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import orjson
import pytest

from enricher.errors import BadMessage
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING, Message
from enricher.market.feed.defects import Defects
from enricher.market.feed.smile import price
from enricher.market.feed.synthetic import SyntheticMarket, iso, strike_step
from enricher.messages.models import decode_chain, decode_quote, decode_tick

NOW = 1_763_700_000_123_456
DECODERS = {UNDERLYING: decode_tick, OPTION_QUOTE: decode_quote, OPTION_CHAIN: decode_chain}


def rounds(market: SyntheticMarket, count: int) -> list[Message]:
    return [m for i in range(count) for m in market.mix(NOW + i * 1_000_000)]


def test_the_same_seed_makes_the_same_bytes_and_another_seed_others() -> None:
    assert rounds(SyntheticMarket(seed=3), 6) == rounds(SyntheticMarket(seed=3), 6)
    assert rounds(SyntheticMarket(seed=3), 6) != rounds(SyntheticMarket(seed=4), 6)


def test_every_message_is_accepted_by_the_market() -> None:
    for channel, body in rounds(SyntheticMarket(8, strikes=5, seed=1), 12):
        event = DECODERS[channel](body, now_us=NOW + 12_000_000)
        assert event.event_us >= NOW


def test_a_round_has_a_tick_and_six_quotes_per_product_and_every_fifth_a_chain() -> None:
    market = SyntheticMarket(["A", "B"])
    per_round = [Counter(channel for channel, _ in market.mix(NOW)) for _ in range(10)]
    for number, counts in enumerate(per_round):
        assert counts[UNDERLYING] == 2
        assert counts[OPTION_QUOTE] == 12
        assert counts[OPTION_CHAIN] == (2 if number % 5 == 0 else 0)
    assert market.made == sum(per_round, Counter())


def test_a_chain_lists_both_legs_of_every_strike_around_the_spot() -> None:
    chain = SyntheticMarket(["X"], strikes=21).chain("X", NOW)
    assert len(chain["strikes"]) == 21
    assert chain["strikes"][0] < chain["spot_price"] < chain["strikes"][-1]
    for side, kind in (("calls", "CALL"), ("puts", "PUT")):
        assert [leg["strike"] for leg in chain[side]] == chain["strikes"]
        assert {leg["option_type"] for leg in chain[side]} == {kind}


def test_the_expiries_of_a_product_take_turns() -> None:
    market = SyntheticMarket(["X"], expiries=3)
    bodies = [orjson.loads(body) for channel, body in rounds(market, 15) if channel == OPTION_CHAIN]
    assert [body["expiry"] for body in bodies] == ["2025-11-27", "2025-12-04", "2025-12-11"]


def test_times_are_utc_text_with_six_decimals() -> None:
    assert iso(0) == "1970-01-01T00:00:00.000000+00:00"
    assert SyntheticMarket(1).tick("NIFTY", NOW)["timestamp"] == "2025-11-21T04:40:00.123456+00:00"


def test_tick_ids_count_up_and_the_day_s_range_contains_every_price() -> None:
    market = SyntheticMarket(["X"])
    ticks = [market.tick("X", NOW) for _ in range(500)]
    assert [tick["tick_id"] for tick in ticks] == list(range(1, 501))
    assert ticks[-1]["high"] == max(ticks[0]["open"], *(tick["price"] for tick in ticks))
    assert ticks[-1]["low"] == min(ticks[0]["open"], *(tick["price"] for tick in ticks))
    assert len({tick["price"] for tick in ticks}) > 50


def test_the_price_stays_near_its_anchor_over_days_of_ticks() -> None:
    market = SyntheticMarket(["X"])
    first = market.tick("X", NOW)["price"]
    last = [market.tick("X", NOW)["price"] for _ in range(100_000)][-1]
    assert 0.8 < last / first < 1.25


def test_quotes_are_never_crossed_and_never_negative() -> None:
    market = SyntheticMarket(3, strikes=41)
    for _ in range(2_000):
        quote = market.quote("NIFTY", NOW)
        assert 0.0 <= quote["bid"] < quote["ask"]
        assert quote["bid"] - 0.05 <= quote["last"] <= quote["ask"] + 0.05


def test_low_strikes_are_dearer_in_volatility_than_the_strike_at_the_money() -> None:
    chain = SyntheticMarket(["X"]).chain("X", NOW)
    ivs = [leg["iv"] for leg in chain["puts"]]
    assert ivs[0] > ivs[len(ivs) // 2]


@pytest.mark.parametrize("strike", [80.0, 100.0, 130.0])
def test_an_option_is_worth_its_expected_payoff(strike: float) -> None:
    forward, years, volatility = 100.0, 0.25, 0.3
    deviation = volatility * math.sqrt(years)
    steps, width = 4_000, 8.0
    expected = 0.0
    for i in range(steps):  # the mean over a lognormal price, by the midpoint rule
        z = -width + (i + 0.5) * 2.0 * width / steps
        weight = math.exp(-z * z / 2.0) / math.sqrt(2.0 * math.pi) * 2.0 * width / steps
        end = forward * math.exp(deviation * z - deviation * deviation / 2.0)
        expected += weight * max(0.0, end - strike)
    call = price(True, forward, strike, years, volatility)
    put = price(False, forward, strike, years, volatility)
    assert call.price == pytest.approx(expected, abs=1e-4)
    assert call.price - put.price == pytest.approx(forward - strike, abs=1e-9)


@pytest.mark.parametrize("call", [True, False])
def test_greeks_are_the_slopes_of_the_price(call: bool) -> None:
    forward, strike, years, volatility, h = 100.0, 104.0, 0.2, 0.25, 1e-3
    greeks = price(call, forward, strike, years, volatility)

    def at(df: float = 0.0, dv: float = 0.0, dt: float = 0.0) -> float:
        return price(call, forward + df, strike, years + dt, volatility + dv).price

    assert greeks.delta == pytest.approx((at(df=h) - at(df=-h)) / (2 * h), rel=1e-5)
    assert greeks.gamma == pytest.approx((at(df=h) - 2 * at() + at(df=-h)) / h**2, rel=1e-3)
    assert greeks.vega == pytest.approx((at(dv=h) - at(dv=-h)) / (2 * h) / 100, rel=1e-4)
    assert greeks.theta == pytest.approx(-(at(dt=h) - at(dt=-h)) / (2 * h) / 365, rel=1e-4)


@pytest.mark.parametrize(
    ("spot", "step"), [(22_000.0, 50.0), (48_000.0, 100.0), (100.0, 0.25), (72_500.0, 250.0)]
)
def test_strikes_lie_round_distances_apart(spot: float, step: float) -> None:
    assert strike_step(spot) == pytest.approx(step)


def test_malformed_messages_are_refused_by_the_market() -> None:
    market = SyntheticMarket(2, defects=Defects(malformed=1.0))
    for channel, body in rounds(market, 20):
        with pytest.raises(BadMessage):
            DECODERS[channel](body, now_us=NOW + 20_000_000)
    assert market.made["malformed"] == market.made.total() // 2


def test_chains_without_some_legs_keep_their_strikes() -> None:
    market = SyntheticMarket(["X"], defects=Defects(missing_legs=1.0))
    body = next(orjson.loads(b) for channel, b in market.mix(NOW) if channel == OPTION_CHAIN)
    assert len(body["strikes"]) == 21
    assert len(body["calls"]) < 21
    assert len(body["puts"]) < 21


def test_duplicates_are_the_same_bytes_again() -> None:
    market = SyntheticMarket(["X"], defects=Defects(duplicate=1.0))
    messages = rounds(market, 3)
    assert messages[::2] == messages[1::2]
    assert market.made["duplicate"] == len(messages) // 2


def test_late_messages_lie_one_second_to_three_minutes_back() -> None:
    market = SyntheticMarket(["X"], defects=Defects(late=1.0))
    for channel, body in market.mix(NOW):
        behind = NOW - DECODERS[channel](body, now_us=NOW).event_us
        assert 1_000_000 <= behind < 180_000_000


def test_a_share_of_defects_is_met_on_average_and_leaves_the_rest_alone() -> None:
    market = SyntheticMarket(["X"], defects=Defects(malformed=0.2, late=0.1))
    clean = dict.fromkeys(body for _, body in rounds(SyntheticMarket(["X"]), 300))
    spoilt = rounds(market, 300)
    assert market.made["malformed"] / len(spoilt) == pytest.approx(0.2, abs=0.03)
    assert sum(body in clean for _, body in spoilt) / len(spoilt) == pytest.approx(0.7, abs=0.03)


def test_the_clock_of_a_stream_is_asked_for_every_message() -> None:
    ticks = itertools.count(NOW, 10)
    stream = SyntheticMarket(["X"]).stream(lambda: next(ticks))
    times = [orjson.loads(body)["timestamp"] for _, body in itertools.islice(stream, 30)]
    assert times == [iso(NOW + 10 * i) for i in range(30)]


@pytest.mark.parametrize(("products", "strikes"), [([], 1), (0, 1), (1, 0)])
def test_an_empty_market_is_refused(products: int | list[str], strikes: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        SyntheticMarket(products, strikes=strikes)


@pytest.mark.parametrize("shares", [{"late": -0.1}, {"late": 0.6, "malformed": 0.6}])
def test_impossible_shares_of_defects_are_refused(shares: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="shares"):
        Defects(**shares)
