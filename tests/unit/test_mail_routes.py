"""The mail route's policy, statistics and dead letters as data; its settings under old and new names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from enricher.assembly import planned
from enricher.config import named_by_origin
from enricher.engine.effects import DeadLetter
from enricher.engine.retry import GiveUp, Retry
from enricher.engine.router import HandlerKind
from enricher.errors import BadMessage, ConfigError
from enricher.mail.attempts import Attempts, mail_policy
from enricher.mail.entries import identity_of
from enricher.mail.plan import (
    indexes,
    letter_fields,
    mail_route,
    refuse_shared_keys,
    statistics,
    statistics_line,
)
from enricher.mail.processor import load_handler, takes_context, takes_mail
from enricher.mail.settings import MailSettings
from enricher.systems import load
from tests.rig import dead_letter

ON = {"ENRICHER_MAIL__ENABLED": "true"}
OLD = {
    "REDIS_STREAM_NAME": "in",
    "CONSUMER_GROUP_NAME": "g",
    "CONSUMER_NAME": "worker_01",
    "BATCH_SIZE": "50",
    "BLOCK_TIMEOUT_MS": "250",
    "DLQ_STREAM_NAME": "out",
    "MAX_RETRY_ATTEMPTS": "5",
    "INITIAL_BACKOFF_SECONDS": "0.5",
    "MAX_BACKOFF_SECONDS": "60",
    "IDEMPOTENCY_TTL_SECONDS": "3600",
}


def letter(body: bytes, attempts: int = 4) -> DeadLetter:
    known = {"topic": "in", "error": "no route to host", "error_type": "OSError", "first_us": 0}
    return dead_letter(**known, body=body, attempts=attempts, last_us=1_771_232_400_000_000)


def test_the_figures_of_the_statistics_add_up() -> None:
    counts = {"received": 1020, "processed": 950, "duplicate": 45, "dead": 5, "retried": 17, "deferred": 17}
    figures = statistics(counts)
    assert statistics_line(figures) == (
        "Worker Stats - Total: 1000, Processed: 950, Skipped: 45, Failed: 5, DLQ: 5"
    )
    assert figures["total"] == figures["processed"] + figures["skipped"] + figures["failed"]
    assert figures["retried"] == 17


def test_a_dead_letter_has_the_names_its_readers_know() -> None:
    body = json.dumps({"message_id": "<1@x>", "subject": "s"}).encode()
    assert letter_fields(letter(body)) == {
        b"original_data": body,
        b"error": b"OSError: no route to host",
        b"retry_count": b"3",
        b"message_id": b"1@x",
        b"failed_at": b"2026-02-16T09:00:00+00:00",
    }


@pytest.mark.parametrize("body", [b"", b"\xff", b"[]", b'{"raw": ""}', b"[" * 100_000])
def test_a_dead_letter_of_anything_at_all_can_be_written(body: bytes) -> None:
    assert letter_fields(letter(body, attempts=0))[b"retry_count"] == b"0"


def test_the_environment_of_the_old_worker_is_understood_while_mail_is_on() -> None:
    settings = load(environ={**OLD, **ON})
    assert settings.section(MailSettings) == MailSettings(
        enabled=True,
        stream="in",
        group="g",
        consumer="worker_01",
        batch=50,
        block=0.25,
        dead_letters="out",
        max_retries=5,
        initial_backoff=0.5,
        max_backoff=60.0,
        claim_ttl=3600,
    )
    assert settings.origins["mail.block"] == "BLOCK_TIMEOUT_MS"


def test_it_means_nothing_while_mail_is_off() -> None:
    settings = load(environ={**OLD, "BATCH_SIZE": "many"})
    assert settings.section(MailSettings) == MailSettings()
    assert not settings.section(MailSettings).enabled


def test_new_names_win_over_old_ones_and_these_over_the_defaults() -> None:
    environ = {**ON, "BATCH_SIZE": "50", "ENRICHER_MAIL__BATCH": "60"}
    assert load(environ=environ).section(MailSettings).batch == 60
    given = load(environ=environ, overrides={"mail.batch": "70"})
    assert given.section(MailSettings).batch == 70


def test_a_wrong_old_name_is_called_by_its_name() -> None:
    with pytest.raises(ConfigError) as wrong:
        load(environ={**ON, "BATCH_SIZE": "many"})
    assert (wrong.value.source, wrong.value.key) == ("BATCH_SIZE", "mail.batch")


@pytest.mark.parametrize(
    ("environ", "url"),
    [
        ({"REDIS_HOST": "cache"}, "redis://cache:6379/0"),
        ({"REDIS_HOST": "cache", "REDIS_PORT": "6380"}, "redis://cache:6380/0"),
        ({"REDIS_PORT": "6380"}, "redis://localhost:6380/0"),
        ({"REDIS_HOST": "::1"}, "redis://[::1]:6379/0"),
        ({"REDIS_HOST": "cache", "REDIS_URL": "redis://url:1/2"}, "redis://url:1/2"),
        ({"REDIS_PORT": "tcp://10.0.0.1:6379"}, "redis://localhost:6379/0"),
        ({"REDIS_HOST": "", "REDIS_PORT": ""}, "redis://localhost:6379/0"),
    ],
)
def test_host_and_port_make_the_address_where_there_is_none(environ: dict[str, str], url: str) -> None:
    assert load(environ=environ).redis.url == url


@pytest.mark.parametrize(
    "wrong",
    [
        {"mail.max_backoff": 1.0},
        {"mail.dead_letters": "email_ingestion_stream"},
        {"mail.lease": 0.5},
        {"mail.batch": 0},
    ],
)
def test_settings_that_disagree_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        load(overrides=wrong)


def test_a_handler_is_named_by_module_and_function() -> None:
    assert load_handler("enricher.mail.entries:identity_of") is identity_of
    for name in ("nowhere", "no.such.module:f", "json:no_such_name", "json:__doc__", ":f"):
        with pytest.raises(ConfigError, match="module:function"):
            load_handler(name)


def test_a_module_that_ends_the_process_is_a_wrong_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "leaving.py").write_text("import sys\nsys.exit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="SystemExit: 3"):
        load_handler("leaving:on_mail")


def test_a_handler_that_cannot_be_called_with_a_mail_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="a function of a mail"):
        load_handler("enricher.mail.plan:mail_route")
    assert takes_mail(print)
    assert takes_mail(lambda mail, *more, tenant="x": None)
    assert not takes_mail(lambda: None)
    assert not takes_mail(lambda *, mail: None)
    assert not takes_mail(lambda mail, context, third: None)


@pytest.mark.parametrize(
    ("variables", "key"),
    [
        ({"ENRICHER_DEAD_LETTERS__KEY": "email_ingestion_stream"}, "dead_letters.key"),
        ({"DLQ_STREAM_NAME": "dlq:enrichment"}, "mail.dead_letters"),
    ],
)
def test_dead_letters_of_other_routes_have_a_key_of_their_own(variables: dict[str, str], key: str) -> None:
    settings = load(environ={**ON, **variables})
    mail = settings.section(MailSettings)
    with pytest.raises(ConfigError, match="of its own") as caught:
        refuse_shared_keys(settings, mail)
    assert caught.value.key == key
    for fine in ({}, {"DLQ_STREAM_NAME": "dlq:enrichment", "ENRICHER_DEAD_LETTERS__STORE": "stream"}):
        settings = load(environ={**ON, **fine})
        refuse_shared_keys(settings, settings.section(MailSettings))


@pytest.mark.parametrize("name", ["$mails", "system.mails", ".mails", "mails.", "a..b", "x" * 121, "."])
def test_a_collection_has_a_name_that_mongodb_takes(name: str) -> None:
    with pytest.raises(ConfigError, match=r"mail\.collection"):
        load(environ={**ON, "ENRICHER_MAIL__COLLECTION": name})


def test_a_handler_that_has_room_for_the_context_gets_it() -> None:
    assert takes_context(lambda mail, context: None)
    assert not takes_context(lambda mail: None)
    assert not takes_context(lambda mail, *, tenant="x": None)


def test_the_route_is_one_lane_per_mail_with_the_backoff_of_its_settings() -> None:
    settings = MailSettings(max_retries=2, initial_backoff=1, concurrency=4)
    route = mail_route(settings, seen=None, clock=lambda: 0, handler=None)  # type: ignore[arg-type]
    assert (route.topic, route.max_concurrency) == ("email_ingestion_stream", 4)
    assert route.kind is HandlerKind.ASYNC
    assert (route.policy.max_retries, route.policy.base, route.policy.jitter) == (2, 1, "none")
    assert route.key is identity_of
    assert {name for name, _ in indexes(settings)} == {"emails"}


def test_what_systems_find_wrong_is_reported_together_and_by_its_source() -> None:
    settings = load(
        environ={**ON, "ENRICHER_MAIL__HANDLER": "nowhere:f"}, overrides={"market.folds": ["sessions"]}
    )
    with pytest.raises(ConfigError) as wrong, named_by_origin(settings):
        planned(settings)
    assert [(each.source, each.key) for each in wrong.value.every] == [
        ("overrides", "market.folds"),
        ("ENRICHER_MAIL__HANDLER", "mail.handler"),
    ]


def test_each_wait_is_twice_as_long_up_to_the_longest() -> None:
    attempts = Attempts(mail_policy(initial=2, longest=10, max_retries=5))
    delays = [attempts.record_failure("a", OSError()) for _ in range(6)]
    assert delays == [Retry(2.0), Retry(4.0), Retry(8.0), Retry(10.0), Retry(10.0), GiveUp("failed 6 times")]


def test_mails_are_counted_apart_and_a_success_forgets() -> None:
    attempts = Attempts(mail_policy(max_retries=1))
    assert attempts.should_retry("a")
    attempts.record_failure("a", OSError())
    attempts.record_failure("a", OSError())
    assert attempts.failures("a") == 2
    assert (attempts.should_retry("a"), attempts.should_retry("b")) == (False, True)
    assert attempts.delay("b") == 0.0
    attempts.record_success("a")
    assert (attempts.failures("a"), attempts.should_retry("a")) == (0, True)


def test_a_bad_message_is_not_tried_again() -> None:
    assert isinstance(Attempts().record_failure("a", BadMessage("$", "better")), GiveUp)


def test_only_so_many_mails_are_remembered() -> None:
    attempts = Attempts(most=2)
    for name in ("a", "b", "a", "c"):
        attempts.record_failure(name, OSError())
    assert [attempts.failures(name) for name in ("a", "b", "c")] == [2, 0, 1]
    assert attempts.delay("a") == 4.0


def test_the_settings_make_the_same_policy() -> None:
    assert mail_route(MailSettings(), seen=None, clock=lambda: 0, handler=None).policy == mail_policy()
