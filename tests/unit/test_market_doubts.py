"""What is doubtful in an input is flagged, stored as sent, and kept out of what it would spoil."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pytest

from enricher.engine.effects import Insert, Publish, SetMember, Upsert
from enricher.market.documents import BARS, CHAINS, QUOTES, TICKS
from enricher.messages import doubts
from enricher.messages.schema import may_hold_nines
from tests.unit.test_market_state import OneLane

PAGE = Path(__file__).parents[2] / "docs" / "doubts.md"
AT = "2026-08-13T09:15:{:02d}+05:30"
NOW_US = 1_786_600_000_000_000
COIN_STRIKES = (80000, 90000, 100000, 110000, 120000, 130000)
# Black's prices at F 102000, volatility 0.60, 92 days, in coins, to four decimals.
COIN_CALLS = (0.2472, 0.181, 0.1286, 0.0891, 0.0604, 0.0402)
COIN_PUTS = (0.0315, 0.0634, 0.109, 0.1675, 0.2368, 0.3147)


def stored(lane: OneLane, collection: str) -> list[Mapping[str, Any]]:
    writes = [effect for effect in lane.said if isinstance(effect, Insert | Upsert)]
    return [effect.document for effect in writes if effect.collection == collection]


def ticks(lane: OneLane, prices: list[Any], **fields: Any) -> None:
    for second, price in enumerate(prices):
        sent = {"product": lane.state.product, "price": price, "tick_id": second}
        lane.take("underlying", orjson.dumps({**sent, "timestamp": AT.format(second), **fields}), NOW_US)
    lane.settle()


def chain_of(lane: OneLane, message: Mapping[str, Any]) -> dict[str, Any]:
    lane.take("option_chain", orjson.dumps({"product": lane.state.product, **message}), NOW_US)
    lane.settle()
    return dict(stored(lane, CHAINS)[-1])


def coin_chain(**said: Any) -> dict[str, Any]:
    def legs(prices: tuple[float, ...]) -> list[dict[str, Any]]:
        return [
            {"strike": strike, "bid": round(price - 0.0005, 6), "ask": round(price + 0.0005, 6),
             "last": price, "open_interest": 10.0, "volume": 1.0, "iv": 60.0}
            for strike, price in zip(COIN_STRIKES, prices, strict=True)
        ]  # fmt: skip

    message = {"expiry": "2026-02-28", "spot_price": 100000.0, "timestamp": "2025-11-28T08:00:00+00:00"}
    return {**message, "calls": legs(COIN_CALLS), "puts": legs(COIN_PUTS), **said}


@pytest.mark.parametrize(
    "said", [{"future_price": 102000.0}, {}, {"future_price": 102000.0, "spot_price": 0}]
)
@pytest.mark.parametrize("product", ["BTC", "BTC-USD", "DERIBIT:ETH-26DEC26"])
def test_options_priced_in_coins_are_converted_by_the_forward_of_their_expiry(
    product: str, said: dict[str, Any]
) -> None:
    found = chain_of(OneLane(product), coin_chain(**said))
    for side in ("calls", "puts"):
        assert found["analytics"][side]["iv"] == pytest.approx([0.6] * 6, abs=1e-3)
    assert found["arbitrage"]["count"] == 0
    assert found["atm_iv"] == pytest.approx(0.6, abs=1e-3)
    assert found["conventions"]["price_scale"] == pytest.approx(102000, abs=5)
    assert found["forward"]["price"] == pytest.approx(found["conventions"]["price_scale"])


def test_without_a_future_and_a_pair_coins_are_converted_by_spot_and_said_to_be() -> None:
    found = chain_of(OneLane("BTC"), coin_chain(puts=[]))
    assert found["conventions"]["price_scale"] == 100000.0
    assert "converted by spot" in found["flags"]["price_scale"]
    lost = chain_of(OneLane("BTC"), coin_chain(puts=[], spot_price=0))
    assert lost["conventions"]["price_scale"] is None
    assert "have no price in currency" in lost["flags"]["price_scale"]
    assert set(lost["analytics"]["calls"]["price"]) == {None}


STRIKES = (25800, 25900, 26000, 26100, 26200)


def nifty_chain(factor: float = 1.0, oi: float = 1.0, **said: Any) -> dict[str, Any]:
    def legs(mids: tuple[float, ...], held: tuple[int, ...]) -> list[dict[str, Any]]:
        return [
            {"strike": strike * factor, "bid": (mid - 0.5) * factor, "ask": (mid + 0.5) * factor,
             "last": mid * factor, "volume": 900 + at, "open_interest": amount * oi, "iv": 0.12}
            for at, (strike, mid, amount) in enumerate(zip(STRIKES, mids, held, strict=True))
        ]  # fmt: skip

    message = {"expiry": "2025-11-27", "spot_price": 26000 * factor, "timestamp": "2025-11-24T10:00:00+05:30"}
    calls = legs((280.0, 200.0, 120.0, 100.0, 80.0), (1000, 2000, 3000, 4000, 5000))
    puts = legs((75.0, 95.0, 115.0, 195.0, 275.0), (5000, 4000, 3000, 2000, 1000))
    return {**message, "calls": calls, "puts": puts, **said}


AROUND_SPOT = (
    "atm_strike", "atm_straddle_price", "atm_straddle_mid", "call_buildup_otm", "put_buildup_otm",
    "max_pain_distance_pct", "trading_range",
)  # fmt: skip


@pytest.mark.parametrize(
    ("spot", "why"),
    [
        (0, "spot is 0"),
        (0.0, "spot is 0"),
        (2600000, "spot 2600000 is far from every strike, 25800 to 26200: another unit?"),
        (260.0, "spot 260 is far from every strike, 25800 to 26200: another unit?"),
        (22000, "spot 22000 is 18.1 % from the forward 26005.002876"),
    ],
)
def test_without_a_spot_that_agrees_nothing_is_said_that_lies_around_it(spot: float, why: str) -> None:
    lane = OneLane("NIFTY")
    found = chain_of(lane, nifty_chain(spot_price=spot))
    for name in AROUND_SPOT:
        assert (found[name], found["flags"][name]) == (None, why)
    for name in ("resistance", "support", "resistance_losses", "support_losses"):
        assert (found[name], found["flags"][name]) == ([], why)
    assert found["gex"]["zero_gamma"] is None
    assert found["gex"]["reason"] == found["flags"]["expected_move"] == "no_spot"
    assert found["spot_price"] == spot
    # What needs no spot is there: the forward is that of the options.
    assert found["forward"]["price"] == pytest.approx(26005.0, abs=0.1)
    assert (found["pcr_oi"], found["max_pain_strike"]) == (1.0, 26000)
    whole = orjson.loads(lane.keys["latest:product:NIFTY"])
    assert whole["spot_price"] is None
    assert whole["resistance"] == whole["support"] == []
    assert "spot_price" in whole["flags"]


def test_a_future_that_contradicts_the_options_is_not_their_forward() -> None:
    for future, why in ((2600500.0, "far from every strike"), (29500.0, "13.4 % from the forward")):
        found = chain_of(OneLane("NIFTY"), nifty_chain(future_price=future))
        assert found["forward"]["source"] == "parity"
        assert why in found["flags"]["future_price"]


def test_a_future_and_a_spot_that_agree_are_not_doubted() -> None:
    found = chain_of(OneLane("NIFTY"), nifty_chain(future_price=26050.0))
    assert found["forward"]["source"] == "future"
    assert not {"spot_price", "future_price"} & found["flags"].keys()


def test_a_volatility_index_may_lie_far_from_its_future() -> None:
    legs = [{"strike": strike, "bid": 1.0, "ask": 1.1} for strike in (18, 20, 22, 24)]
    message = {"expiry": "2025-12-17", "spot_price": 40, "timestamp": "2025-11-24T15:00:00+00:00"}
    found = chain_of(OneLane("VIX"), {**message, "calls": legs, "puts": legs, "future_price": 21.0})
    assert "spot_price" not in found["flags"]


@pytest.mark.parametrize(
    "bad", [0, 0.0, 2147483647, 4294967295, 9223372036854775807, 3.4028235e38, 999999, 99999.0]
)
def test_a_price_that_is_none_is_stored_and_flagged_and_moves_nothing(bad: float) -> None:
    lane = OneLane("ZEROP")
    ticks(lane, [25000, 25010, bad, 25005, bad])
    ohlc = orjson.loads(lane.keys["ohlc:ZEROP:1m"])
    assert (ohlc["low"], ohlc["high"], ohlc["close"], ohlc["num_ticks"]) == (25000.0, 25010.0, 25005.0, 3)
    assert orjson.loads(lane.keys["latest:underlying:ZEROP"])["price"] == 25005
    documents = stored(lane, TICKS)
    assert [document["price"] for document in documents] == [25000, 25010, bad, 25005, bad]
    assert [document.get("folded") for document in documents] == [None, None, False, None, False]
    assert documents[2]["flags"]["price"].endswith("moves nothing")
    published = [orjson.loads(effect.message) for effect in lane.said if isinstance(effect, Publish)]
    assert published[2]["flags"] == documents[2]["flags"]
    lane.said.clear()
    ticks(lane, [25001], timestamp="2026-08-13T09:17:00+05:30")
    assert {bar["low"] for bar in stored(lane, BARS)} == {25000.0}


def test_nines_are_a_price_among_prices_of_their_size() -> None:
    lane = OneLane("BTC")
    ticks(lane, [99990.5, 99999, 100002])
    assert orjson.loads(lane.keys["ohlc:BTC:1m"])["num_ticks"] == 3


def test_a_tick_that_comes_again_without_a_price_is_known() -> None:
    lane = OneLane("ZEROP")
    body = orjson.dumps({"product": "ZEROP", "price": 0, "timestamp": AT.format(1), "tick_id": 1})
    assert lane.take("underlying", body, NOW_US) == "no_price"
    assert lane.take("underlying", body, NOW_US) is not None
    assert len(stored(lane, TICKS)) == 1


@pytest.mark.parametrize(
    ("fields", "flags"),
    [
        ({"high": 24990}, {"price": "above the day's high 24990"}),
        ({"low": 25100.5, "high": 25200}, {"price": "below the day's low 25100.5"}),
        ({"open": 0, "close": 0}, {"open": "0 is no price", "close": "0 is no price"}),
        ({"high": 0, "low": 0}, {"high": "0 is no price", "low": "0 is no price"}),
        ({"low": 25100, "high": 24900}, dict.fromkeys(("price", "low"), "above the day's high 24900")),
        ({"volume": -1}, {"volume": "-1 stands for no value"}),
        ({"volume": 4294967295}, {"volume": "4294967295 stands for no value"}),
        ({"close": 2147483647}, {"close": "2147483647 stands for no value"}),
        ({"high": 25200, "low": 24800, "open": 25100, "close": 24950, "volume": 7}, None),
    ],
)
def test_what_is_odd_about_a_tick_s_other_fields_is_flagged_and_the_price_counts(
    fields: dict[str, Any], flags: dict[str, str] | None
) -> None:
    lane = OneLane("NIFTY")
    ticks(lane, [25000], **fields)
    (document,) = stored(lane, TICKS)
    assert document.get("flags") == flags
    assert {name: document[name] for name in fields} == fields
    assert orjson.loads(lane.keys["ohlc:NIFTY:1m"])["close"] == 25000.0


def test_the_page_of_doubts_lists_what_the_code_says_and_nothing_else() -> None:
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `")]
    listed = {(flag.strip(" `"), says.strip()) for _, flag, says, *_ in rows}
    declared = [value for value in vars(doubts).values() if isinstance(value, doubts.Doubt)]
    assert listed == {(doubt.flag, doubt.says) for doubt in declared}
    assert len(listed) == len(rows)


NAMED: tuple[tuple[Any, str], ...] = (
    (-1, "negative"), ("NaN", '"NaN" stands for no value'), ("", '"" stands for no value'),
    ("-", '"-" stands for no value'), (2147483647, "2147483647 stands for no value"),
    (1.7976931348623157e308, "1.79769e+308 stands for no value"),
)  # fmt: skip


@pytest.mark.parametrize(("sent", "why"), [*NAMED, (99999, "99999 stands for no value")])
@pytest.mark.parametrize("field", ["bid", "ask", "last", "volume", "open_interest", "iv"])
def test_a_leg_s_number_that_is_none_is_null_in_what_is_computed_and_stored_as_sent(
    field: str, sent: Any, why: str
) -> None:
    plain, odd = nifty_chain(), nifty_chain()
    del plain["calls"][2][field]
    odd["calls"][2][field] = sent
    expected, found = chain_of(OneLane("NIFTY"), plain), chain_of(OneLane("NIFTY"), odd)
    assert found["flags"][f"calls[2].{field}"] == why
    assert found["calls"][2][field] == sent
    for name in ("analytics", "pcr_oi", "total_call_oi", "total_call_volume", "gex", "atm_straddle_price"):
        assert found[name] == expected[name]


def test_nines_are_open_interest_beside_open_interest_of_their_size() -> None:
    message = nifty_chain(oi=10)
    message["calls"][2]["open_interest"] = 99999
    assert chain_of(OneLane("NIFTY"), message)["total_call_oi"] == 99999 + 120000


def test_nines_are_found_however_they_are_written_and_not_in_a_fraction() -> None:
    for nines in doubts.NINES:
        for text in {orjson.dumps(nines), f"{nines:.2f}".encode(), f"{nines:.3e}".encode()}:
            if b"99999" in text and float(text) in doubts.NINES:
                assert may_hold_nines(b'{"bid":' + text + b"}"), text
    for text in (b"0.99999", b"12.5999999", b"199999", b'"2026-11-20T10:00:00.999999+05:30"'):
        assert not may_hold_nines(b'{"delta":' + text + b"}"), text
    assert may_hold_nines(b'{"bid":9.99999e5}')


QUOTE = {
    "product": "NIFTY", "symbol": "N", "strike": 26000, "expiry": "2026-11-27", "option_type": "CALL",
    "timestamp": AT.format(1),
}  # fmt: skip


@pytest.mark.parametrize(("sent", "why"), NAMED[1:])
def test_a_quote_s_number_that_is_none_is_flagged_and_stored_as_sent(sent: Any, why: str) -> None:
    lane = OneLane("NIFTY")
    lane.take("option_quote", orjson.dumps({**QUOTE, "open_interest": sent}), NOW_US)
    (document,) = stored(lane, QUOTES)
    assert (document["open_interest"], document["flags"]) == (sent, {"open_interest": why})


@pytest.mark.parametrize(
    ("said", "flags"),
    [
        ({"bid": 10.5, "ask": 10}, {"bid": "above the ask 10"}),
        ({"iv": 0}, {"iv": "0 is no volatility"}),
        ({"iv": 99999.0}, {"iv": "99999 is no volatility"}),
        ({"expiry": "2026-08-12"}, {"expiry": "over before the quote's own time"}),
        ({"open_interest": -1}, {"open_interest": "-1 stands for no value"}),
        ({"bid": 10, "ask": 10, "iv": 12.5, "open_interest": 0, "volume": 0, "last": 0}, None),
        ({"bid": 10.5, "ask": 10, "flags": "their own"}, "their own"),
    ],
)
def test_an_odd_quote_is_flagged_and_its_volatility_is_not_in_the_surface(
    said: dict[str, Any], flags: Any
) -> None:
    lane = OneLane("NIFTY")
    lane.take("option_quote", orjson.dumps({**QUOTE, **said}), NOW_US)
    members = [effect for effect in lane.settle() if isinstance(effect, SetMember) and effect.member]
    assert stored(lane, QUOTES)[0].get("flags") == flags
    assert bool(members) == (said.get("iv") == 12.5)


@pytest.mark.parametrize(
    ("said", "terms", "flag"),
    [
        ({}, {}, "open interest looks like units (all multiples of lot 75)"),
        ({}, {"oi_unit": "units"}, None),
        ({}, {"oi_unit": "contracts"}, None),
        ({"oi_unit": "units"}, {}, None),
        ({"oi_unit": "contracts"}, {}, None),
        ({"oi_unit": "lots"}, {"oi_unit": "units"}, None),
    ],
)
def test_open_interest_in_units_is_recognised_and_counted_by_a_setting_or_the_message(
    said: dict[str, Any], terms: dict[str, str], flag: str | None
) -> None:
    lane = OneLane("NIFTY", {"market.products": {"NIFTY": terms}} if terms else None)
    found = chain_of(lane, nifty_chain(oi=75, **said))
    assert found["flags"].get("open_interest") == flag
    assert ("oi_unit" in found["flags"]) == (said.get("oi_unit") == "lots")
    in_units = "units" in (said.get("oi_unit"), terms.get("oi_unit"))
    right = chain_of(OneLane("NIFTY"), nifty_chain())["gex"]["gross"]
    assert found["gex"]["gross"] == pytest.approx(right * (1 if in_units else 75))


def test_open_interest_that_is_said_to_be_units_and_is_not_is_flagged() -> None:
    message = nifty_chain()
    for at, leg in enumerate([*message["calls"], *message["puts"]]):
        leg["open_interest"] = 1001 + 13 * at
    found = chain_of(OneLane("NIFTY"), {**message, "oi_unit": "units"})
    assert found["flags"]["open_interest"].startswith("open interest looks like contracts")
    assert "open_interest" not in chain_of(OneLane("NIFTY"), message)["flags"]


def later(message: dict[str, Any], minutes: int) -> dict[str, Any]:
    return {**message, "timestamp": f"2025-11-24T10:{minutes:02d}:00+05:30"}


@pytest.mark.parametrize("factor", [75, 1 / 75])
def test_open_interest_that_jumps_by_a_lot_has_no_build_up(factor: float) -> None:
    lane = OneLane("NIFTY")
    chain_of(lane, nifty_chain(oi=75 if factor < 1 else 1))
    found = chain_of(lane, later(nifty_chain(oi=1 if factor < 1 else 76), 1))
    for name in ("buildup", "buildup_day"):
        assert found[name] is None
        assert "where a lot is 75: another unit?" in found["flags"][name]


def test_open_interest_that_grows_has_its_build_up() -> None:
    lane = OneLane("NIFTY")
    chain_of(lane, nifty_chain())
    found = chain_of(lane, later(nifty_chain(oi=12), 1))
    assert found["buildup"]["call_oi_change"] == 15000 * 11


def test_a_chain_in_paise_is_flagged_and_kept_out_of_the_product_as_a_whole() -> None:
    lane = OneLane("NIFTY")
    near = chain_of(lane, nifty_chain())
    assert "strikes" not in near["flags"]
    far = chain_of(lane, later(nifty_chain(100, expiry="2025-12-30"), 0))
    whole = orjson.loads(lane.keys["latest:product:NIFTY"])
    assert whole["flags"]["expiries"].startswith("left out, for their prices are of another scale")
    assert whole["total_call_oi"] == 15000
    assert far["atm_iv"] is not None
    paise = chain_of(lane, later(nifty_chain(100), 1))
    assert paise["flags"]["strikes"] == "100 times those of the chain before: another unit?"
    assert {row["call"] for row in paise["buildup"]["strikes"]} == {None}


def test_a_chain_of_options_that_have_expired_says_so() -> None:
    found = chain_of(OneLane("NIFTY"), nifty_chain(timestamp="2025-11-27T15:30:00+05:30"))
    assert found["flags"]["expiry"] == "over before the chain's own time"
    still = chain_of(OneLane("NIFTY"), nifty_chain(timestamp="2025-11-27T15:29:00+05:30"))
    assert "expiry" not in still["flags"]


@pytest.mark.parametrize(
    ("iv", "kept"), [(12.0, 0.12), (0.12, 0.12), (1200.0, None), (0.0, None), (0.0005, None)]
)
def test_the_vendor_s_volatility_is_a_decimal_or_none(iv: float, kept: float | None) -> None:
    message = nifty_chain()
    for leg in message["calls"][1:] + message["puts"]:
        leg["iv"] = 0.12
    message["calls"][0]["iv"] = iv
    found = chain_of(OneLane("NIFTY"), message)["analytics"]
    assert found["calls"]["feed_iv"][0] == (None if kept is None else pytest.approx(kept))
    assert ("feed_iv_out_of_range" in found["reasons"]["calls"]) == (iv in (1200.0, 0.0005))


def bars_of(volumes: list[Any], setting: str = "trade") -> list[Mapping[str, Any]]:
    lane = OneLane("NIFTY", {"market.volume": setting, "market.windows": (1,)})
    for at, volume in enumerate(volumes):
        stamp = f"2026-08-13T09:{15 + at // 6:02d}:{at % 6 * 10:02d}+05:30"
        tick = {"product": "NIFTY", "price": 25000 + at, "timestamp": stamp, "tick_id": at, "volume": volume}
        lane.take("underlying", orjson.dumps(tick), NOW_US)
        lane.settle()
    return stored(lane, BARS)


def test_volumes_that_never_fall_are_flagged_as_cumulative() -> None:
    (bar,) = bars_of([1000, 1100, 1250, 1250, 1300, 1400, 1500])
    assert bar["flags"]["volume"] == "volume never falls: cumulative? (market.volume)"
    assert all("flags" not in bar for bar in bars_of([5, 9, 2, 7, 30, 1, 8, 9, 10, 11, 12, 13, 14]))
    assert all("flags" not in bar for bar in bars_of([50] * 13))


def test_cumulative_volumes_have_their_price_and_one_that_falls_is_flagged() -> None:
    volumes = [1000, 1100, 1250, 1300, 1400, 1500, 1600, 900, 1700, 1700, 1700, 1700, 1800]
    first, second = bars_of(volumes, "cumulative")
    steps = [(1000, 25000), (100, 25001), (150, 25002), (50, 25003), (100, 25004), (100, 25005)]
    assert (first["volume"], first["vwap"]) == (1500, pytest.approx(sum(v * p for v, p in steps) / 1500))
    assert "flags" not in first
    assert second["volume"] == 200
    assert second["vwap"] == pytest.approx((100 * 25006 + 100 * 25008) / 200)
    assert second["flags"]["volume"] == "the volume of the day fell from 1600 to 900"


def test_a_product_says_how_far_its_spot_lies_from_the_forward_and_when_a_price_is_in_another_unit() -> None:
    dear = {"market.products": {"NIFTY": {"spot_apart": 0.5, "unit_within": 0}}}
    plain, told = (chain_of(OneLane("NIFTY", said), nifty_chain(spot_price=22000)) for said in ({}, dear))
    assert "from the forward" in plain["flags"]["spot_price"]
    assert "spot_price" not in told["flags"]
    lane = OneLane("NIFTY", dear)
    ticks(lane, [250, 25010, 25005])
    assert orjson.loads(lane.keys["ohlc:NIFTY:1m"])["num_ticks"] == 3


@pytest.mark.parametrize("factor", [100, 0.01])
def test_a_tick_in_another_unit_moves_nothing_until_nobody_contradicts_it(factor: float) -> None:
    lane = OneLane("NIFTY")
    ticks(lane, [25000, 25010.0 * factor, 25005])
    assert orjson.loads(lane.keys["ohlc:NIFTY:1m"])["num_ticks"] == 2
    assert "another unit?" in stored(lane, TICKS)[1]["flags"]["price"]
    ticks(lane, [25010.0 * factor], timestamp="2026-08-13T09:21:00+05:30", tick_id=9)
    assert orjson.loads(lane.keys["latest:underlying:NIFTY"])["price"] == 25010.0 * factor
