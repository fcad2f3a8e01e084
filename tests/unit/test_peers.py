"""The programs of other frameworks that we compare with find the numbers that enricher finds."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import bson
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.null_mongo import Kept
from benchmarks.parts import PARTS, Options
from benchmarks.peers import compare
from benchmarks.peers.__main__ import own_requirements
from benchmarks.peers.catalogue import PEERS
from benchmarks.peers.contest import Round, expected
from benchmarks.peers.domain import TOPICS, WINDOWS, Windows, read, show, show_window
from benchmarks.peers.read_back import show_surface, window_of
from benchmarks.peers.watch import Seen
from benchmarks.workloads import workload
from enricher import load
from enricher.analytics.steps import at_once
from enricher.assembly import planned
from enricher.engine.effects import Insert, Publish, SetKey
from enricher.engine.router import Context
from enricher.errors import BadMessage
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING, Message
from enricher.market.settings import MarketSettings
from enricher.market.state.market_state import MarketState
from enricher.market.state.product_state import ProductState

START_US = 1_790_000_000_000_000
SPANS = MarketSettings(lateness=0.0, buildup_min_age=0.0)


class Enriched:
    """What enricher's own handlers store, cache and publish for messages of one product, turn by turn."""

    def __init__(self) -> None:
        self.routes = {route.topic: route for route in planned(load())[0].routes}
        self.state = ProductState("NIFTY", SPANS)

    def take(self, topic: str, body: bytes, now_us: int) -> list[Any]:
        route = self.routes[topic]
        context = Context(topic, body, now_us, 1, {})
        event = route.decode(body, context)
        made = route.handler(self.state, event, context)
        change, effects = at_once(made) if isinstance(made, Generator) else made
        assert isinstance(route.state_store, MarketState)
        route.state_store.fold(self.state, change)
        return [*effects, *route.state_store.show(self.state, now_us)]


def session(kind: str, count: int) -> list[Message]:
    return workload(kind, count, products=1, start_us=START_US, step_us=700_000)


def at(number: int) -> int:
    return START_US + number * 700_000


@pytest.mark.parametrize(("kind", "count"), [("ticks", 400), ("mix", 120)])
def test_peers_store_cache_and_publish_what_enricher_does(kind: str, count: int) -> None:
    ours, windows, compared = Enriched(), Windows(), 0
    for number, (topic, body) in enumerate(session(kind, count)):
        effects = ours.take(topic, body, at(number))
        work = read(topic, body, at(number))
        commands = show(work, windows)

        (stored,) = (e for e in effects if isinstance(e, Insert) and e.collection == work.collection)
        assert work.document == {name: stored.document[name] for name in work.document}

        cached = {e.key: orjson.loads(e.value) for e in effects if isinstance(e, SetKey)}
        for command in commands:
            if command[0] == "SET" and command[1] != work.claim:
                value = orjson.loads(command[2])  # type: ignore[arg-type]
                assert value == {name: cached[str(command[1])][name] for name in value}
                compared += 1

        said = [e for e in effects if isinstance(e, Publish) and e.channel != "enriched:product"]
        published = [(e.channel, orjson.loads(e.message)) for e in said]
        republished = [c for c in commands if c[0] == "PUBLISH"]
        for (channel, message), command in zip(published, republished, strict=True):
            assert command[1] == channel
            value = orjson.loads(command[2])  # type: ignore[arg-type]
            assert value == {name: message[name] for name in value}
            compared += 1
    assert compared > count


def test_windows_read_back_are_those_that_enricher_keeps() -> None:
    ours, stored = Enriched(), []
    for number, (topic, body) in enumerate(session("ticks", 400)):
        effects = ours.take(topic, body, at(number))
        stored.append(read(topic, body, at(number)).document)
        cached = {e.key: orjson.loads(e.value) for e in effects if isinstance(e, SetKey)}
        end_us = stored[-1]["event_us"]
        for minutes in WINDOWS:
            window = window_of(stored, minutes, end_us)
            assert window is not None
            _, key, value, *_ = show_window("NIFTY", minutes, window, naive=False)
            shown = orjson.loads(value)  # type: ignore[arg-type]
            assert shown == {name: cached[str(key)][name] for name in shown}
    assert window_of(stored, 1, end_us + 60_000_000) is None


def test_a_surface_read_back_has_the_newest_volatility_of_each_strike() -> None:
    quotes: list[dict[str, Any]] = [
        {"expiry": "2026-12-31", "strike": 200, "iv": 0.4, "event_us": 4},
        {"expiry": "2026-12-31", "strike": 100, "iv": 0.3, "event_us": 3},
        {"expiry": "2026-12-31", "strike": 100, "iv": 0.2, "event_us": 2},
        {"expiry": "2026-12-31", "strike": 300, "iv": None, "event_us": 5},
        {"expiry": "2026-11-30", "strike": 100, "iv": 0.1, "event_us": 1},
    ]
    _, key, value, *_ = show_surface("NIFTY", quotes, 1_500_000, naive=False)
    assert key == "volatility_surface:NIFTY"
    assert orjson.loads(value) == {  # type: ignore[arg-type]
        "product": "NIFTY",
        "timestamp": "1970-01-01T00:00:01.500000+00:00",
        "expiries": [
            {"expiry": "2026-11-30", "strikes": [100], "ivs": [0.1], "avg_iv": 0.1},
            {"expiry": "2026-12-31", "strikes": [100, 200], "ivs": [0.3, 0.4], "avg_iv": 0.35},
        ],
    }


def test_the_null_server_gives_back_the_newest_documents_of_a_product_and_of_a_time() -> None:
    kept = Kept(3)
    works = [read(topic, body, at(6)) for topic, body in session("ticks", 6)]
    for order in (1, 0, 2, 3, 5, 4):
        kept.keep("underlying_ticks", bson.encode({**works[order].document}))

    def found(product: str, first: int, last: int) -> list[int]:
        between = {"$gte": works[first].document["timestamp"], "$lte": works[last].document["timestamp"]}
        query = {"find": "underlying_ticks", "filter": {"product": product, "timestamp": between}}
        return [document["event_us"] for document in kept.find(bson.decode(bson.encode(query)))]

    moments = [work.document["event_us"] for work in works]
    assert found("NIFTY", 0, 5) == moments[3:]
    assert found("NIFTY", 0, 4) == moments[3:5]
    assert found("BANKNIFTY", 0, 5) == []
    assert kept.find({"find": "underlying_ticks", "filter": {"_id": 1}}) == []


@given(st.permutations(range(30)))
def test_windows_of_the_peers_do_not_depend_on_the_order_of_ticks(order: list[int]) -> None:
    ticks = [read(topic, body, at(30)) for topic, body in session("ticks", 30)]
    in_order, shuffled = Windows(), Windows()
    for number in range(30):
        last = in_order.fold(ticks[number].event)  # type: ignore[arg-type]
        other = shuffled.fold(ticks[order[number]].event)  # type: ignore[arg-type]
    assert other.window(300_000_000) == last.window(300_000_000)


def test_a_peer_refuses_what_enricher_refuses() -> None:
    with pytest.raises(BadMessage):
        read(UNDERLYING, b'{"product": "NIFTY", "price": -1, "timestamp": "2026-01-01T00:00:00"}', START_US)


def test_a_mix_leaves_a_document_per_message_and_a_publication_per_tick_and_chain() -> None:
    messages = session("mix", 72)
    published = sum(topic in (UNDERLYING, OPTION_CHAIN) for topic, _ in messages)
    assert expected(messages) == Seen(72, published)
    assert {topic for topic, _ in messages} == set(TOPICS) == {UNDERLYING, OPTION_QUOTE, OPTION_CHAIN}


def test_what_is_missing_counts_as_lost_and_what_came_twice_does_not() -> None:
    assert Round(1.0, 1.0, Seen(10, 5), Seen(8, 4)).lost == 3
    assert Round(1.0, 1.0, Seen(10, 5), Seen(11, 6)).lost == 0


def test_no_message_is_sent_to_a_contestant_twice() -> None:
    parts = compare.shares("ticks", compare.Size(5, 10, 30), rounds=2)
    assert [(len(ours), len(theirs)) for ours, theirs in parts] == [(5, 5), (30, 0), (30, 10), (30, 10)]
    for side in (0, 1):
        sent = [message for part in parts for message in part[side]]
        assert len(set(sent)) == len(sent)


class Rounds:
    """A contestant whose rounds cost what it was told."""

    def __init__(self, *costs: float) -> None:
        self.costs = iter(costs)

    def flood(self, messages: list[Message]) -> Round:
        wanted = expected(messages)
        return Round(next(self.costs), 1.0, wanted, wanted)

    def processes(self) -> int:
        return 1

    def rss_mb(self) -> float:
        return 1.0


def test_a_round_is_compared_with_what_enricher_took_right_before_and_right_after() -> None:
    ours, theirs = compare.Side("enricher", "1", "ticks"), compare.Side("celery", "5", "ticks")
    base: Any = Rounds(99.0, 10.0, 30.0, 10.0)
    other: Any = Rounds(99.0, 200.0, 400.0)
    compare.contest(base, ours, other, theirs, compare.Size(1, 2, 3), rounds=2)
    assert theirs.ratios == [10.0, 20.0]
    assert [one.us for one in ours.measured] == [10.0, 30.0, 10.0]
    assert theirs.row()["us_per_message"] == 300.0


def test_without_the_peers_the_part_says_how_to_install_them_and_reports_nothing(tmp_path: Path) -> None:
    (report,) = PARTS["peers"].run(Options(quick=True, settings={"peers.folder": str(tmp_path)}))
    assert report.rows == []
    assert "python -m benchmarks.peers install" in report.notes[0]
    assert all(peer.name in report.notes[0] for peer in PEERS)


def test_an_unknown_peer_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"no peer 'sidekiq'; known peers: celery, celery-lean"):
        compare.chosen("saq,sidekiq")


def test_peers_choose_their_own_version_of_redis() -> None:
    assert not [one for one in own_requirements() if one.startswith("redis")]
    assert any(one.startswith("msgspec") for one in own_requirements())


def test_both_programs_of_celery_share_an_environment(tmp_path: Path) -> None:
    celery, lean, *others = (peer.place(tmp_path) for peer in PEERS)
    assert celery == lean == tmp_path / "celery"
    assert len({celery, *others}) == len(PEERS) - 1
