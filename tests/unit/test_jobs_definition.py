"""What a class of jobs says about itself: read, checked, and what a mistake is answered with."""

import functools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from enricher.errors import ConfigError
from enricher.jobs import Worker
from enricher.jobs.attributes import Rate
from enricher.jobs.definition import define, retry_delay
from enricher.jobs.worker import definition_of


class AsInTheOldBase(Worker):
    queue = "critical"
    max_retries = 5
    retry_backoff = True
    retry_backoff_max = 60
    cron_schedule = "0 2 * * *"

    @classmethod
    def perform(cls, *args: Any, **kwargs: Any) -> None: ...


def with_attributes(**attributes: Any) -> type[Worker]:
    def perform(cls: type, user_id: int = 0, data: Any = None) -> None: ...

    return type("Example", (Worker,), {"perform": classmethod(perform), **attributes})


def test_a_class_says_what_it_is() -> None:
    definition = define(AsInTheOldBase)
    assert definition.task == f"{__name__}.AsInTheOldBase"
    assert (definition.queue, definition.max_retries, definition.retry_backoff_max) == ("critical", 5, 60)
    assert (definition.kind, definition.cron_schedule, definition.scheduled) == ("sync", "0 2 * * *", True)


def test_what_it_does_not_say_is_as_documented() -> None:
    definition = define(with_attributes())
    assert (definition.queue, definition.max_retries, definition.retry_backoff) == ("default", 3, True)
    assert (definition.retry_backoff_max, definition.retry_delay, definition.scheduled) == (600, 180, False)
    assert (definition.retry_on, definition.discard_on, definition.isolation) == ((Exception,), (), "thread")


def test_perform_may_be_a_static_method_and_async() -> None:
    class Static(Worker):
        @staticmethod
        async def perform(user_id: int) -> None: ...

    definition = define(Static)
    assert definition.kind == "async"
    assert list(definition.signature.parameters) == ["user_id"]


def test_a_decorated_perform_keeps_its_arguments() -> None:
    def logged(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            return function(*args, **kwargs)

        return wrapper

    class Decorated(Worker):
        @classmethod
        @logged
        def perform(cls, user_id: int) -> None: ...

    assert list(define(Decorated).signature.parameters) == ["user_id"]


def test_a_plain_method_is_told_what_is_wrong() -> None:
    class Plain(Worker):
        def perform(self, user_id: int) -> None: ...

    with pytest.raises(ConfigError, match=r"Plain: perform = .*put @classmethod above it"):
        define(Plain)


def test_a_name_is_the_class_s_own_and_not_inherited() -> None:
    class Named(Worker):
        name = "import"

        @classmethod
        def perform(cls) -> None: ...

    class Derived(Named):
        pass

    assert define(Named).task == "import"
    assert define(Derived).task.endswith("Derived")


def test_a_class_of_the_program_itself_is_called_as_others_import_it(tmp_path: Path) -> None:
    (tmp_path / "shop").mkdir()
    program = tmp_path / "shop" / "orders.py"
    program.write_text("""
from enricher.jobs import Worker
from enricher.jobs.definition import define

class OrderWorker(Worker):
    @classmethod
    def perform(cls): ...

print(define(OrderWorker).task)
""")

    def said(*arguments: str) -> str:
        run = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
        )
        return run.stdout.strip()

    assert said("-m", "shop.orders") == "shop.orders.OrderWorker"
    assert said(str(program)) == "orders.OrderWorker"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"perform": None}, "perform = None: expected a class method"),
        ({"queue": ""}, "queue = '': expected the name of a queue"),
        ({"queue": "a b"}, "queue = 'a b': expected the name of a queue"),
        ({"max_retries": "3"}, "max_retries = '3': expected a whole number, 0 or more"),
        ({"max_retries": True}, "max_retries = True: expected a whole number"),
        ({"max_retries": -1}, "max_retries = -1: expected a whole number"),
        ({"retry_backoff": "yes"}, "retry_backoff = 'yes': expected True"),
        ({"retry_backoff_max": float("nan")}, "retry_backoff_max = nan: expected a number of seconds"),
        ({"retry_delay": -5}, "retry_delay = -5: expected a number of seconds"),
        ({"retry_on": "ValueError"}, "retry_on = 'ValueError': expected an exception class"),
        ({"time_limit": 0}, "time_limit = 0: expected a number of seconds above 0"),
        ({"time_limit": 5, "soft_time_limit": 5}, "soft_time_limit = 5: expected less than time_limit"),
        ({"result_ttl": 0}, "result_ttl = 0: expected a whole number of seconds"),
        ({"isolation": "fork"}, "isolation = 'fork': expected 'thread' or 'process'"),
        ({"max_memory": 1000}, "max_memory = 1000: expected None, or isolation = 'process'"),
        ({"cron_schedule": "* * * * *", "every": 5}, "every = 5: expected None, or no cron_schedule"),
        ({"every": 0.01}, "every = 0.01: expected 0.1 s or more"),
        ({"cron_args": "x"}, "cron_args = 'x': expected a mapping"),
        ({"unique": "for ever"}, "unique = 'for ever': expected 'until_started', 'until_finished'"),
        ({"unique_args": ("nobody",)}, "unique_args = .*: expected names of perform's arguments"),
        ({"rate": "100"}, "rate = '100': expected starts per time, such as '10/s'"),
        ({"max_concurrency": 0}, "max_concurrency = 0: expected a whole number, 1 or more"),
        ({"limit_key": "nobody"}, "limit_key = 'nobody': expected the name of an argument of perform"),
        ({"name": "two words"}, "name = 'two words': expected text without blanks"),
    ],
)
def test_a_wrong_attribute_is_named_with_what_would_be_right(attributes: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        define(with_attributes(**attributes))
    assert caught.value.source.endswith("Example")


def test_an_async_perform_has_no_process() -> None:
    class Async(Worker):
        isolation = "process"

        @classmethod
        async def perform(cls) -> None: ...

    with pytest.raises(ConfigError, match="isolation = 'process': expected 'thread'"):
        define(Async)


@pytest.mark.parametrize("text", ["* * * *", "0 0 2 * * *", "61 * * * *", "daily", "", "0 2 * * * 2026", 5])
def test_a_wrong_cron_leaves_the_class_unscheduled_and_says_why(text: Any) -> None:
    definition = define(with_attributes(cron_schedule=text))
    assert not definition.scheduled
    assert definition.schedule_error.startswith(f"Example: cron_schedule = {text!r}: ")
    assert ("Expected format: 'minute hour day month day_of_week'") in definition.schedule_error


def test_a_zone_that_nobody_knows_leaves_the_class_unscheduled() -> None:
    definition = define(with_attributes(cron_schedule="0 2 * * *", cron_timezone="Mars/Olympus"))
    assert not definition.scheduled
    assert "cron_timezone = 'Mars/Olympus'" in definition.schedule_error


def test_a_schedule_needs_the_arguments_that_perform_needs() -> None:
    class Needs(Worker):
        cron_schedule = "0 2 * * *"

        @classmethod
        def perform(cls, user_id: int) -> None: ...

    class Gives(Needs):
        cron_args = {"user_id": 7}

    lacking, given = define(Needs), define(Gives)
    assert not lacking.scheduled
    assert not lacking.schedule_error
    assert "Needs is not scheduled" in lacking.schedule_warning
    assert "'user_id'" in lacking.schedule_warning
    assert given.scheduled
    assert given.cron_args == ((), {"user_id": 7})


def test_delays_of_retries_double_up_to_their_bound() -> None:
    definition = define(AsInTheOldBase)
    assert [retry_delay(definition, attempt, draw=0.5) for attempt in (1, 2, 3, 4)] == [0.5, 1, 2, 4]
    assert retry_delay(definition, 1000, draw=0.5) == 30
    assert retry_delay(definition, 3, draw=0.0) == 0


def test_without_backoff_the_delay_is_fixed() -> None:
    assert retry_delay(define(with_attributes(retry_backoff=False)), 4, draw=0.1) == 180
    assert retry_delay(define(with_attributes(retry_backoff=False, retry_delay=7)), 4, draw=0.1) == 7
    assert retry_delay(define(with_attributes(retry_backoff=10)), 2, draw=0.5) == 10


@pytest.mark.parametrize(
    ("text", "rate"), [("100/m", Rate(100, 60_000)), ("5/10s", Rate(5, 10_000)), ("1/d", Rate(1, 86_400_000))]
)
def test_a_rate_is_starts_per_time(text: str, rate: Rate) -> None:
    assert define(with_attributes(rate=text)).rate == rate


def test_a_class_is_read_once_and_each_of_a_family_for_itself() -> None:
    class Base(Worker):
        @classmethod
        def perform(cls) -> None: ...

    class Derived(Base):
        queue = "low"

    assert definition_of(Base) is definition_of(Base)
    assert definition_of(Derived).queue == "low"
    assert definition_of(Base).queue == "default"
