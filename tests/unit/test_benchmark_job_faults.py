"""The accounts of jobs under faults: whatever is missing or there too often is found."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.jobs.faults import Line, judged

NAMED = ("lost", "at_once", "twice", "steps_again")
# One job that ran in process 1 from 10 to 20, and its child.
ONCE = [
    Line("begin", "a", 1, 10, 1),
    Line("step", "a", 1, 11, 1),
    Line("stored", "a", 1, 12, 1),
    Line("end", "a", 1, 20, 1),
    Line("child", "c", 1, 30, 1),
]


def found(lines: list[Line], state: str = "succeeded", cuts: Any = ()) -> dict[str, int]:
    row = judged({"a": 1}, {"a": state}, lines, cuts)
    return {name: row[name] for name in NAMED if row[name]}


def test_a_job_that_ran_once_and_has_one_child_breaks_nothing() -> None:
    assert found(ONCE) == {}
    assert judged({"a": 1}, {"a": "succeeded"}, ONCE, ())["runs"] == 1


@pytest.mark.parametrize(
    ("more", "broken"),
    [
        ([Line("begin", "a", 2, 15, 1), Line("end", "a", 2, 16, 1)], {"at_once": 1}),
        ([Line("begin", "a", 2, 21, 1), Line("end", "a", 2, 22, 1)], {}),
        ([Line("step", "a", 2, 22, 1)], {"steps_again": 1}),
        ([Line("child", "d", 2, 30, 1)], {"twice": 1}),
        ([Line("child", "c", 2, 40, 1)], {}),
    ],
)
def test_what_is_there_too_often_is_counted(more: list[Line], broken: dict[str, int]) -> None:
    assert found([*ONCE, *more]) == broken


def test_a_run_whose_process_was_cut_goes_on_no_more() -> None:
    cut_off = [Line("begin", "a", 1, 10, 1), Line("begin", "a", 2, 50, 1), *ONCE[3:]]
    cut_off = [line._replace(pid=2, us=line.us + 50) if line.word == "end" else line for line in cut_off]
    assert found(cut_off) == {"at_once": 1}
    assert found(cut_off, cuts=[(1, 15)]) == {}


def test_a_job_without_success_or_child_is_lost() -> None:
    assert found(ONCE, state="running") == {"lost": 1}
    assert found(ONCE[:-1]) == {"lost": 1}
    assert judged({"a": 1, "b": 2}, {"a": "succeeded"}, ONCE, ())["lost"] == 1
