"""What a chain says of others remembered is of its own time: nothing stored of later times shows in it."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enricher.analytics import black76
from enricher.analytics.as_of import Fronts, Timeline
from enricher.analytics.contracts import YEAR_US
from enricher.clock import SECOND, event_us, render
from enricher.engine.effects import Insert, Publish, Upsert
from enricher.engine.ports import Delivery, Write
from enricher.market.documents import CHAINS
from enricher.market.products import Contracts
from tests.memory import MemoryDocuments
from tests.unit.test_market_state import NOW_US, OneLane

NIFTY = Contracts().of("NIFTY")
START = event_us("2022-03-28T10:00:00+05:30")[0]
EXPIRIES = ("2022-04-07", "2022-04-28", "2022-05-26", "2022-06-30")
DAY = 86_400
LEAST_AGE = 60
SETTINGS = {
    "market.windows": (1,),
    "market.buildup_min_age": LEAST_AGE,
    "market.history_days": 30,
    "market.history_least": 1,
}
Message = tuple[int, int, int]  # seconds since the start, which expiry, what makes its numbers


def chain(message: Message) -> bytes:
    seconds, which, number = message
    at_us, expiry = START + seconds * SECOND, EXPIRIES[which]
    t = max((NIFTY.expiry_us(expiry) - at_us) / YEAR_US, 0.0)
    sides: tuple[list[dict[str, Any]], ...] = ([], [])
    for strike in (17000, 17250, 17500):
        for legs, kind in zip(sides, (1, -1), strict=True):
            value = black76.price(kind, 17250, strike, t, 0.1 + number / 50, 1 - NIFTY.rate * t) if t else 1.0
            oi = 100 + kind * number + which
            legs.append(
                {"strike": strike, "bid": value, "ask": value + 0.1, "last": value, "open_interest": oi}
                | ({"iv": 10.0 + number} if number % 2 else {})
            )
    return orjson.dumps(
        {"product": "NIFTY", "expiry": expiry, "spot_price": 17250, "timestamp": render(at_us, False)}
        | {"calls": sides[0], "puts": sides[1]}
    )


class Lane(OneLane):
    """A lane over documents in memory, with every turn settled, that can be stopped and started."""

    def __init__(self, settings: dict[str, Any] | None = None) -> None:
        super().__init__("NIFTY", {**SETTINGS, **(settings or {})})
        self.stored = MemoryDocuments()
        self.now_us = NOW_US

    def turn(self, *messages: Message) -> list[dict[str, Any]]:
        """The documents of the chains of one turn, but for those that were there before."""
        said = len(self.said)
        for message in messages:
            self.now_us += 1000
            self.take("option_chain", chain(message), self.now_us)
        self.settle()
        landed = [effect for effect in self.said[said:] if isinstance(effect, Insert | Upsert)]
        asyncio.run(self.stored.commit([Write((effect,)) for effect in landed]))
        stored = [effect.document for effect in landed if effect.collection == CHAINS]
        return [{name: one[name] for name in one if name != "processed_at"} for one in stored]

    def chain(self, message: Message) -> dict[str, Any] | None:
        """The document of a chain in a turn of its own; None for one that was there before."""
        return next(iter(self.turn(message)), None)

    def restart(self) -> None:
        wanted = {"NIFTY": Delivery("", b"", START + 9 * 365 * DAY * SECOND)}
        self.state = asyncio.run(self.state_store.restore(self.stored, wanted))["NIFTY"]


def enriched(order: list[Message | None], recording: set[Message]) -> list[dict[str, Any]]:
    """What is stored of the recording's chains when all come in this order; None is a restart."""
    lane, found = Lane(), []
    for message in order:
        if message is None:
            lane.restart()
        elif (document := lane.chain(message)) is not None and message in recording:
            found.append(document)
    return found


steps = st.sampled_from([0, 1, 3, 30, 61, 200, 400, 3600, DAY, 3 * DAY])
others = st.tuples(st.integers(0, 3), st.integers(0, 9))
recordings = st.lists(st.tuples(steps, others), min_size=2, max_size=14)
beyond = st.sampled_from([1, 4, 50, 100, 290, 1000, DAY, 40 * DAY, 500 * DAY])
laters = st.lists(st.tuples(beyond, others), min_size=1, max_size=14)


def in_time(recording: list[tuple[int, tuple[int, int]]]) -> list[Message]:
    found, at = [], 0
    for step, other in recording:
        at += step
        found.append((at, *other))
    return list(dict.fromkeys(found))


@settings(deadline=None, max_examples=60, derandomize=True)
@given(recordings, laters, st.randoms(use_true_random=False), st.sampled_from(["before", "among", "restart"]))
def test_a_recording_gives_the_same_whatever_was_stored_of_later_times(
    recording: list[Any], later: list[Any], rng: Any, how: str
) -> None:
    messages = in_time(recording)
    # Of two streams that take turns the later one must not be taken for what goes on with the other.
    last = messages[-1][0] + (2 * DAY if how == "among" else 0)
    beyond_it = list(dict.fromkeys((last + past, *other) for past, other in later))
    mixed: list[Message | None] = [*beyond_it, *messages]
    alone: list[Message | None] = list(messages)
    if how == "among":
        for at, place in enumerate(sorted(rng.sample(range(len(mixed)), len(messages)))):
            mixed.remove(messages[at])
            mixed.insert(place, messages[at])
    if how == "restart":
        cut = rng.randrange(len(messages))
        alone.insert(cut, None)
        mixed.insert(len(beyond_it) + cut, None)
    assert [m for m in mixed if m in set(messages)] == messages
    found, expected = enriched(mixed, set(messages)), enriched(alone, set(messages))
    if min(message[0] for message in beyond_it) <= messages[-1][0] + LEAST_AGE:
        # Beside a feed so near there may be no snapshot that is old enough: null then, with its reason.
        for document in (*found, *expected):
            assert document["buildup"] is not None or document["flags"].pop("buildup")
            del document["buildup"]
            document["flags"].pop("buildup", None)
    assert found == expected


def test_of_a_replay_behind_the_live_feed_each_chain_joins_those_of_its_time() -> None:
    lane = Lane()
    for which in range(4):
        lane.chain((400 * DAY, which, 5))
    first, second = lane.chain((0, 0, 1)), lane.chain((3, 2, 1))
    assert first is not None
    assert second is not None
    assert (first["all_expiries"]["expiries"], first["all_expiries"]["iv_30d"]) == (1, None)
    assert second["all_expiries"]["expiries"] == second["all_expiries"]["expected"] == 2
    assert second["all_expiries"]["iv_30d"] == pytest.approx(0.12, abs=0.01)


def test_of_a_snapshot_each_chain_says_how_many_are_in_and_how_many_are_expected() -> None:
    lane, found = Lane(), []
    for second in (0, 400):  # more apart than any chain counts for
        for which in range(4):
            document = lane.chain((second, which, 1))
            assert document is not None
            found.append((document["all_expiries"]["expiries"], document["all_expiries"]["expected"]))
    assert found == [(1, 1), (2, 2), (3, 3), (4, 4), (1, 4), (2, 4), (3, 4), (4, 4)]
    # One that is sent no more is expected no more once the others have gone on without it.
    for second in (403, 500, 600):
        for which in range(3):
            document = lane.chain((second, which, 1))
            assert document is not None
            found.append((document["all_expiries"]["expiries"], document["all_expiries"]["expected"]))
    document = lane.chain((1000, 0, 1))
    assert document is not None
    assert (document["all_expiries"]["expiries"], document["all_expiries"]["expected"]) == (1, 3)


def products(lane: Lane) -> list[dict[str, Any]]:
    """What was published of the product as a whole, oldest first."""
    said = [e for e in lane.said if isinstance(e, Publish) and e.channel == "enriched:product"]
    return [orjson.loads(effect.message) for effect in said]


def test_the_product_as_a_whole_is_said_once_per_turn_that_changed_a_chain() -> None:
    lane = Lane()
    lane.turn(*((0, which, 1) for which in range(4)))
    (found,) = products(lane)
    assert found == orjson.loads(lane.keys["latest:product:NIFTY"])
    assert (found["product"], found["timestamp"]) == ("NIFTY", render(START, False))
    assert found["expiries"] == found["expected"] == 4
    assert (found["total_call_oi"], found["total_put_oi"]) == (3 * (404 + 6), 3 * (396 + 6))
    assert found["pcr_oi"] == round(402 / 410, 4)
    assert (found["front_expiry"], found["front_atm_iv"]) == (EXPIRIES[0], pytest.approx(0.12, abs=1e-3))
    assert found["iv_30d"] == pytest.approx(0.12, abs=1e-3)
    assert len(found["term"]["years"]) == 4
    assert found["resistance"][0] == {"strike": 17250, "amount": 410, "share": round(1 / 3, 4)}
    assert [wall["strike"] for wall in found["support"]] == [17250, 17000]
    assert found["flags"]["pcr_volume"] == "no known volume of calls or of puts, or 0 of the calls"
    lane.settle()
    lane.chain((-1, 2, 1))  # older than that expiry's own, and than what counts
    lane.chain((-300, 3, 1))
    assert len(products(lane)) == 1
    lane.chain((59, 0, 1))
    lane.chain((61, 0, 1))
    assert [(one["expiries"], one["expected"]) for one in products(lane)[1:]] == [(4, 4), (1, 4)]
    lane.restart()
    lane.settle()
    assert len(products(lane)) == 3
    lane.chain((62, 1, 1))
    assert (products(lane)[-1]["expiries"], products(lane)[-1]["expected"]) == (2, 4)


def test_without_analytics_nothing_is_said_of_the_product_as_a_whole() -> None:
    lane = Lane({"market.analytics": False})
    lane.chain((0, 0, 1))
    assert not products(lane)


@given(st.lists(st.integers(0, 400), min_size=1, max_size=60))
@example([0, 400, 0])
def test_a_timeline_answers_exactly_where_its_streams_stand(times: list[int]) -> None:
    line: Timeline[int] = Timeline(10, 10)
    for at, time in enumerate(times):
        line.add(time, time)
        known = [t for t in times[: at + 1] if t <= time]
        assert line.at(time) == max(known)
    assert line.at(-1) is None
    assert line.at(10**6) == max(times)


def test_what_no_stream_needs_is_forgotten() -> None:
    line: Timeline[int] = Timeline(10, 10, least=3)
    for time in range(10_000):
        line.add(time, time)
    assert len(line) == 11
    for time in range(-5000, -4000):
        line.add(time, time)
    assert (len(line), line.at(-4001), line.before(-4001)) == (22, -4001, -4002)
    assert line.standing() == [-4002, -4001, 9998, 9999]
    fronts = Fronts(10, 10)
    for time in range(0, -10_000, -100):
        fronts.touch(time)
    assert len(fronts.at) == 8
    assert max(fronts.at) == 0


@given(st.sets(st.integers(0, 60)), st.lists(st.integers(0, 60), max_size=6))
def test_what_no_front_needs_is_named_in_stretches(held: set[int], touched: list[int]) -> None:
    fronts, times = Fronts(5, 8), sorted(held)
    for time in touched:
        fronts.touch(time)
    wanted: set[int] = set()
    for front in fronts.at:
        wanted |= {time for time in times if front - 5 < time <= front}
        wanted |= {max((time for time in times if time <= front - 5), default=-1)}
    stretches = fronts.unwanted(times)
    assert len(stretches) <= len(fronts.at) + 1
    for stretch in stretches:
        del times[stretch]
    assert set(times) == held & wanted
