"""The guard counts what the engine does per message; it must be steady, pass today, and be able to fail."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import guard
from benchmarks.guard import Case, Limits, broken_laws, judge, libraries, measure, python_version
from benchmarks.state import kept
from benchmarks.walk import changes, walk
from enricher.engine.effects import Effect, SetKey
from enricher.engine.router import Route

LONE_TICKS = Case("ticks", 20, "trickle")


def test_the_engine_does_no_more_per_message_than_the_committed_limits_allow() -> None:
    # In a process of its own: what other tests do to this one (logging at debug) would be counted, too.
    command = [sys.executable, "-m", "benchmarks", "guard"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert told.returncode == 0, told.stdout + told.stderr


def test_each_message_is_decoded_handled_folded_and_stored_once_and_a_turn_settles_once() -> None:
    assert broken_laws() == []


def test_two_runs_count_the_same() -> None:
    first, second = measure(LONE_TICKS), measure(LONE_TICKS)
    assert first == pytest.approx(second, rel=0.01)


def test_a_handler_that_does_more_than_it_did_is_found() -> None:
    def busier(routes: list[Route]) -> list[Route]:
        def wrapped(route: Route) -> Route:
            def handler(state: Any, event: Any, context: Any) -> Any:
                for _ in range(30):
                    event.document_id(context.body)
                return route.handler(state, event, context)

            return replace(route, handler=handler)

        return [wrapped(route) for route in routes]

    before = measure(LONE_TICKS)
    now = measure(LONE_TICKS, busier)
    limits = Limits(libraries(), {LONE_TICKS.name: before})
    assert judge({LONE_TICKS.name: before}, limits).over == ()
    over = judge({LONE_TICKS.name: now}, limits).over
    assert any("our calls" in sentence for sentence in over)
    assert any("steps" in sentence for sentence in over)
    assert not any("turns" in sentence for sentence in over)


def test_a_state_that_says_its_windows_twice_a_turn_is_found() -> None:
    def talkative(routes: list[Route]) -> list[Route]:
        state_store: Any = routes[0].state_store
        settle = state_store.show

        def twice(state: Any, now_us: int) -> Sequence[Effect]:
            effects = settle(state, now_us)
            return [*effects, *(e for e in effects if isinstance(e, SetKey) and e.key.startswith("ohlc:"))]

        state_store.show = twice
        return routes

    broken = broken_laws(talkative)
    assert [sentence.partition(":")[0] for sentence in broken] == ["ohlc"]


def test_with_a_python_nobody_counted_with_nothing_is_judged_and_it_says_so() -> None:
    verdict = judge({LONE_TICKS.name: {"our calls": 1e9}}, None)
    assert verdict.over == ()
    assert python_version() in verdict.remarks[0]


def test_with_other_libraries_only_our_own_work_is_judged() -> None:
    limits = Limits({**libraries(), "anyio": "0.1"}, {"a": {"calls": 100.0, "our calls": 50.0}})
    verdict = judge({"a": {"calls": 200.0, "our calls": 100.0}}, limits)
    assert len(verdict.over) == 1
    assert "our calls" in verdict.over[0]
    assert "anyio" in verdict.remarks[0]


def test_writing_the_limits_keeps_those_of_other_versions(tmp_path: Path) -> None:
    path = tmp_path / "guard.json"
    path.write_text('{"2.7": {"libraries": {"anyio": "1"}, "cases": {"a": {"steps": 1.5}}}}')
    guard.write_limits({"b": {"steps": 2.5}}, path)
    assert guard.read_limits(path) == {
        "2.7": Limits({"anyio": "1"}, {"a": {"steps": 1.5}}),
        python_version(): Limits(libraries(), {"b": {"steps": 2.5}}),
    }


def test_the_way_of_a_tick_is_the_same_each_time_and_counts_changes_of_file() -> None:
    assert changes(["a", "a", "b", "a"]) == 2
    way = walk("ticks")
    assert walk("ticks") == walk("ticks")  # the first has filled caches
    assert way[0] == "engine/ports.py"  # a delivery is made
    assert {"engine/pool.py", "market/routes.py"} <= set(way)


def test_the_state_of_a_product_takes_no_more_memory_than_it_is_said_to() -> None:
    total, files = kept(products=40, each=4)
    assert files["market/state/product_state.py"] < sum(files.values()) < total < 20_000
