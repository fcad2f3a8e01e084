"""Results as data: written, read back, and what is made of an exception from elsewhere."""

import dataclasses
import json
import sys
import traceback
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import enricher
from enricher.errors import BadMessage
from enricher.job_store import JobError
from enricher.jobs import (
    Cancel,
    JobCancelled,
    JobFailed,
    Retry,
    SoftTimeLimitExceeded,
    TimeLimitExceeded,
    results,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
MADE: list[str] = []


class Outer:
    class InnerError(Exception):
        pass


class Choosy(Exception):
    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")


class Impostor(Exception):
    def __new__(cls, *args: Any) -> Any:
        return "no exception at all" if args == ("odd",) else super().__new__(cls, *args)


class NoException:
    def __init__(self, text: str) -> None:
        MADE.append(text)


@dataclasses.dataclass
class Row:
    day: date


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def failed_with(kind: str, module: str | None, message: Any = "text") -> Any:
    said = {"exc_type": kind, "exc_message": message, "exc_module": module}
    data = json.dumps({"task_id": "an-id", "status": "FAILURE", "result": said, "traceback": "Traceback ..."})
    return results.value_of(results.read("an-id", data.encode()))


def test_a_success_has_the_shape_that_others_read() -> None:
    data = results.success("an-id", {"rows": 3}, children=["child"], now=NOW)
    assert json.loads(data) == {
        "task_id": "an-id",
        "status": "SUCCESS",
        "result": {"rows": 3},
        "traceback": None,
        "children": [[["child", None], None]],
        "date_done": "2026-01-02T03:04:05+00:00",
    }


def test_what_json_can_show_may_be_a_result() -> None:
    data = results.success("an-id", [Row(date(2026, 1, 2)), (1, 2), {3}, float("nan")])
    assert results.value_of(results.read("an-id", data)) == [{"day": "2026-01-02"}, [1, 2], [3], None]


@pytest.mark.parametrize("value", [object(), {"x": object()}, {(1, 2): 3}, "\ud800"])
def test_a_result_that_is_no_json_says_so(value: Any) -> None:
    with pytest.raises(BadMessage, match=r"\$\.result: expected a result that JSON knows"):
        results.success("an-id", value)


def test_nobody_knows_it_means_pending() -> None:
    outcome = results.read("an-id", None)
    assert (outcome.status, results.value_of(outcome)) == ("PENDING", None)


@pytest.mark.parametrize(
    "error", [ValueError("bad", 7), Outer.InnerError("inner"), KeyError("x"), OSError(2, "no")]
)
def test_an_exception_comes_back_as_what_it_was(error: Exception) -> None:
    outcome = results.read("an-id", results.failure("an-id", raised(error), now=NOW))
    again = results.value_of(outcome)
    assert (type(again), again.args) == (type(error), error.args)
    assert isinstance(again.__cause__, JobFailed)
    assert "in raised" in again.__cause__.traceback


def test_an_exception_that_is_data_already_keeps_its_text() -> None:
    said = JobError("ValueError", "bad", "builtins", "Traceback ...")
    again = results.value_of(results.read("an-id", results.failure("an-id", said)))
    assert (type(again), again.args) == (ValueError, ("bad",))


def test_arguments_that_json_does_not_know_come_back_as_text() -> None:
    data = results.failure("an-id", raised(ValueError(date(2026, 1, 2), {1}, "\ud800", b"\xff")))
    again = results.value_of(results.read("an-id", data))
    assert again.args[0] == "2026-01-02"
    assert all(isinstance(each, str) for each in again.args)


def test_nothing_is_imported_by_a_name_from_elsewhere(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "never_imported.py").write_text("class Hidden(Exception): ...")
    monkeypatch.syspath_prepend(tmp_path)
    error = failed_with("Hidden", "never_imported")
    assert isinstance(error, JobFailed)
    assert (error.type, error.module, error.message) == ("Hidden", "never_imported", "text")
    assert str(error) == "job an-id failed: never_imported.Hidden: text\n\nTraceback ..."
    assert "never_imported" not in sys.modules


@pytest.mark.parametrize(
    ("kind", "module"),
    [
        ("SystemExit", "builtins"),
        ("KeyboardInterrupt", "builtins"),
        ("eval", "builtins"),
        ("object", "builtins"),
        ("system", "os"),
        ("NoException", __name__),
        ("Choosy", __name__),
        ("Outer", __name__),
        ("Outer.__class__", __name__),
        ("raised.__globals__", __name__),
        ("sys.modules", __name__),
        ("ValueError", None),
        ("", ""),
    ],
)
def test_only_a_class_of_exceptions_is_made(kind: str, module: str | None) -> None:
    assert isinstance(failed_with(kind, module), JobFailed)
    assert not MADE


def test_a_class_that_makes_something_else_is_not_raised() -> None:
    assert isinstance(failed_with("Impostor", __name__, ["odd"]), JobFailed)
    assert isinstance(failed_with("Impostor", __name__, ["fine"]), Impostor)


def test_a_module_that_answers_to_every_name_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("obliging")
    module.__getattr__ = lambda name: MADE.append(name)  # type: ignore[method-assign]
    monkeypatch.setitem(sys.modules, "obliging", module)
    assert isinstance(failed_with("Anything", "obliging"), JobFailed)
    assert not MADE


@pytest.mark.parametrize("error", [Retry("not yet"), Cancel("not needed")])
def test_what_a_job_says_of_itself_is_not_said_of_who_waits_for_it(error: Exception) -> None:
    again = results.value_of(results.read("an-id", results.failure("an-id", raised(error))))
    assert isinstance(again, JobFailed)
    assert again.type == type(error).__name__


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (TimeLimitExceeded(1.5), "time limit of 1.5 s exceeded"),
        (SoftTimeLimitExceeded(60), "soft time limit of 60 s exceeded"),
        (SoftTimeLimitExceeded(), "soft time limit exceeded"),
    ],
)
def test_a_time_limit_comes_back_as_one(error: Exception, text: str) -> None:
    again = results.value_of(results.read("an-id", results.failure("an-id", raised(error))))
    assert (type(again), str(again), str(error)) == (type(error), text, text)
    assert isinstance(again, TimeoutError)


def test_a_retry_shows_the_exception_and_a_cancel_its_reason() -> None:
    again = results.read("an-id", results.retry("an-id", raised(ValueError("once more"))))
    assert (again.status, type(results.value_of(again))) == ("RETRY", ValueError)
    cancelled = results.value_of(results.read("an-id", results.revoked("an-id", "not needed")))
    assert isinstance(cancelled, JobCancelled)
    assert (cancelled.why, str(cancelled)) == ("not needed", "job an-id was cancelled: not needed")
    plain = results.value_of(results.read("an-id", results.revoked("an-id")))
    assert str(plain) == "job an-id was cancelled"


def test_what_is_no_result_is_named() -> None:
    with pytest.raises(BadMessage, match="celery-task-meta-an-id: expected a result of a job"):
        results.read("an-id", b"not json")


def test_an_exception_that_cannot_say_what_it_is_is_still_a_failure() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    error = results.job_error(raised(Mute()))
    assert (error.type.rpartition(".")[2], "cannot be had" in error.message) == ("Mute", True)
    assert isinstance(results.value_of(results.read("x", results.failure("x", raised(Mute())))), JobFailed)


def test_a_traceback_begins_where_the_code_of_the_job_does() -> None:
    ours = "def call(function):\n  try:\n    function()\n  except ValueError as error:\n    return error"
    names: dict[str, Any] = {}
    exec(compile(ours, f"{Path(enricher.__file__).parent}/jobs/runner.py", "exec"), names)

    def perform() -> None:
        raise ValueError("no")

    error = names["call"](perform)
    assert "runner.py" in "".join(traceback.format_exception(error))
    lines = results.job_error(error).traceback.splitlines()
    assert lines[1].endswith("in perform")
    assert lines[-1] == "ValueError: no"


def test_a_limit_has_no_traceback_but_that_of_the_job() -> None:
    def perform() -> None:
        raise KeyError("where it was")

    def of_ours(function: Any) -> BaseException:
        source = """
def call(function, limit):
    try:
        try:
            function()
        except Exception as error:
            raise OSError("between") from error
    except OSError as error:
        raise limit from error
"""
        names: dict[str, Any] = {}
        exec(compile(source, f"{Path(enricher.__file__).parent}/jobs/runner.py", "exec"), names)
        with pytest.raises(TimeLimitExceeded) as caught:
            names["call"](function, TimeLimitExceeded(2))
        return caught.value.with_traceback(caught.value.__traceback__.tb_next)  # type: ignore[union-attr]

    last = "enricher.jobs.errors.TimeLimitExceeded: time limit of 2 s exceeded"
    said = results.job_error(of_ours(perform)).traceback
    assert "in perform" in said
    assert "runner.py" not in said
    assert "between" not in said
    assert said.splitlines()[-1] == last
    assert results.job_error(of_ours(partial(json.loads, "?"))).traceback == last + "\n"


def test_a_job_that_asks_for_later_says_so() -> None:
    assert results.job_error(raised(Retry(in_seconds=3))).message == "it asks to be tried again"
    assert results.job_error(raised(Retry("no seat"))).message == "no seat"
