"""The part of the benchmarks that sends events: what it counts, and what it compares."""

from __future__ import annotations

from pathlib import Path

from benchmarks.events import compare
from benchmarks.events.catalogue import FASTAPI
from benchmarks.events.contest import Flood
from benchmarks.parts import PARTS, Options
from tests.pages import ROOT


def test_theirs_is_a_multiple_of_ours() -> None:
    mine, its = [Flood(100, 200, 50, 10), Flood(300, 200, 50, 10)], [Flood(1000, 400, 5, 20)]
    rows = {row["what"]: row["times"] for row in compare.compared(mine, its)}
    assert rows["us of CPU to accept"] == 5.0
    assert rows["us of CPU to process"] == 2.0
    assert rows["us of CPU of both"] == 3.5
    assert rows["accepted a second"] == 0.1


def test_without_the_peer_ours_is_measured_alone(tmp_path: Path) -> None:
    given = {"events.folder": str(tmp_path)}
    flooded, timed, idle = PARTS["events"].run(Options(quick=True, rounds=1, settings=given))
    assert "python -m benchmarks.peers install" in flooded.notes[0]
    assert all(row["ours"] > 0 and row["theirs"] is None for row in flooded.rows)
    assert [row["who"] for row in timed.rows] == ["insert and XADD", "enricher"]
    assert all(row["count"] == compare.QUICK.timed for row in timed.rows)
    assert idle.rows[1]["with"] > 0


def test_the_peer_has_an_environment_of_its_own_with_exact_versions() -> None:
    assert all("==" in wanted for wanted in FASTAPI.requirements)
    for command in FASTAPI.commands:
        (program,) = (word for word in command if word.startswith("benchmarks."))
        assert (ROOT / (program.replace(".", "/") + ".py")).exists()
