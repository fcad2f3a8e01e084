"""The settings of background jobs: queues and weights, when they are on, old names, mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from enricher.config import Section, load
from enricher.errors import ConfigError
from enricher.job_store import RESERVED
from enricher.jobs.settings import JobSettings

KINDS: dict[str, type[Section]] = {"jobs": JobSettings}
OLD = {"CELERY_BROKER_URL": "redis://old/1", "CELERY_RESULT_BACKEND": "redis://old/2"}


def jobs(*, toml: str = "", environ: dict[str, str] | None = None, **overrides: Any) -> JobSettings:
    """The section as a file, an environment and a program say it."""
    given = {f"jobs.{key}": value for key, value in overrides.items()}
    path = None
    if toml:
        path = Path("jobs.toml").absolute()
        path.write_text(toml, encoding="utf-8")
    return load(path, environ, given, KINDS).section(JobSettings)


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_queues_are_a_list_in_order_of_priority() -> None:
    assert jobs().queues == ("critical", "default", "low")
    assert jobs(toml='[jobs]\nqueues = ["b", "a"]').queues == ("b", "a")
    assert jobs(environ={"ENRICHER_JOBS__QUEUES": "b, a"}).queues == ("b", "a")
    assert jobs(queues="only").queues == ("only",)


@pytest.mark.parametrize(
    "given",
    [
        {"toml": "[jobs]\nqueues = {critical = 5, default = 3}"},
        {"toml": "[jobs.queues]\ncritical = 5\ndefault = 3"},
        {"environ": {"ENRICHER_JOBS__QUEUES": "critical=5, default=3"}},
        {"queues": {"critical": 5, "default": 3}},
    ],
)
def test_or_a_table_of_weights(given: dict[str, Any]) -> None:
    section = jobs(**given)
    assert section.queues == {"critical": 5, "default": 3}
    assert section.queue_names == ("critical", "default")
    assert section.printable()["queues"] == {"critical": 5, "default": 3}


@pytest.mark.parametrize(
    ("queues", "right"),
    [
        ("a b", "letters, digits, _, . and -"),
        ("default,lost", f"none of {', '.join(RESERVED)}"),
        ("a=1,lost=2", f"none of {', '.join(RESERVED)}"),
        ("a,a", "each queue once"),
        ("", "a list of at least 1, each text that is not empty, or a table of names, each with a whole"),
        ("a=0", "a whole number from 1 to 1000"),
        ("a=x", "a whole number from 1 to 1000"),
        ("a,b=2", "a list of at least 1"),
        ([], "a list of at least 1"),
        ({}, "a table of names"),
        (3, "a list of at least 1"),
    ],
)
def test_wrong_queues_are_named_with_what_would_be_right(queues: object, right: str) -> None:
    with pytest.raises(ConfigError, match=r"jobs\.queues") as error:
        jobs(queues=queues)
    assert right in str(error.value)


@pytest.mark.parametrize(
    ("given", "on"),
    [
        ({}, False),
        ({"enabled": True}, True),
        ({"packages": "app.jobs"}, True),
        ({"packages": "app.jobs", "enabled": False}, False),
    ],
)
def test_jobs_are_on_if_it_is_said_or_where_there_are_packages(given: dict[str, Any], on: bool) -> None:
    section = jobs(environ=OLD, **given)
    assert section.is_on() == on
    # The old names are those of another program's servers until then.
    assert (section.url, section.results_url) == (("redis://old/1", "redis://old/2") if on else ("", ""))


def test_the_old_names_give_way_to_the_new_ones() -> None:
    environ = {**OLD, "ENRICHER_JOBS__URL": "redis://new/1", "ENRICHER_JOBS__ENABLED": "true"}
    section = jobs(environ=environ)
    assert (section.url, section.results_url) == ("redis://new/1", "redis://old/2")


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ({"jobs.enabled": True}, "redis://old/1"),
        ({"jobs.enabled": True, "redis.url": "redis://own/0"}, "redis://own/0"),
        ({"jobs.enabled": False, "jobs.url": "redis://old/1"}, "redis://localhost:6379/0"),
        ({"jobs.enabled": True, "jobs.url": ""}, "redis://localhost:6379/0"),
    ],
)
def test_where_the_jobs_are_kept_is_the_redis_of_all_if_nobody_names_another(
    given: dict[str, Any], url: str
) -> None:
    assert load(None, OLD, given, KINDS).redis.url == url


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("CELERY_BROKER_URL", "amqp://guest:secret@rabbit//"),
        ("CELERY_BROKER_URL", "sqs://key:secret@"),
        ("CELERY_RESULT_BACKEND", "db+postgresql://me:secret@db/results"),
        ("CELERY_RESULT_BACKEND", "rpc://"),
    ],
)
def test_a_server_that_is_no_redis_is_refused_by_the_name_that_said_it(name: str, url: str) -> None:
    with pytest.raises(ConfigError, match="kept in Redis") as error:
        jobs(environ={name: url}, enabled=True)
    assert name in str(error.value)
    assert f"{url.partition('://')[0]}://;" in str(error.value)
    assert "secret" not in str(error.value)
    assert not jobs(environ={name: url}).is_on()


@pytest.mark.parametrize(
    ("given", "right"),
    [
        ({"lease": 0.5}, "jobs.lease = 0.5: expected at least 1 s"),
        ({"lease": 2, "poll": 3}, "at most jobs.lease, which is 2 s"),
        ({"max_block": 10}, "at least a third of jobs.lease, which is 60 s"),
        ({"roles": "workers"}, "did you mean 'worker'"),
        ({"health_url": "ftp://x"}, "http://localhost:8000/health"),
    ],
)
def test_what_contradicts_itself_is_refused(given: dict[str, Any], right: str) -> None:
    with pytest.raises(ConfigError) as error:
        jobs(**given)
    assert right in str(error.value)


def test_no_printed_form_shows_a_password() -> None:
    urls = dict.fromkeys(("url", "results_url"), "redis://:secret@host/1")
    section = jobs(health_url="http://me:secret@host/health", **urls)
    assert "secret" not in f"{section!r} {section.printable()}"


def test_the_store_gets_the_redis_of_the_service_where_no_other_is_named() -> None:
    assert jobs().queue_settings("redis://here/0", 5.0).url == "redis://here/0"
    assert jobs(url="redis://there/0").queue_settings("redis://here/0", 5.0).url == "redis://there/0"
    assert jobs(queues="a=1,b=2").queue_settings("", 5.0).queues == ("a", "b")
