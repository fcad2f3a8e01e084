"""What a log line looks like."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import re
import warnings
from contextlib import suppress
from typing import Any, BinaryIO, cast

import pytest
import structlog

from enricher.cli.logs import configure
from enricher.config import LogSettings


class Terminal(io.BytesIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Log:
    """A configured log and the lines it wrote."""

    def __init__(self, stream: io.BytesIO | None = None, **settings: Any) -> None:
        self.stream = stream or io.BytesIO()
        configure(LogSettings(**settings), "worker-enricher", self.stream)
        self.logger = structlog.get_logger("enricher")

    @property
    def text(self) -> str:
        return self.stream.getvalue().decode()

    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    def line(self) -> dict[str, Any]:
        (only,) = self.lines()
        return only


def test_a_json_line_has_four_names_and_then_the_fields() -> None:
    log = Log()
    log.logger.info("committed", topic="market:underlying", messages=500)
    line = log.line()
    assert list(line) == ["message", "level", "timestamp", "service", "topic", "messages"]
    assert (line["message"], line["level"]) == ("committed", "INFO")
    assert (line["service"], line["messages"]) == ("worker-enricher", 500)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["timestamp"])


@pytest.mark.parametrize(("kind", "json"), [("auto", False), ("console", False), ("json", True)])
def test_on_a_terminal_lines_are_for_people_unless_the_settings_say_json(
    monkeypatch: pytest.MonkeyPatch, kind: str, json: bool
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    log = Log(Terminal(), format=kind)
    log.logger.info("committed", messages=500)
    assert log.text.startswith("{") is json
    assert "\x1b" not in log.text
    assert "committed" in log.text


def test_only_lines_from_the_level_up_are_written() -> None:
    log = Log(level="warning")
    log.logger.info("quiet")
    log.logger.warning("loud")
    logging.getLogger("redis").info("quiet")
    assert log.line()["message"] == "loud"


def test_what_other_libraries_log_is_a_line_like_any_other() -> None:
    log = Log()
    logging.getLogger("redis.client").warning("lost %s, 100%% gone", "connection")
    line = log.line()
    assert (line["message"], line["level"]) == ("lost connection, 100% gone", "WARNING")
    assert (line["logger"], line["service"]) == ("redis.client", "worker-enricher")


def test_the_mongodb_driver_does_not_log_every_command_at_debug() -> None:
    log = Log(level="debug")
    logging.getLogger("pymongo.command").debug("insert ...")
    log.logger.debug("processed_underlying_tick")
    assert log.line()["message"] == "processed_underlying_tick"


def test_a_warning_of_python_is_a_line_too() -> None:
    log = Log()
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("old ways", DeprecationWarning, stacklevel=1)
    assert "old ways" in log.line()["message"]


def test_no_line_shows_the_password_of_a_url() -> None:
    log = Log()
    url = "redis://user:hunter2@h:6379"
    log.logger.info(f"connecting to {url}", url=url, tried=[url, {"deep": (url,)}], set={url})
    log.logger.info("odd", error=ConnectionError(f"cannot reach {url}"))
    try:
        raise ConnectionError(f"cannot reach {url}")
    except ConnectionError:
        log.logger.exception("lost")
        logging.getLogger("redis").exception("lost too")
    assert "hunter2" not in log.text
    assert log.text.count("redis://user:***@h:6379") >= 8


def test_an_exception_is_a_field_of_its_line() -> None:
    log = Log()
    try:
        _ = 1 / 0
    except ZeroDivisionError:
        log.logger.exception("handler raised")
    line = log.line()
    assert line["level"] == "ERROR"
    assert "ZeroDivisionError: division by zero" in line["exception"]


@pytest.mark.parametrize("value", [2**70, "half \ud83d", object(), b"\xff", {1: 2}, {(1, 2): 3}])
def test_no_value_is_too_odd_for_a_line(value: object) -> None:
    log = Log()
    log.logger.info("odd", value=value)
    assert "value" in log.line()


def test_a_field_with_the_name_of_one_of_the_four_is_kept_beside_it() -> None:
    log = Log()
    log.logger.info("said", message="hello", service="theirs")
    line = log.line()
    assert (line["message"], line["message_"]) == ("said", "hello")
    assert (line["service"], line["service_"]) == ("worker-enricher", "theirs")


def test_the_console_format_is_for_people() -> None:
    log = Log(format="console")
    log.logger.info("committed", messages=500, url="redis://:hunter2@h")
    assert re.search(r"info\s.*committed\s.*messages=500", log.text)
    assert "hunter2" not in log.text
    assert "\x1b" not in log.text


def test_the_library_configures_nothing_by_being_imported() -> None:
    assert not structlog.is_configured()


class Full(io.RawIOBase):
    """A file on a disk that is full until it is told otherwise, or a pipe whose reader has gone."""

    def __init__(self, error: OSError) -> None:
        self.error: OSError | None = error
        self.written = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        if self.error is not None:
            raise self.error
        self.written += bytes(data)
        return len(data)


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "full"), BrokenPipeError(errno.EPIPE, "gone")])
def test_a_full_disk_or_a_reader_that_has_gone_takes_lines_and_not_the_worker(error: OSError) -> None:
    disk = Full(error)
    configure(LogSettings(), "worker-enricher", cast("BinaryIO", io.BufferedWriter(disk)))
    logger = structlog.get_logger("enricher")
    for number in range(1000):
        logger.info("lost", number=number)
    disk.error = None
    logger.info("found")
    lines = [json.loads(line) for line in disk.written.splitlines()]
    said = [(line["message"], line.get("lines")) for line in lines]
    assert said[-2:] == [("log_lines_lost", 1000), ("found", None)]


@pytest.mark.parametrize("size", [100, 30_000])
def test_a_reader_that_does_not_read_takes_lines_and_not_the_worker(size: int) -> None:
    """A pipe takes 64 KiB; who writes more would wait for its reader, and the whole worker with it."""
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    read = b""

    def read_all() -> None:
        nonlocal read
        with suppress(BlockingIOError):
            while data := os.read(reader, 65_536):
                read += data

    with os.fdopen(writer, "wb") as pipe, os.fdopen(reader, "rb"):
        configure(LogSettings(), "worker-enricher", pipe)
        logger = structlog.get_logger("enricher")
        for _ in range(1000):
            logger.info("said", text="x" * size)
        read_all()
        logger.info("found")
        read_all()
    lines = [json.loads(line) for line in read.splitlines()]
    said = sum(line["message"] == "said" for line in lines)
    assert 0 < said < 1000
    assert [line["lines"] for line in lines if line["message"] == "log_lines_lost"] == [1000 - said]
    assert lines[-1]["message"] == "found"
