"""The mail route from the command line: options, .env, handlers by name, figures, exit codes."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pymongo
import pytest
import redis

from enricher.config.dotenv import read_dotenv
from enricher.mail.settings import MailSettings
from tests.integration.commands import ROOT, Command, eventually, finished
from tests.integration.mails import LETTERS, STREAM, raw_mail
from tests.servers import Urls

HANDLER = '''
def on_mail(mail):
    if mail.fields.get("tenant") == "broken":
        raise OSError("no route to host")
    return {"subject": mail.subject.upper()}
'''


def test_an_option_of_the_mail_route_makes_a_mail_worker(tmp_path: Path, urls: Urls) -> None:
    (tmp_path / "shop.py").write_text(HANDLER, encoding="utf-8")
    lines = [
        f"REDIS_URL={urls.redis}",
        f"MONGO_URL={urls.mongo}",
        "REDIS_STREAM_NAME=not_this_one",
        "DLQ_STREAM_NAME=dead",
        "MAX_RETRY_ATTEMPTS=1",
        "INITIAL_BACKOFF_SECONDS=0.05",
        "CONSUMER_NAME=worker_01",
        "ENRICHER_MAIL__HANDLER=shop:on_mail",
    ]
    (tmp_path / ".env").write_text("\n".join(lines), encoding="utf-8")
    arguments = ("--stream", "mine", "--group", "g", "--batch-size", "500", "--block-timeout", "100")
    client = redis.Redis.from_url(urls.redis)
    emails = pymongo.MongoClient[dict[str, Any]](urls.mongo).get_default_database()["emails"]
    with Command(tmp_path, "run", *arguments, CONSUMER_NAME="worker_02") as worker:
        worker.until("ready")
        assert next(x for x in worker.logged() if x["message"] == "starting")["routes"] == ["mine"]
        client.xadd("mine", {"raw": raw_mail(1)})
        client.xadd("mine", {"raw": raw_mail(1)})
        client.xadd("mine", {"raw": raw_mail(2), "tenant": "broken"})
        (mail,) = eventually(lambda: list(emails.find()))
        assert mail["result"] == {"subject": "MAIL 1"}
        ((_, letter),) = eventually(lambda: client.xrange("dead"))
        assert (letter[b"retry_count"], letter[b"error"]) == (b"1", b"OSError: no route to host")
        # The option wins over the environment, the environment over .env.
        (consumer,) = client.xinfo_consumers("mine", "g")
        assert consumer["name"] == b"worker_02"
        eventually(lambda: client.xpending("mine", "g")["pending"] == 0)
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    stats = [line for line in worker.logged() if line["message"].startswith("Worker Stats - ")][-1]
    assert stats["message"] == "Worker Stats - Total: 3, Processed: 1, Skipped: 1, Failed: 1, DLQ: 1"
    assert (stats["level"], stats["total"], stats["skipped"], stats["dlq"]) == ("INFO", 3, 1, 1)
    emails.database.client.close()


def test_market_and_mail_can_be_asked_for_together(tmp_path: Path, urls: Urls) -> None:
    with Command(
        tmp_path,
        *("run", "--consumer", "w", "--set", "market.enabled=true"),
        REDIS_URL=urls.redis,
        MONGO_URL=urls.mongo,
    ) as worker:
        worker.until("ready")
        (line,) = [line for line in worker.logged() if line["message"] == "starting"]
        assert {STREAM, "market:underlying"} <= set(line["routes"])
        worker.signal(signal.SIGINT)
        assert worker.end() == 0


def test_host_and_port_of_the_old_environment_are_enough(tmp_path: Path, urls: Urls) -> None:
    host, _, port = urls.redis.removeprefix("redis://").partition("/")[0].partition(":")
    client = redis.Redis.from_url(urls.redis)
    client.xadd(STREAM, {"raw": raw_mail(1)})
    client.xadd(LETTERS, {"original_data": "{}"})
    client.sadd("processed_messages:set", "a", "b")
    variables = {"REDIS_HOST": host, "REDIS_PORT": port, "MONGO_URL": urls.mongo}
    found = finished(tmp_path, "mail", "--json", **variables)
    assert found.returncode == 0, found.stderr
    figures = json.loads(found.stdout)
    assert (figures["length"], figures["claims"], figures["old_claims"]) == (1, 0, 2)
    assert (figures["dead_letters"], figures["pending"], figures["delayed"]) == (1, 0, 0)
    with Command(tmp_path, "run", "--consumer", "w", "--block-timeout", "50", **variables) as worker:
        worker.until("ready")
        eventually(lambda: client.xpending(STREAM, "email_processor_group")["pending"] == 0)
        eventually(lambda: client.keys("processed:mail:*"))
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    assert "claims         1\n" in finished(tmp_path, "mail", **variables).stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("run", "--batch-size", "0"), "0 is not in the range"),
        (("run", "--consumer", "w", "--set", "mail.handler=nowhere:f"), "mail.handler = 'nowhere:f'"),
        (("check", "--set", "mail.enabled=true", "--set", "mail.handler=nowhere:f"), "module:function"),
        (("run", "--consumer", "w", "--set", "mail.max_backoff=1"), "mail.max_backoff"),
    ],
)
def test_what_cannot_be_is_said_with_exit_code_2(
    tmp_path: Path, redis_url: str, arguments: tuple[str, ...], said: str
) -> None:
    done = finished(tmp_path, *arguments, REDIS_URL=redis_url)
    assert (done.returncode, said in done.stderr) == (2, True), done.stderr


def test_the_console_script_finds_a_handler_in_the_working_folder(tmp_path: Path, urls: Urls) -> None:
    (tmp_path / "shop.py").write_text(HANDLER, encoding="utf-8")
    client = redis.Redis.from_url(urls.redis)
    client.xadd(STREAM, {"raw": raw_mail(1)})
    emails = pymongo.MongoClient[dict[str, Any]](urls.mongo).get_default_database()["emails"]
    script = (str(Path(sys.executable).parent / "enricher"),)
    arguments = ("run", "--consumer", "w", "--set", "mail.handler=shop:on_mail")
    servers = {"REDIS_URL": urls.redis, "MONGO_URL": urls.mongo}
    with Command(tmp_path, *arguments, program=script, **servers) as worker:
        worker.until("ready")
        (mail,) = eventually(lambda: list(emails.find()))
        assert mail["result"] == {"subject": "MAIL 1"}
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    emails.database.client.close()


def test_check_shows_the_mail_route(tmp_path: Path, urls: Urls) -> None:
    arguments = ("check", "--set", "mail.enabled=true", "--set", "market.enabled=false")
    done = finished(tmp_path, *arguments, REDIS_URL=urls.redis, MONGO_URL=urls.mongo)
    assert done.returncode == 0, done.stderr
    assert "process_email" in done.stdout
    assert "recognised for 604800 s (mail.claim_ttl)" in done.stdout
    assert "no route" not in done.stderr


def test_the_shipped_env_file_names_every_old_variable_at_its_default(tmp_path: Path) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    shown = tmp_path / ".env"
    lines = [line.lstrip("# ") for line in example.splitlines()]
    shown.write_text("\n".join(line for line in lines if "=" in line and " " not in line), encoding="utf-8")
    written = read_dotenv(shown)
    defaults = MailSettings()
    for name, (key, unit) in MailSettings.old_names.items():
        if name != "CONSUMER_NAME":
            value = getattr(defaults, key) * (1000 if unit == "ms" else 1)
            assert written[name] == (f"{value:g}" if isinstance(value, float) else str(value)), name
    assert written["CONSUMER_NAME"]
