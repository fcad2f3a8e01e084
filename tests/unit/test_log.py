"""The project's own log: where its lines go, which are held back, and that none is a reason to fail."""

from __future__ import annotations

import asyncio
import io
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

import enricher
from enricher.log import Limiter, Line, Log


def line(number: int = 0, topic: str = "t", event: str = "dead_letter") -> Line:
    return (logging.WARNING, event, {"topic": topic, "number": number})


# -- which lines are written -------------------------------------------------------------------------


def test_of_a_kind_the_first_few_lines_are_written_then_one_a_minute_with_the_number_held_back() -> None:
    limiter = Limiter(first=5, every=60.0)
    answers = [limiter.admit(line(n), now=n * 0.1) for n in range(1500)]
    # 150 seconds: five at once, then one at 60.4 (a minute after the fifth) and one at 120.4.
    assert answers[:5] == [0] * 5
    assert [(n, held) for n, held in enumerate(answers) if held] == [(604, 599), (1204, 599)]
    ((newest, held, at),) = limiter.overdue(200.0)
    assert (newest[2]["number"], held, at) == (1499, 294, pytest.approx(149.9))
    written = sum(answer is not None for answer in answers) + 1
    assert written + 599 + 599 + held == 1500


def test_what_was_held_back_is_due_a_minute_after_the_last_line() -> None:
    limiter = Limiter(first=1, every=60.0)
    for n in range(3):
        limiter.admit(line(n), now=0.0)
    assert limiter.overdue(59.9) == []
    assert limiter.overdue(60.0) == [(line(2), 1, 0.0)]
    assert limiter.overdue(1000.0) == []


def test_a_kind_begins_anew_after_a_minute_without_a_line() -> None:
    limiter = Limiter(first=2, every=60.0)
    assert [limiter.admit(line(), now) for now in (0, 0, 60.0, 60.0, 60.0)] == [0, 0, 0, 0, None]


def test_topics_and_events_are_kinds_of_their_own() -> None:
    limiter = Limiter(first=1)
    kinds = [line(), line(topic="u"), line(event="slow_handler")]
    assert [limiter.admit(kind, 0.0) for kind in kinds * 2] == [0, 0, 0, None, None, None]


def test_the_table_of_kinds_is_bounded_and_what_is_beyond_it_is_one_kind() -> None:
    limiter = Limiter(first=2, most=10)
    answers = [limiter.admit(line(topic=f"t{n}"), 0.0) for n in range(10_000)]
    assert answers[:12] == [0] * 12
    assert set(answers[12:]) == {None}
    assert len(limiter.overdue(60.0)) == 1
    assert limiter.overdue(120.0) == []
    assert limiter.admit(line(topic="t20"), 120.0) == 0


def test_lines_say_how_many_were_held_back_before_them() -> None:
    now = [0.0]
    log = Log(clock=lambda: now[0])
    with capture_logs() as lines:
        for n in range(10):
            log.warning("dead_letter", topic="t", number=n)
        now[0] = 60.0
        log.catch_up()
        for _ in range(3):
            log.warning("dead_letter", topic="t", number=10)
        log.catch_up(at_end=True)
        log.warning("dead_letter", topic="t", number=11)
    said = [(one["number"], one.get("suppressed", 0)) for one in lines]
    assert said == [(0, 0), (1, 0), (2, 0), (3, 0), (4, 0), (9, 4), (10, 2), (11, 0)]


def test_the_last_that_is_said_of_an_outage_that_comes_and_goes_is_how_it_is() -> None:
    now = [0.0]
    log = Log(clock=lambda: now[0])
    with capture_logs() as lines:
        for number in range(9):  # begin, end, begin: it is away at last
            now[0] = float(number)
            log.warning("outage_begin", sink="live")
            if number < 8:
                log.warning("outage_end", sink="live")
        now[0] = 70.0
        log.catch_up()
    said = [(one["event"], one.get("seconds_ago"), one.get("suppressed")) for one in lines]
    assert said[9:] == [("outage_end", None, None), ("outage_begin", 62.0, 6)]


def test_what_is_held_back_comes_in_its_order() -> None:
    limiter = Limiter(first=1, every=60.0)
    for number, name in enumerate("ababba"):
        limiter.admit(line(number, topic=name), now=float(number))
    assert [(late[2]["number"], at) for late, _, at in limiter.overdue(70.0)] == [(4, 4.0), (5, 5.0)]


def test_each_collection_that_something_is_said_of_is_heard_of() -> None:
    limiter = Limiter()
    lines = [(logging.ERROR, "retention_not_applied", {"collection": f"c{n}"}) for n in range(8)]
    assert [limiter.admit(one, 0.0) for one in lines] == [0] * 8


def test_summaries_and_lines_at_debug_are_not_held_back() -> None:
    log = Log()
    with capture_logs() as lines:
        for _ in range(20):
            log.summary("summary", processed=1)
            log.debug("retry", topic="t")
    assert len(lines) == 40


# -- where they go -----------------------------------------------------------------------------------


def test_a_host_without_structlog_gets_records_of_the_standard_library(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    log = Log()
    with caplog.at_level(logging.INFO):
        log.info("100% ready", topic="a b", tried=["redis://:hunter2@h"])
        log.debug("quiet")
        try:
            raise ConnectionError("redis://:hunter2@h")
        except ConnectionError as error:
            log.exception("lost")
            log.error("lost", exc_info=error)
    first, *others = caplog.records
    assert first.name == "enricher"
    assert first.getMessage() == "100% ready topic='a b' tried=['redis://:***@h']"
    assert first.fields == {"topic": "a b", "tried": ["redis://:***@h"]}  # type: ignore[attr-defined]
    assert first.filename == Path(__file__).name
    assert [record.getMessage().splitlines()[-1] for record in others] == [
        "ConnectionError: redis://:***@h"
    ] * 2
    assert capsys.readouterr().out == ""


def test_lines_at_debug_are_asked_for() -> None:
    log = Log()
    assert not log.debugging()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.DEBUG))
    assert log.debugging()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.INFO))
    assert not log.debugging()


async def test_a_host_whose_structlog_is_asynchronous_gets_its_lines() -> None:
    structlog.configure(wrapper_class=structlog.stdlib.AsyncBoundLogger)
    with capture_logs() as lines:
        Log().warning("here")
    assert [one["event"] for one in lines] == ["here"]


# -- what goes wrong there ---------------------------------------------------------------------------


def raising(error: BaseException) -> Callable[[], None]:
    def processor(*_: Any) -> Any:
        raise error

    return lambda: structlog.configure(processors=[processor])


def closed_file() -> None:
    file = io.StringIO()
    file.close()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file))


def pipe_without_a_reader() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    file = os.fdopen(writer, "w", buffering=1)
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(file))


def nothing_we_know() -> None:
    structlog.configure(wrapper_class=object)


def raising_handler() -> None:
    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError(record)

    logging.getLogger("enricher").addHandler(Handler())


@pytest.mark.parametrize(
    "set_up",
    [
        raising(RuntimeError("no")),
        raising(asyncio.CancelledError()),
        raising(RecursionError()),
        closed_file,
        pipe_without_a_reader,
        nothing_we_know,
        raising_handler,
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_no_line_raises_whatever_the_hosts_log_does(set_up: Callable[[], None]) -> None:
    log = Log()
    handlers = logging.getLogger("enricher").handlers
    set_up()
    try:
        for say in (log.debug, log.info, log.warning, log.error, log.critical, log.exception, log.summary):
            for _ in range(7):
                say("line", topic="t", odd=object(), name="n", level="l", message="m", args=1)
        log.debugging()
        log.catch_up(at_end=True)
    finally:
        handlers.clear()


def test_all_of_the_project_logs_this_way() -> None:
    """Who asked structlog itself for a logger could be ended by a line."""
    root = Path(enricher.__file__).parent
    asking = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "structlog.get_logger" in path.read_text()
    }
    assert asking == {"log.py", "cli/logs.py"}
