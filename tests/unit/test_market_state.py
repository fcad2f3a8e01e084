"""What the lane of a product says at the end of a turn does not depend on how messages fell into turns."""

from __future__ import annotations

import itertools
import random
from collections.abc import Generator, Iterable
from copy import copy
from datetime import date, timedelta
from functools import lru_cache
from typing import Any
from unittest.mock import patch

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher import load
from enricher.analytics.position_buildup import Snapshot
from enricher.analytics.steps import at_once
from enricher.assembly import planned
from enricher.clock import SECOND, event_us, render
from enricher.engine.effects import DropMembers, Effect, Insert, Publish, SetKey, SetMember, Upsert
from enricher.engine.ports import Folded
from enricher.engine.router import Context, Route
from enricher.errors import BadMessage
from enricher.market.bars.rolling_windows import order_key
from enricher.market.documents import BARS, TICKS
from enricher.market.folds import ChainChange
from enricher.market.folds.surface_view import SHOW_EVERY_US
from enricher.market.state import product_state
from enricher.market.state.market_state import MarketState
from enricher.market.state.product_state import ProductState
from enricher.market.surface.expiry_snapshot import ExpirySnapshot
from enricher.messages.models import Chain

NOW_US = 1_750_000_000_000_000
EXPIRY = "2099-01-29"


def body(kind: str, at: int, **fields: Any) -> bytes:
    stamp = f"2025-06-15T15:06:{at:02d}+00:00"
    common = {"product": "N", "timestamp": stamp, **fields}
    if kind == "option_chain":
        leg = {"strike": 100, "open_interest": 5, "last": 2.0, "iv": fields["iv"]}
        common |= {"expiry": EXPIRY, "spot_price": 100, "strikes": [100], "calls": [leg], "puts": []}
    if kind == "option_quote":
        common |= {"symbol": "N110C", "expiry": EXPIRY, "strike": 110, "option_type": "CALL"}
    return orjson.dumps(common)


OTHER_EXPIRY = {"expiry": "2099-02-26"}
SESSION = [
    ("underlying", body("underlying", 1, price=100.0, tick_id=1)),
    ("option_quote", body("option_quote", 2, iv=0.2)),
    ("option_chain", body("option_chain", 3, iv=0.15)),
    ("option_quote", body("option_quote", 4, iv=0.3)),
    ("underlying", body("underlying", 5, price=101.0, tick_id=2)),
    ("option_chain", body("option_chain", 6, iv=0.16)),
    ("option_quote", body("option_quote", 7, iv=0.4)),
    ("option_chain", orjson.dumps({**orjson.loads(body("option_chain", 5, iv=0.5)), **OTHER_EXPIRY})),
]


EXACT = {"market.lateness": 0.0, "market.buildup_min_age": 0.0}
"""Bars close with the watermark, and build-up compares with the chain before."""


class OneLane:
    """A product's lane without an engine: messages in, effects and keys out."""

    def __init__(self, product: str = "N", settings: dict[str, Any] | None = None) -> None:
        routes = planned(load(overrides={**EXACT, **(settings or {})}))[0].routes
        self.routes: dict[str, Route] = {route.topic.removeprefix("market:"): route for route in routes}
        state_store = self.routes["underlying"].state_store
        assert isinstance(state_store, MarketState)
        self.state_store = state_store
        self.state = state_store.new(product)
        self.now_us = NOW_US
        self.keys: dict[str, bytes] = {}
        self.said: list[Effect] = []

    def take(self, kind: str, data: bytes, now_us: int = NOW_US) -> Folded | str | None:
        context = Context("", data, now_us, 1, {})
        event = self.routes[kind].decode(data, context)
        mark = self.state_store.seen(self.state, event, context)
        if mark is not None:
            return mark
        made = self.routes[kind].handler(self.state, event, context)
        change, effects = at_once(made) if isinstance(made, Generator) else made
        self._land(effects)
        return self.state_store.fold(self.state, change)

    def settle(self, apart_us: int = SECOND) -> list[Effect]:
        """The end of a turn; the next one is so much later."""
        effects = list(self.state_store.show(self.state, self.now_us))
        self.now_us += apart_us
        self._land(effects)
        return effects

    def _land(self, effects: Any) -> None:
        found: list[Effect] = list(effects)
        self.said += found
        # The watch over the feed goes by the clock, all else by events.
        shown = [e for e in found if isinstance(e, SetKey) and not e.key.startswith("feed:")]
        self.keys.update({e.key: e.value for e in shown})


def fold_chain(
    state: ProductState, chain: Chain, name: str, taken: Snapshot, known: ExpirySnapshot | None = None
) -> None:
    """Fold a chain into a product's state; ``name`` is its digest and the ``_id`` of its document."""
    change = ChainChange(chain.event_us, chain, name, taken, name, known)
    for at, step in state.steps[ChainChange]:
        if step(state.folds[at], change) is not None:
            break


def keys_after(turns: list[list[tuple[str, bytes]]]) -> dict[str, bytes]:
    """The keys as they stand after these turns of one lane."""
    lane = OneLane()
    for turn in turns:
        for kind, data in turn:
            lane.take(kind, data)
        lane.settle()
    return lane.keys


def test_the_surface_is_as_of_the_last_chain_whatever_came_after_it_in_its_turn() -> None:
    one_turn = keys_after([SESSION[:-1]])
    surface = orjson.loads(one_turn["volatility_surface:N"])
    assert surface["timestamp"].endswith("15:06:06+00:00")
    assert surface["expiries"][0]["ivs"] == [0.16, 0.3]


def surfaces(effects: Any) -> list[str]:
    """The times of the surfaces among these effects."""
    keys = [e for e in effects if isinstance(e, SetKey) and e.key == "volatility_surface:N"]
    return [orjson.loads(e.value)["timestamp"][17:19] for e in keys]


def test_of_chains_that_come_together_the_first_and_the_last_are_shown() -> None:
    lane, shown_us = OneLane(settings={"market.svi_interval": 0.0}), NOW_US
    for at in (3, 4, 5):
        lane.take("option_chain", body("option_chain", at, iv=0.2))
        assert surfaces(lane.settle(apart_us=10_000)) == ["03"][: at == 3]
        lane.take("option_quote", body("option_quote", at, iv=0.4 + at / 100))
    assert lane.state_store.due(lane.state) == shown_us + SHOW_EVERY_US
    assert lane.state_store.on_time(lane.state, shown_us + SHOW_EVERY_US - 1) == []
    (last,) = lane.state_store.on_time(lane.state, shown_us + SHOW_EVERY_US)
    assert surfaces([last]) == ["05"]
    # As of the chain: the quote that came after it is not in it.
    assert isinstance(last, SetKey)
    assert orjson.loads(last.value)["expiries"][0]["ivs"] == [0.2, 0.44]
    assert lane.state_store.due(lane.state) is None


def test_a_surface_that_waits_is_shown_at_a_stop_and_by_the_next_turn_after_its_time() -> None:
    lane = OneLane()
    for at in (3, 4):
        lane.take("option_chain", body("option_chain", at, iv=0.2))
        lane.settle(apart_us=0)
    assert [surfaces(effects) for effects in lane.state_store.held(lane.state, NOW_US)] == [["04"]]
    assert [*map(list, lane.state_store.held(lane.state, NOW_US))] == [[]]
    lane.take("option_chain", body("option_chain", 5, iv=0.2))
    assert surfaces(lane.settle(apart_us=SHOW_EVERY_US)) == []
    lane.take("option_quote", body("option_quote", 5, iv=0.2))
    assert surfaces(lane.settle()) == ["05"]


def test_the_first_surface_of_an_interval_waits_for_nothing_and_is_stored() -> None:
    lane, stored = OneLane(settings={"market.surface_interval": 2.0}), []
    for at in (4, 5, 6, 7):
        lane.take("option_chain", body("option_chain", at, iv=0.2))
        effects = lane.settle(apart_us=0)
        stored += [e.document["timestamp"].second for e in effects if isinstance(e, Insert)]
        assert surfaces(effects) == ([f"{at:02d}"] if at % 2 == 0 else [])
    assert stored == [4, 6]


@pytest.mark.parametrize("restarted", [False, True])
def test_a_slightly_older_chain_of_another_expiry_is_drawn_as_of_the_newest(restarted: bool) -> None:
    def sent(at: int, expiry: str) -> bytes:
        return orjson.dumps({**orjson.loads(body("option_chain", at, iv=0.2)), "expiry": expiry})

    lane = OneLane()
    lane.take("option_chain", sent(6, "2099-01-29"))
    lane.settle()
    if restarted:
        lane.state.chains.newest_text = ""
    lane.take("option_chain", sent(5, "2099-02-26"))
    effects = lane.settle()
    (shown,) = [e for e in effects if isinstance(e, SetKey) and e.key == "volatility_surface:N"]
    surface = orjson.loads(shown.value)
    assert [row["expiry"] for row in surface["expiries"]] == ["2099-01-29", "2099-02-26"]
    assert surface["timestamp"] == "2025-06-15T15:06:06+00:00"
    assert shown.version == lane.state.chains.newest_us
    lane.take("option_chain", sent(4, "2099-02-26"))
    assert lane.settle() == []


def test_every_way_to_cut_messages_into_turns_leaves_the_same_keys() -> None:
    expected = keys_after([[message] for message in SESSION])
    for cuts in itertools.product([False, True], repeat=len(SESSION) - 1):
        turns: list[list[tuple[str, bytes]]] = [[SESSION[0]]]
        for message, cut in zip(SESSION[1:], cuts, strict=True):
            if cut:
                turns.append([message])
            else:
                turns[-1].append(message)
        assert keys_after(turns) == expected


def test_an_option_is_one_field_of_the_sorted_set_however_its_strike_is_written() -> None:
    lane = OneLane()
    for at, strike in enumerate([110, 110.0, 110.5, 0, -0.0]):
        sent = orjson.loads(body("option_quote", at + 1, iv=0.1 + at / 100))
        lane.take("option_quote", orjson.dumps({**sent, "strike": strike}))
        lane.settle()
    members = [effect for effect in lane.said if isinstance(effect, SetMember)]
    assert [m.field for m in members] == [f"{EXPIRY}|{k}|CALL" for k in ("110", "110", "110.5", "0", "0")]
    assert [m.twin for m in members] == [m.field.replace("CALL", "PUT") for m in members]


def day_of(day: int) -> str:
    return (date(2025, 1, 1) + timedelta(days=day)).isoformat()


def on_day(day: int, kind: str, expiry: str, symbol: str = "") -> bytes:
    sent = orjson.loads(body(kind, 1, iv=0.2)) | {"timestamp": f"{day_of(day)}T10:00:00+00:00"}
    return orjson.dumps({**sent, "expiry": expiry, **({"symbol": symbol} if symbol else {})})


@pytest.mark.parametrize("quotes", [0, 3])
def test_a_product_remembers_no_more_after_a_hundred_expiries_than_after_three(quotes: int) -> None:
    lane = OneLane()
    for day in range(100):
        lane.take("option_chain", on_day(day, "option_chain", day_of(day)))
        for number in range(quotes):
            sent = on_day(day, "option_quote", day_of(day), f"S{day}-{number}")
            lane.take("option_quote", sent)
        lane.state.identities.restored_chains.setdefault(lane.state.chains.newest_us, set()).add("digest")
        lane.settle()
    state = lane.state
    assert set(state.chains.document_ids) == set(state.identities.recent_chains) == {day_of(99)}
    # A day longer, for a replay of the past that is still under way.
    assert set(state.baselines.snapshots) == set(state.as_of.by_expiry) == {day_of(98), day_of(99)}
    assert len(state.identities.recent_quotes) == quotes
    assert len(state.identities.restored_chains) == 1
    assert len(state.quotes.surface) == min(quotes, 1)


def test_expired_members_are_dropped_once_a_day_though_only_chains_come() -> None:
    lane = OneLane()
    for day, number in [(0, 1), (0, 2), (1, 1), (1, 2), (0, 3)]:
        lane.take("option_chain", on_day(day, "option_chain", f"2099-01-0{number}"))
        lane.settle()
    dropped = [effect for effect in lane.said if isinstance(effect, DropMembers)]
    assert dropped == [DropMembers("iv_surface:N", day_of(0)), DropMembers("iv_surface:N", day_of(1))]


def moved(kind: str, moment: str, iv: float, expiry: str, product: str = "NIFTY", strike: int = 110) -> bytes:
    sent = orjson.loads(body(kind, 1, iv=iv)) | {"timestamp": moment, "product": product, "expiry": expiry}
    if kind == "option_quote":
        sent |= {"symbol": f"{expiry}{strike}", "strike": strike}
    return orjson.dumps(sent)


def shown(lane: OneLane, product: str = "NIFTY") -> list[str]:
    """The expiries of the surface in the cache."""
    return [row["expiry"] for row in orjson.loads(lane.keys[f"volatility_surface:{product}"])["expiries"]]


NEXT = "2025-06-19"


@pytest.mark.parametrize("one_turn", [False, True])
@pytest.mark.parametrize(
    ("product", "last", "instant"),
    [
        ("NIFTY", "2025-06-12T15:29:59", "2025-06-12T15:30:00"),
        ("NIFTY", "2025-06-12T09:59:59+00:00", "2025-06-12T10:00:00+00:00"),
        ("BTC", "2025-06-12T07:59:59+00:00", "2025-06-12T08:00:00+00:00"),
        # At the exchange it is still the day before.
        ("SPXW", "2025-06-13T04:59:59+09:00", "2025-06-13T05:00:00+09:00"),
    ],
)
def test_an_expiry_leaves_the_sorted_set_and_the_surface_at_the_same_message(
    product: str, last: str, instant: str, one_turn: bool
) -> None:
    expiry, lane = "2025-06-12", OneLane(product, {"feed.timezone": "Asia/Kolkata"})
    for at in (expiry, NEXT):
        lane.take("option_chain", moved("option_chain", last, 0.2, at, product))
        lane.take("option_quote", moved("option_quote", last, 0.2, at, product))
    lane.settle()
    lane.take("option_chain", moved("option_chain", last, 0.21, NEXT, product))
    lane.settle()
    assert shown(lane, product) == [expiry, NEXT]
    lane.said.clear()
    lane.take("option_quote", moved("option_quote", instant, 0.3, NEXT, product))
    if not one_turn:
        lane.settle()
    lane.take("option_quote", moved("option_quote", instant, 0.3, expiry, product, 120))
    lane.settle()
    assert shown(lane, product) == [NEXT]
    assert [e.before for e in lane.said if isinstance(e, DropMembers)] == ["2025-06-13"]
    assert {e.field for e in lane.said if isinstance(e, SetMember)} == {f"{NEXT}|110|CALL"}


def test_a_surface_that_loses_an_expiry_to_a_quote_is_still_as_of_the_last_chain() -> None:
    lane = OneLane("NIFTY", {"feed.timezone": "Asia/Kolkata"})
    for at in ("2025-06-12", NEXT):
        lane.take("option_chain", moved("option_chain", "2025-06-12T15:29:00", 0.2, at))
    lane.settle()
    lane.take("option_quote", moved("option_quote", "2025-06-12T15:30:00", 0.3, NEXT))
    (surface,) = [e for e in lane.settle() if isinstance(e, SetKey) and e.key.startswith("vol")]
    assert surface.version == lane.state.chains.newest_us
    assert orjson.loads(surface.value)["timestamp"] == "2025-06-12T15:29:00"
    assert [row["expiry"] for row in orjson.loads(surface.value)["smiles"]] == [NEXT]


def closing(*clock: str, at: str = "2025-06-12T15:29:50") -> OneLane:
    """A lane that took its last messages at this time, and had clock events at those."""
    lane = OneLane("NIFTY", {"feed.timezone": "Asia/Kolkata", "market.svi_interval": 0.0})
    for expiry in ("2025-06-12", NEXT):
        lane.take("option_chain", moved("option_chain", at, 0.2, expiry))
        lane.take("option_quote", moved("option_quote", at, 0.3, expiry))
    lane.settle()
    lane.said.clear()
    heard_us = event_us(f"{at}+05:30")[0]
    for moment in clock:
        now_us = NOW_US + event_us(f"{moment}+05:30")[0] - heard_us
        due_us = lane.state_store.due(lane.state)
        if due_us is not None and due_us <= now_us:
            lane._land(lane.state_store.on_time(lane.state, now_us))
    return lane


def test_an_expiry_at_which_the_market_falls_silent_leaves_by_the_clock() -> None:
    assert shown(closing("2025-06-12T15:29:59")) == ["2025-06-12", NEXT]
    lane = closing("2025-06-12T15:29:59", "2025-06-12T15:30:00", "2025-06-12T15:31:00")
    assert shown(lane) == [NEXT]
    assert [e.before for e in lane.said if isinstance(e, DropMembers)] == ["2025-06-13"]
    (surface,) = [e for e in lane.said if isinstance(e, SetKey) and e.key.startswith("vol")]
    assert surface.version == lane.state.chains.newest_us
    assert lane.state_store.due(lane.state) is None
    # What is sent of it all the same is of the past; the others go on.
    lane.take("option_quote", moved("option_quote", "2025-06-12T15:29:55", 0.4, "2025-06-12"))
    lane.take("option_quote", moved("option_quote", "2025-06-12T15:29:56", 0.4, NEXT))
    lane.settle()
    assert {e.field for e in lane.said if isinstance(e, SetMember)} == {f"{NEXT}|110|CALL"}


def test_a_surface_that_is_no_longer_shown_is_not_shown_again_for_an_expiry_that_goes() -> None:
    lane = closing("2025-06-12T15:30:00", at="2025-06-12T15:20:00")
    assert [e.before for e in lane.said if isinstance(e, DropMembers)] == ["2025-06-13"]
    assert not any(isinstance(e, SetKey) for e in lane.said)


def test_an_expiry_more_than_an_hour_ahead_of_the_last_message_waits_for_the_next() -> None:
    lane = closing("2025-06-12T16:00:00", at="2025-06-12T14:29:59")
    assert lane.said == []
    assert lane.state_store.due(lane.state) is None


def test_chains_after_the_instant_of_their_expiry_are_compared_with_those_before() -> None:
    lane = OneLane("NIFTY", {"feed.timezone": "Asia/Kolkata"})
    for second in ("29:57", "29:59", "30:00", "30:02"):
        sent = moved("option_chain", f"2025-06-12T15:{second}", 0.2, "2025-06-12")
        lane.take("option_chain", sent)
        lane.settle()
    last = orjson.loads(lane.keys["latest:chain:NIFTY:2025-06-12"])
    assert last["flags"]["years"] == "expired"
    assert last["buildup"] is not None
    assert last["buildup_day"]["since_us"] == event_us("2025-06-12T15:29:57+05:30")[0]
    assert shown(lane) == []


@pytest.mark.parametrize("expiry", ["0001-01-01", "9999-12-31"])
def test_the_first_and_the_last_date_there_is_do_no_harm(expiry: str) -> None:
    lane = OneLane("NIFTY")
    for second in (1, 2):
        lane.take("option_chain", orjson.dumps(
            orjson.loads(body("option_chain", second, iv=0.2)) | {"product": "NIFTY", "expiry": expiry}
        ))
        lane.take("option_quote", orjson.dumps(
            orjson.loads(body("option_quote", second, iv=0.2)) | {"product": "NIFTY", "expiry": expiry}
        ))
        lane.settle()
    assert shown(lane) == ([expiry] if expiry > "2025" else [])
    assert orjson.loads(lane.keys[f"latest:chain:NIFTY:{expiry}"])["pcr_oi"] is None


def test_what_lasts_is_kept_when_the_day_moves() -> None:
    lane = OneLane()
    for day in range(3):
        lane.take("option_chain", on_day(day, "option_chain", EXPIRY))
        lane.settle()
    assert set(lane.state.baselines.snapshots) == set(lane.state.chains.document_ids) == {EXPIRY}
    assert orjson.loads(lane.keys[f"latest:chain:N:{EXPIRY}"])["buildup"] is not None


def test_asking_for_a_baseline_leaves_nothing_behind() -> None:
    state = OneLane().state
    assert state.baselines.before(EXPIRY, 5) is None
    assert state.baselines.snapshots == {}


@pytest.mark.parametrize("restarted", [False, True])
def test_of_ticks_of_one_moment_the_last_by_id_is_shown_after_a_restart_too(restarted: bool) -> None:
    lane = OneLane()
    lane.take("underlying", body("underlying", 5, price=105.0, tick_id="T-10"))
    lane.settle()
    if restarted:
        after = OneLane()
        newest = lane.state.windows.ticks.newest or 0
        after.state.windows.ticks.add(newest, 105.0, order_key("T-10"), 1, live=False)
        after.keys = lane.keys
        lane = after
    lane.take("underlying", body("underlying", 5, price=104.0, tick_id="T-9"))
    lane.settle()
    assert orjson.loads(lane.keys["latest:underlying:N"])["price"] == 105.0
    assert orjson.loads(lane.keys["ohlc:N:1m"])["close"] == 105.0


def test_a_message_that_names_a_second_product_is_bad() -> None:
    first = body("option_chain", 1, iv=0.2)
    twice = first.replace(b'{"product":"N",', b'{"product":"N","product":"M",', 1)
    with pytest.raises(BadMessage, match=r'one product, .*"N" and "M"'):
        OneLane().take("option_chain", twice)


def test_a_sender_cannot_say_of_a_quote_that_it_moved_nothing() -> None:
    """A restart would leave such a quote out of the surface that it is in."""
    lane = OneLane()
    sent = orjson.loads(body("option_quote", 2, iv=0.2)) | {"folded": False, "venue": "X"}
    lane.take("option_quote", orjson.dumps(sent))
    (document,) = [effect.document for effect in lane.said if isinstance(effect, Insert)]
    assert "folded" not in document
    assert document["venue"] == "X"


@pytest.mark.parametrize("hour", [0, 3_600_000_000, -3_600_000_000])
def test_bars_are_final_when_nothing_was_heard_for_a_while_however_the_clock_is_set(hour: int) -> None:
    lane = OneLane(settings={"market.analytics": False})
    for second in (1, 30):
        lane.take("underlying", body("underlying", second, price=100.0, tick_id=second))
    lane.settle()
    if hour:
        lane.state_store.clock_set(lane.state, hour)
    due_us = lane.state_store.due(lane.state)
    assert due_us == NOW_US + hour + 30_000_000
    final: dict[int, list[Any]] = {}
    for minute in range(16):
        # It is 40 s past the minute, by a clock that is right or an hour off.
        effects = lane.state_store.on_time(lane.state, NOW_US + hour + minute * 60_000_000)
        final[minute] = [e.document["window_minutes"] for e in effects if isinstance(e, Insert)]
    found = {minute: minutes for minute, minutes in final.items() if minutes}
    assert found == {1: [1], 4: [5], 9: [15]}


@pytest.mark.parametrize("hour", [3_600_000_000, -3_600_000_000])
def test_a_surface_and_its_curves_wait_no_longer_when_the_clock_is_set(hour: int) -> None:
    lane = OneLane(settings={"market.svi_interval": 10.0})
    lane.take("option_chain", body("option_chain", 3, iv=0.2))
    lane.settle(apart_us=0)
    lane.state_store.on_time(lane.state, NOW_US)  # a curve is fitted
    lane.state_store.held(lane.state, NOW_US)
    lane.take("option_chain", body("option_chain", 4, iv=0.2))
    assert surfaces(lane.settle(apart_us=0)) == []
    lane.state_store.clock_set(lane.state, hour)
    assert lane.state_store.due(lane.state) == NOW_US + hour + SHOW_EVERY_US
    assert "04" in surfaces(lane.state_store.on_time(lane.state, NOW_US + hour + SHOW_EVERY_US))
    assert lane.state.surface.due_us == NOW_US + hour + 10_000_000


@lru_cache
def lane_with(volume: str) -> OneLane:
    return OneLane(settings={"market.volume": volume})


@given(st.randoms(use_true_random=True), st.booleans())
def test_ticks_say_the_same_one_by_one_and_in_turns(draw: random.Random, cumulative: bool) -> None:
    """Most in order, some late or twice, some with a price or volume that is none, over many bars."""
    at, bodies = 0, list[bytes]()
    for _ in range(60):
        at += draw.choices([draw.randint(1, 15), 0, -draw.randint(1, 150)], [20, 2, 1])[0]
        tick = {
            "product": "N",
            "timestamp": render(NOW_US - 7200 * SECOND + at * SECOND, naive=False),
            "price": draw.choices([draw.randint(396, 404) / 4, 0, 10_000], [40, 1, 1])[0],
            "volume": draw.choices([draw.randint(0, 90), 0.5, None, 2**31 - 1], [40, 1, 1, 1])[0],
            "tick_id": draw.randint(0, 9),
        }
        bodies.append(orjson.dumps(tick))

    def run(lengths: Iterable[int]) -> tuple[Any, ...]:
        lane = copy(lane_with("cumulative" if cumulative else "trade"))
        lane.state, lane.keys, lane.said = lane.state_store.new("N"), {}, []
        marks, turns = [], iter(lengths)
        for at in range(0, len(bodies), 12):  # and then nothing comes for so long that bars are closed
            waiting = bodies[at : at + 12]
            while waiting:
                length = next(turns)
                marks += [lane.take("underlying", tick) for tick in waiting[:length]]
                waiting = waiting[length:]
                lane.settle()
            assert lane.state.bars.bars.newest == lane.state.windows.ticks.newest
            lane._land(lane.state_store.on_time(lane.state, NOW_US + 7200 * SECOND))
        ticks = [e.document for e in lane.said if isinstance(e, Insert) and e.collection == TICKS]
        written = [e for e in lane.said if isinstance(e, Insert | Upsert) and e.collection == BARS]
        # The sooner a bar is given out, the more often it is revised, and the less is known of volumes.
        told = {"revision": 0, "flags": {}, "processed_at": None}
        bars = {e.document["_id"]: e.document | told for e in written}
        return marks, ticks, bars, [e for e in lane.said if isinstance(e, Publish)], lane.keys

    with patch.object(product_state, "_MANY", 2):
        assert run([draw.randint(1, 9) for _ in bodies]) == run([1] * len(bodies))
