"""From a call to a request: when it is due, what makes it unique, what it is limited by."""

import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest

from enricher.errors import ConfigError
from enricher.job_store import Limit, Request, Unique
from enricher.jobs import BadArguments, Worker
from enricher.jobs.requests import Options, moment_ms, request, request_by_name
from enricher.jobs.worker import definition_of


class ImportWorker(Worker):
    queue = "low"

    @classmethod
    def perform(cls, user_id: int, data: Any = None) -> None: ...


def asked(worker: type[Worker], *args: Any, **kwargs: Any) -> Request:
    return request(definition_of(worker), args, kwargs)


def like(**attributes: Any) -> type[Worker]:
    return type("Like", (ImportWorker,), attributes)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine whose clock is set back and forth."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def ms(text: str) -> int:
    return round(datetime.fromisoformat(text).timestamp() * 1000)


def naive(text: str, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(fold=fold)


def test_a_call_is_a_request() -> None:
    made = asked(ImportWorker, 7, data={"x": 1})
    assert (made.task, made.queue) == (f"{__name__}.ImportWorker", "low")
    assert made.payload == b'[[7],{"data":{"x":1}}]'
    assert (made.at_ms, made.delay_ms, made.unique, made.limits) == (None, 0, None, ())
    assert made.id != asked(ImportWorker, 7).id


def test_options_belong_to_the_enqueueing() -> None:
    def with_options(**options: Any) -> Request:
        return request(definition_of(ImportWorker), (7,), {}, Options(**options))

    assert with_options(queue="critical", id="my-id").queue == "critical"
    assert with_options(id="my-id").id == "my-id"
    assert with_options(delay=1.5).delay_ms == 1500
    assert with_options(delay=timedelta(minutes=1)).delay_ms == 60_000
    assert with_options(delay=-5).delay_ms == 0
    assert with_options(at=datetime(2026, 7, 1, tzinfo=UTC)).at_ms == ms("2026-07-01T00:00Z")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"delay": "5"}, "delay = '5': expected a number of seconds, or a timedelta"),
        ({"delay": float("nan")}, "delay = nan: expected a number of seconds"),
        ({"delay": 1e20}, "delay = 1e.20: expected a number of seconds"),
        ({"at": "tomorrow"}, "at = 'tomorrow': expected a datetime"),
        ({"at": date(2026, 1, 1)}, "expected a datetime"),
        ({"at": datetime(2026, 1, 1, tzinfo=UTC), "delay": 5}, "expected a time without a delay"),
        ({"id": ""}, "id = '': expected ASCII text without blanks"),
        ({"id": "two words"}, "id = 'two words': expected ASCII text"),
        ({"queue": "a:b"}, "queue = 'a:b': expected the name of a queue"),
        ({"unique": -1}, "unique = -1: expected 'until_started'"),
    ],
)
def test_a_wrong_option_is_named_with_what_would_be_right(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Options(**options)


def test_a_naive_time_is_local(berlin: None) -> None:
    assert moment_ms(naive("2026-07-01T12:00")) == ms("2026-07-01T10:00Z")
    assert moment_ms(naive("2026-01-01T12:00")) == ms("2026-01-01T11:00Z")
    elsewhere = timezone(timedelta(hours=5, minutes=30))
    assert moment_ms(datetime(2026, 7, 1, 12, tzinfo=elsewhere)) == ms("2026-07-01T06:30Z")


def test_a_local_time_that_no_clock_shows_is_refused(berlin: None) -> None:
    with pytest.raises(ConfigError) as caught:
        moment_ms(naive("2026-03-29T02:30"))
    assert str(caught.value) == (
        "perform_at: when = '2026-03-29 02:30:00': expected a time that local clocks show, such as 03:30: "
        "they are set forward past this"
    )
    assert moment_ms(naive("2026-03-29T03:00")) == ms("2026-03-29T01:00Z")
    assert moment_ms(naive("2026-03-29T01:59")) == ms("2026-03-29T00:59Z")


def test_of_an_hour_that_comes_twice_fold_says_which(berlin: None) -> None:
    assert moment_ms(naive("2026-10-25T02:30")) == ms("2026-10-25T00:30Z")
    assert moment_ms(naive("2026-10-25T02:30", fold=1)) == ms("2026-10-25T01:30Z")


def test_unique_jobs_of_one_class_and_arguments_have_one_key() -> None:
    class Once(ImportWorker):
        unique = "until_finished"

    first = asked(Once, 7, data={"a": 1, "b": 2}).unique
    assert first is not None
    assert first.until == "finished"
    assert first == asked(Once, user_id=7, data={"b": 2, "a": 1}).unique
    assert asked(Once, 7).unique == asked(Once, 7, None).unique
    assert first != asked(Once, 8, data={"a": 1, "b": 2}).unique
    assert first != asked(like(unique=True), 7, data={"a": 1, "b": 2}).unique


def test_it_may_be_unique_by_some_of_its_arguments() -> None:
    by_user = like(unique="until_started", unique_args=("user_id",))
    assert asked(by_user, 7, data=1).unique == asked(by_user, 7, data=2).unique
    assert asked(by_user, 7).unique != asked(by_user, 8).unique


def test_it_may_be_unique_for_a_time_and_options_win() -> None:
    for_a_while = like(unique=1.5)
    made = asked(for_a_while, 7).unique
    assert isinstance(made, Unique)
    assert (made.until, made.ttl_ms) == ("time", 1500)
    definition = definition_of(for_a_while)
    assert request(definition, (7,), {}, Options(unique=False)).unique is None
    again = request(definition, (7,), {}, Options(unique="until_started")).unique
    assert again is not None
    assert (again.until, again.key) == ("started", made.key)


def test_limits_hold_for_a_class_or_for_each_value_of_an_argument() -> None:
    limited = like(max_concurrency=2, rate="100/m")
    task = definition_of(limited).task
    assert asked(limited, 7).limits == (Limit(task, most=2, rate=100, per_ms=60_000),)
    by_user = like(max_concurrency=1, limit_key="user_id")
    assert asked(by_user, 7).limits == (Limit(f"{task}:7", most=1),)
    by_data = like(rate="1/s", limit_key="data")
    keys = {asked(by_data, 7, data=data).limits[0].key for data in ({"a": 1}, {"a": 2}, "x" * 100, None)}
    assert len(keys) == 4
    assert all(len(key) < len(task) + 70 and key.isprintable() for key in keys)


def test_by_its_name_anything_can_be_enqueued() -> None:
    made = request_by_name("other.Program", (1,), {"x": [2]}, Options(queue="low", delay=1))
    assert (made.task, made.queue, made.delay_ms) == ("other.Program", "low", 1000)
    assert made.payload == b'[[1],{"x":[2]}]'
    with pytest.raises(ConfigError, match="unique = 'until_started': expected None"):
        request_by_name("other.Program", (), {}, Options(unique="until_started"))
    with pytest.raises(BadArguments, match=r"\$\.kwargs\.x"):
        request_by_name("other.Program", (), {"x": object()})
    for name in ("", "other Program", None):
        with pytest.raises(ConfigError, match="the name of a task"):
            request_by_name(name, (), {})  # type: ignore[arg-type]
