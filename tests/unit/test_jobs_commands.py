"""Which jobs filters mean, and how jobs look in words."""

from __future__ import annotations

import json

import pytest

from enricher.job_store import JobError, JobRecord
from enricher.jobs.checks import queue_warnings
from enricher.jobs.cli.tables import sheet
from enricher.jobs.cli.texts import as_json, clock, details, progress, short, short_id
from enricher.jobs.definition import define
from enricher.jobs.results import Outcome, children
from enricher.jobs.selection import EVERY, JobFilter, arguments, moment, parse_value
from enricher.jobs.worker import Worker

NOW = 1_800_000_000_000
JOB = JobRecord(
    id="3f2a9c71-0000",
    task="app.jobs.ImportWorker",
    queue="low",
    state="failed",
    payload=b'[[7,"x"],{"since":"2026-01-01"}]',
    attempt=3,
    enqueued_ms=NOW - 60_000,
    started_ms=NOW - 5000,
    finished_ms=NOW - 4000,
    error=JobError("Timeout", "no answer from redis://:secret@host", traceback="Traceback ..."),
    steps={"charge": b'"paid"'},
)


@pytest.mark.parametrize(
    ("wanted", "means"),
    [
        (EVERY, True),
        (JobFilter(states=("failed", "waiting")), True),
        (JobFilter(states=("waiting",)), False),
        (JobFilter(queues=("low",)), True),
        (JobFilter(queues=("default",)), False),
        (JobFilter(cls="ImportWorker"), True),
        (JobFilter(cls="app.jobs.ImportWorker"), True),
        (JobFilter(cls="Import*"), True),
        (JobFilter(cls="jobs.ImportWorker"), False),
        (JobFilter(args='7,"X"'), True),
        (JobFilter(args='since="2026'), True),
        (JobFilter(args="2027"), False),
        (JobFilter(error="timeout: NO ANSWER"), True),
        (JobFilter(error="refused"), False),
        (JobFilter(since_ms=NOW - 4000, until_ms=NOW - 4000), True),
        (JobFilter(since_ms=NOW - 3999), False),
        (JobFilter(until_ms=NOW - 4001), False),
    ],
)
def test_a_filter_means_what_all_its_parts_mean(wanted: JobFilter, means: bool) -> None:
    assert wanted.matches(JOB) is means


def test_the_time_that_counts_is_that_of_the_state() -> None:
    def at(state: str) -> int:
        return moment(JobRecord(**{**_fields(JOB), "state": state, "due_ms": NOW + 1}))

    assert [at(state) for state in ("running", "scheduled", "waiting", "failed")] == [
        NOW - 5000,
        NOW + 1,
        NOW - 60_000,
        NOW - 4000,
    ]


def _fields(job: JobRecord) -> dict[str, object]:
    return {name: getattr(job, name) for name in job.__struct_fields__}


@pytest.mark.parametrize(
    ("text", "value"), [("7", 7), ('"7"', "7"), ("csv", "csv"), ("[1]", [1]), ("null", None), ("1,5", "1,5")]
)
def test_a_value_on_the_command_line_is_json_or_text(text: str, value: object) -> None:
    assert parse_value(text) == value


def test_arguments_look_as_in_a_call() -> None:
    assert arguments(JOB.payload) == '7, "x", since="2026-01-01"'
    assert arguments(b"[[],{}]") == ""
    assert arguments(b"\xff not json") == "\ufffd not json"


@pytest.mark.parametrize(
    ("ms", "text"),
    [(-5, "0 ms"), (250, "250 ms"), (1500, "1.5 s"), (59_000, "59 s"), (119_000, "119 s"), (120_000, "2 min")]
    + [(7_200_000, "2 h"), (172_800_000, "2 d")],
)
def test_a_while_in_few_letters(ms: int, text: str) -> None:
    assert short(ms) == text


def test_a_moment_of_another_day_has_its_date() -> None:
    assert clock(0, NOW) == ""
    assert len(clock(NOW, NOW)) == len("12:00:00")
    assert clock(NOW - 86_400_000, NOW)[:3].isalpha()
    assert clock(NOW - 400 * 86_400_000, NOW)[:4].isdecimal()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", ""),
        (b'{"done":30,"total":100,"note":"loading"}', "30/100 loading"),
        (b'{"done":3}', "3"),
        (b'{"note":"x\\u001b[2J"}', "x\\x1b[2J"),
        (b"[1,2]", "[1,2]"),
        (b"\xff", "\ufffd"),
    ],
)
def test_progress_is_shown_whatever_it_is(data: bytes, text: str) -> None:
    assert progress(data) == text


def test_a_page_about_a_job_has_all_of_it_and_no_password() -> None:
    text = "\n".join(details(JOB, None, NOW))
    for part in ("took        1.0 s", "attempts    3", "Traceback ...", "charge", '"paid"', "4.0 s ago"):
        assert part in text
    assert "secret" not in text + as_json(JOB)
    done = JobRecord(**{**_fields(JOB), "state": "succeeded", "error": None})
    assert "no longer kept" in "\n".join(details(done, None, NOW))
    outcome = Outcome(task_id=JOB.id, status="SUCCESS", result={"n": 1}, children=[[["child", None], None]])
    text = "\n".join(details(done, outcome, NOW))
    assert '{"n":1}' in text
    assert "children    child" in text


def test_a_cancelled_job_is_no_longer_being_cancelled() -> None:
    why = JobError("JobCancelled", "no such bank")
    cancelled = JobRecord(**{**_fields(JOB), "state": "cancelled", "cancelling": True, "error": why})
    text = "\n".join(details(cancelled, None, NOW))
    assert "being cancelled" not in text
    assert text.endswith("cancelled: no such bank")


def test_an_error_without_a_traceback_is_said_once() -> None:
    limit = JobError("TimeLimitExceeded", "limit of 1 s exceeded", "jobs", "limit of 1 s exceeded\n")
    text = "\n".join(details(JobRecord(**{**_fields(JOB), "error": limit}), None, NOW))
    assert text.count("limit of 1 s exceeded") == 1


def test_an_id_of_somebody_s_own_is_shown_whole() -> None:
    assert short_id("6b7a4121-6b9e-4a50-8533-e51db0bd3975") == "6b7a4121"
    assert short_id("receipt-6") == "receipt-6"


def test_json_of_a_job_has_plain_values() -> None:
    row = json.loads(as_json(JOB, more=1))
    assert (row["args"], row["kwargs"], row["more"]) == ([7, "x"], {"since": "2026-01-01"}, 1)
    assert row["finished_at"] == "2027-01-15T07:59:56.000+00:00"
    assert (row["due_at"], row["worker"], row["progress"]) == (None, None, None)
    assert json.loads(as_json(JobRecord(**{**_fields(JOB), "payload": b"?"})))["args"] is None


def test_children_are_read_as_celery_writes_them_too() -> None:
    deep = [["b", None], [[["c", None], None]]]
    outcome = Outcome(task_id="a", children=[deep, "d", [["e", "a"], None], 7])
    assert children(outcome) == ["b", "d", "e"]
    assert children(None) == children(Outcome(task_id="a", children=None)) == []


def test_a_table_leaves_out_what_no_job_has() -> None:
    assert sheet("failed", [JOB], NOW, 80, "failed").columns[-3:] == ("ended", "tries", "error")
    bare = JobRecord(**{**_fields(JOB), "error": None})
    assert "error" not in sheet("failed", [bare], NOW, 80, "failed").columns


def test_a_queue_that_classes_name_and_nobody_serves_is_named_once() -> None:
    def worker(name: str, queue: str) -> type[Worker]:
        return type(name, (Worker,), {"queue": queue, "perform": classmethod(lambda cls: None), "name": name})

    definitions = [define(worker("a", "lwo")), define(worker("b", "lwo")), define(worker("c", "low"))]
    (text,) = queue_warnings(definitions, ["default", "low"])
    assert text.startswith("nobody serves queue 'lwo', to which jobs of a, b go; ")
    assert text.endswith("expected one of default, low (did you mean 'low'?)")
