"""docs/folds.md: its example runs as it stands there, and the shipped one survives a kill."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from structlog.testing import capture_logs

from enricher import ConfigError, Enricher, load
from enricher.assembly import planned
from enricher.clock import event_us, to_date, wall_clock
from enricher.engine.effects import Insert, Upsert
from enricher.engine.ports import Delivery, Write
from enricher.market.folds import Fold, TickChange
from enricher.market.settings import MarketSettings
from enricher.market.state.market_state import MarketState
from enricher.market.state.product_state import ProductState
from enricher.market.state.restore import Restore
from enricher.market.system import system
from tests.integration.test_market_contract import MINUTE, tick
from tests.integration.worker import TICKS, WorkerProcess, encoded, worker_settings
from tests.memory import MemoryDocuments
from tests.pages import blocks, page
from tests.rig import PATIENCE, until
from tests.servers import Urls

HOUR, DAY = 60 * MINUTE, 1440 * MINUTE
PAGE = page("folds.md")
(EXAMPLE,) = blocks(PAGE)
SHIPPED = Path(importlib.import_module("enricher.market.folds.session").__file__ or "")


@pytest.fixture
def example(tmp_path: Path, urls: Urls, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    (tmp_path / "numbers_of_ours.py").write_text(EXAMPLE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "numbers_of_ours", raising=False)
    monkeypatch.setenv("REDIS_URL", urls.redis)
    monkeypatch.setenv("MONGO_URL", urls.mongo)
    return vars(importlib.import_module("numbers_of_ours"))


def test_the_shipped_example_is_short() -> None:
    assert len(SHIPPED.read_text(encoding="utf-8").splitlines()) < 40


def test_a_program_s_own_number_goes_on_counting_after_a_restart(
    example: dict[str, Any], redis_url: str
) -> None:
    with Redis.from_url(redis_url) as client:
        for runs in (1, 2, 3):
            asyncio.run(example["main"]())
            assert client.get("ticks:NIFTY") == b"%d" % runs


async def test_it_is_called_by_the_clock_when_it_is_due(example: dict[str, Any], urls: Urls) -> None:
    class Soon(example["TicksToday"]):  # type: ignore[misc]
        def fold_tick(self, tick: Any) -> None:
            super().fold_tick(tick)
            self.due_us = tick.received_us

    settings = worker_settings(*urls)
    with Redis.from_url(urls.redis) as client:
        quiet = client.pubsub()
        quiet.subscribe("quiet")
        async with Enricher(settings, systems=[system(folds=[Soon])]) as enricher:
            await asyncio.wait_for(enricher.wait_ready(), PATIENCE)
            await enricher.submit(TICKS, encoded(tick(100.0, wall_clock(), 1)), committed=True)
            heard: list[Any] = []

            def said() -> bool:
                message = quiet.get_message(ignore_subscribe_messages=True)
                heard.extend([] if message is None else [message["data"]])
                return heard == [b"NIFTY"]

            await until(said, "the product that fell quiet")


async def test_the_range_of_the_session_is_the_same_after_a_kill(urls: Urls) -> None:
    """High and low lie long before the longest window, so that only the ticks of the whole day tell them."""
    morning = wall_clock() - 3 * DAY
    morning -= morning % DAY - 5 * HOUR  # in India it is half past ten
    prices = [(0, 120.0), (1, 180.5), (2, 90.25), (60, 130.0), (61, 125.0)]
    messages = [(TICKS, encoded(tick(price, morning + at * MINUTE, at))) for at, price in prices]
    expected = {"product": "NIFTY", "session": to_date(morning).date().isoformat()}
    expected |= {"high": 180.5, "low": 90.25, "range": 90.25}
    async with WorkerProcess(*urls, {"ENRICHER_MARKET__FOLDS": "session"}) as worker:
        await worker.send(messages[:-1])
        await worker.settled()
        assert await session_of(worker) == expected
        await worker.kill()
        await worker.client.delete("latest:session:NIFTY")
        await worker.start()
        await worker.send(messages[-1:])
        await worker.settled()
        assert await session_of(worker) == expected
        tomorrow = encoded(tick(50, morning + DAY, "next"))
        await worker.send([(TICKS, tomorrow), messages[0]])
        await worker.settled()
        found = await session_of(worker)
        assert (found["high"], found["low"], found["range"]) == (50.0, 50.0, 0.0)


async def session_of(worker: WorkerProcess) -> dict[str, Any]:
    """What is cached of the session, once it is."""
    found: dict[str, Any] = {}

    async def look() -> None:
        while not found:
            found.update(json.loads(await worker.client.get("latest:session:NIFTY") or b"{}"))
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), PATIENCE)
    return found


@pytest.mark.parametrize(
    "name", ["sessions", "no.such.module:Fold", "json:dumps", "enricher.market.folds:Nothing"]
)
def test_a_fold_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"market\.folds = .*expected session, or module:Class"):
        planned(load(overrides={"market.folds": [name]}))


async def test_a_stored_message_that_a_fold_cannot_take_is_left_out_of_it_alone() -> None:
    class Odd(Fold):
        def __init__(self, product: Any) -> None:
            super().__init__(product)
            self.taken: list[float] = []

        def read_from(self, newest_us: int) -> int:
            return newest_us - 60 * MINUTE

        def fold_tick(self, tick: TickChange) -> None:
            if tick.price == 2:
                raise ValueError("an odd one")
            self.taken.append(tick.price)

    now_us, documents = wall_clock(), MemoryDocuments()
    rows = [(1.0, 40), (2.0, 39), (2.0, 1), (3.0, 0)]
    ticks = [tick(price, now_us - ago * MINUTE, ago) for price, ago in rows]
    for message in ticks:
        at = event_us(message["timestamp"])[0]
        document = {**message, "_id": f"{at}", "event_us": at, "timestamp": to_date(at)}
        await documents.commit([Write([Insert("underlying_ticks", document)])])
    settings = MarketSettings()
    restoring = Restore(partial(ProductState, settings=settings, own=[Odd]), "timestamp")
    state = (await restoring.load(documents, {"NIFTY": Delivery("", b"", now_us)}))["NIFTY"]
    assert state.own[0].taken == [1.0, 3.0]  # type: ignore[attr-defined]
    assert len(state.windows.ticks) == 2


def fails(*_: Any) -> Any:
    raise ValueError("a fold of ours")


@pytest.mark.parametrize(
    "methods",
    [
        {"show": fails},
        {"show": lambda fold, now_us: [5]},
        {"show": lambda fold, now_us: None},
        {"restored": fails},
        {"read_from": fails},
        {"on_time": fails},
        {"on_time": lambda fold, now_us: "an effect"},
    ],
)
async def test_a_fold_that_fails_takes_nothing_from_the_other_numbers(methods: dict[str, Any]) -> None:
    def fold_tick(fold: Fold, change: TickChange) -> None:
        fold.due_us = change.received_us

    made = type("Ours", (Fold,), {"fold_tick": fold_tick, **methods})
    now_us, documents = wall_clock(), MemoryDocuments()
    at = now_us - MINUTE
    stored = {**tick(7.0, at, 1), "_id": "1", "event_us": at, "timestamp": to_date(at)}
    await documents.commit([Write([Insert("underlying_ticks", stored)])])
    store = market_of(made)
    with capture_logs() as logs:
        state = (await store.restore(documents, {"NIFTY": Delivery("", b"", now_us)}))["NIFTY"]
        change = TickChange(now_us, 8.0, 2, None, 2, now_us, naive=False)
        assert store.fold(state, change) is None
        store.on_time(state, now_us)
        assert Upsert in map(type, store.show(state, now_us))  # the checkpoint, which comes after it
    assert len(state.windows.ticks) == 2
    failed = [(entry["fold"], entry["product"]) for entry in logs if entry["event"] == "fold_failed"]
    assert failed == [("Ours", "NIFTY")]
    assert store.due(state) != now_us or "on_time" not in methods


async def test_a_fold_may_ask_for_all_that_was_ever_stored() -> None:
    taken: list[float] = []
    methods = {"read_from": lambda *_: -(10**30), "fold_tick": lambda _, change: taken.append(change.price)}
    now_us, documents = wall_clock(), MemoryDocuments()
    for at, price in ((1, 5.0), (now_us - 400 * DAY, 6.0), (now_us - MINUTE, 7.0)):
        document = {**tick(price, at, at), "_id": f"{at}", "event_us": at, "timestamp": to_date(at)}
        await documents.commit([Write([Insert("underlying_ticks", document)])])
    store = market_of(type("Ours", (Fold,), methods))
    await store.restore(documents, {"NIFTY": Delivery("", b"", now_us)})
    assert taken == [5.0, 6.0, 7.0]


@pytest.mark.parametrize("answer", [5, ["late"], object()])
def test_a_fold_that_answers_a_message_with_no_word_is_an_error_of_its_message(answer: Any) -> None:
    store = market_of(type("Ours", (Fold,), {"fold_tick": lambda fold, change: answer}))
    now_us = wall_clock()
    with pytest.raises(TypeError, match="a fold answers a message with a word or None"):
        store.fold(store.new("NIFTY"), TickChange(now_us, 8.0, 1, None, 1, now_us, naive=False))


@pytest.mark.parametrize(
    "make", [5, "session", int, lambda product: None, type("Bare", (Fold,), {"__init__": lambda *_: None})]
)
def test_what_makes_no_fold_ends_the_start(make: Any) -> None:
    with pytest.raises(TypeError):
        planned(load(), {"systems": [system(folds=[make])]})


def test_a_fold_that_is_named_twice_is_there_once() -> None:
    (route, *_) = planned(load(overrides={"market.folds": ["session", "session"]}))[0].routes
    assert isinstance(route.state_store, MarketState)
    assert len(route.state_store.new("NIFTY").own) == 1


def market_of(make: Any) -> MarketState:
    """The state of the market with one fold of a program."""
    (route, *_) = planned(load(), {"systems": [system(folds=[make])]})[0].routes
    assert isinstance(route.state_store, MarketState)
    return route.state_store


def test_what_a_fold_does_not_override_is_not_called() -> None:
    class Nothing(Fold):
        pass

    settings = load(overrides={"market.folds": []})
    (route, *_) = planned(settings)[0].routes
    assert route.state_store is not None
    bare = route.state_store.new("N")  # type: ignore[attr-defined]
    own = type(bare)("N", bare.settings, own=[Nothing])
    assert [len(steps) for steps in own.steps.values()] == [len(steps) for steps in bare.steps.values()]
    assert (len(own.shown), len(own.timed)) == (len(bare.shown), len(bare.timed))
