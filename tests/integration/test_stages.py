"""The stages of one message add up, on real servers, whatever the engine's parts look like inside."""

from __future__ import annotations

import pytest

from benchmarks.stages import measured
from benchmarks.stopwatch import STAGES


def test_every_stage_is_measured_and_they_add_up() -> None:
    rows = {row["stage"]: row for row in measured("mix", 120, 1)}
    assert [*rows] == [*STAGES, "sum"]
    for side in ("ours_us", "floor_us"):
        assert rows["sum"][side] == pytest.approx(sum(rows[stage][side] for stage in STAGES), abs=0.1)
    for stage in ("receive", "admit", "decode", "fold", "documents", "arguments"):
        assert rows[stage]["ours_us"] > 0
