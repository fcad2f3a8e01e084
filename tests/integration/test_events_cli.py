"""The commands of events: what they show, what they change, what they refuse."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis

from enricher import load
from enricher.cli.main import exit_code
from enricher.events.documents import failed, pending, started, succeeded
from tests.integration.commands import Command, eventually, finished
from tests.integration.worker import database
from tests.servers import Urls, free_port

SHOP = """
from enricher.events import Event, Node, Pipeline, Router

class Order(Event):
    number: int

class Check(Router):
    def route(self, context):
        return Ship if context.event.number else Cancel

class Ship(Node):
    def process(self, context):
        if context.event.number == 13:
            raise OSError("no ship at redis://:secret@host/0")
        context.nodes["Ship"] = {"parcel": context.event.number}
        return context

class Cancel(Node):
    def process(self, context):
        return context

class OrderPipeline(Pipeline):
    event = Order
    start = Check
    nodes = {Check: [Ship, Cancel]}
"""


LETTERS = load().dead_letters.key


class Shell:
    """Commands in this process: standard output, and the exit code that is expected."""

    def __init__(self, urls: Urls, capsys: pytest.CaptureFixture[str]) -> None:
        self.urls = urls
        self.events = database(urls.mongo)["events"]
        self.redis = redis.Redis.from_url(urls.redis)
        self._capsys = capsys
        self.err = ""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        servers = ("--redis-url", self.urls.redis, "--mongo-url", self.urls.mongo)
        found = exit_code(["events", *arguments, *servers])
        out, self.err = self._capsys.readouterr()
        assert found == code, (out, self.err)
        return out

    def rows(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*arguments, "--json", code=code).splitlines()]

    def store(
        self, id_: str, *, ended: str = "", text: str = "help", kind: str = "Ticket", hours: int = 0
    ) -> str:
        """An event that was accepted so long ago, and ended as it is said."""
        at = round((datetime.now(UTC) - timedelta(hours=hours)).timestamp() * 1e6)
        event = pending(id_, kind, {"text": text}, token="", now_us=at)
        if ended:
            event = started(event, 1, at)
        if ended == "SUCCESS":
            event = succeeded(event, {"nodes": {"Reply": "yes"}, "metadata": {}}, 1, at)
        elif ended == "FAILURE":
            event = failed(event, {}, "Reply", TimeoutError("too late"), 4, at, final=True)
        self.events.insert_one(event)
        return id_

    def status(self, id_: str) -> str | None:
        event = self.events.find_one({"_id": id_})
        return None if event is None else str(event["status"])

    @property
    def appended(self) -> list[bytes]:
        return [fields[b"id"] for _, fields in self.redis.xrange("enricher:events")]


@pytest.fixture
def shell(
    urls: Urls,
    nobodys_settings: None,
    capsys: pytest.CaptureFixture[str],
) -> Shell:
    return Shell(urls, capsys)


def test_from_the_first_post_to_its_end(tmp_path: Path, urls: Urls, shell: Shell) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "orders.py").write_text(SHOP, encoding="utf-8")
    where = {
        "ENRICHER_EVENTS__PACKAGES": "shop.orders",
        "ENRICHER_EVENTS__TOKENS": "shop=s3cret",
        "ENRICHER_EVENTS__MAX_RETRIES": "0",
        "ENRICHER_WEB__LISTEN": f"127.0.0.1:{free_port()}",
        "ENRICHER_MARKET__ENABLED": "false",
        "ENRICHER_REDIS__URL": urls.redis,
        "ENRICHER_MONGO__URL": urls.mongo,
    }

    def ran(*arguments: str, code: int = 0) -> tuple[list[str], str]:
        found = finished(tmp_path, "events", *arguments, **where)
        assert found.returncode == code, (found.stdout, found.stderr)
        return found.stdout.splitlines(), found.stderr

    lines = '{"number": 1}\n\n{"number": "x"}\n{"number": 13}\n'
    (tmp_path / "orders.jsonl").write_text(lines, encoding="utf-8")
    with Command(tmp_path, "run", **where) as worker:
        worker.until("ready", "listening")
        (shipped, lost), said = ran("post", "--lines", "orders.jsonl", code=1)
        assert "orders.jsonl:3: 422 " in said
        assert "body.number" in said
        (tmp_path / "order.json").write_text('{"number": 7}', encoding="utf-8")
        assert ran("post", "order.json", "--key", "one") == ran("post", "order.json", "--key", "one")
        eventually(lambda: shell.status(shipped) == "SUCCESS" and shell.status(lost) == "FAILURE")
        shell.events.update_one({"_id": lost}, {"$set": {"data.number": 14}})
        assert ran("retry", lost)[0] == [f"{lost}  FAILURE   Order  waits again"]
        eventually(lambda: shell.status(lost) == "SUCCESS")
        worker.signal(signal.SIGTERM)
        assert worker.end() == 0
    page = shell("show", shipped[:8])
    assert '{"parcel":1}' in page
    assert "client     shop" in page
    assert "Check ?" in "\n".join(ran("graph", "OrderPipeline")[0])
    assert "Check{Check}" in "\n".join(ran("graph", "Order", "--mermaid")[0])
    assert "no type of events is called 'Oder'; known: Order" in ran("graph", "Oder", code=2)[1]


def test_events_are_listed_by_what_they_are(shell: Shell) -> None:
    shell("list")
    assert "No events yet" in shell.err
    shell.store("one", text="Printer on fire")
    shell.store("two", ended="FAILURE", hours=3)
    shell.store("three", ended="SUCCESS", kind="Order", hours=30)
    for options, expected in (
        ((), ["one", "two", "three"]),
        (("--status", "pending"), ["one"]),
        (("--status", "FAILURE", "--status", "SUCCESS"), ["two", "three"]),
        (("--type", "Order"), ["three"]),
        (("--text", "printer ON"), ["one"]),
        (("--error", "timeouterror: too late"), ["two"]),
        (("--since", "2h"), ["one"]),
        (("--until", "2h", "--limit", "1"), ["two"]),
    ):
        assert [row["id"] for row in shell.rows("list", *options)] == expected, options
    head, *lines = shell("list", "--error", "late").splitlines()
    assert head.split("\t")[:3] == ["id", "status", "type"]
    assert lines[0].endswith("Reply: TimeoutError: too late")
    refused = {"status": "refused", "error": "document_parsing_exception", "indices": ["events"]}
    shell.events.update_one({"_id": "three"}, {"$set": {"search": refused}})
    assert shell("list", "--error", "parsing").splitlines()[1].endswith("search: document_parsing_exception")
    assert "No such events" in (shell("list", "--type", "Other"), shell.err)[1]


def test_more_events_than_a_page_are_all_found_once(shell: Shell) -> None:
    began = 1_700_000_000_000_000
    events = [
        pending(f"n{n}", "Ticket", {"n": n}, token="", now_us=began + n // 150 * 1000) for n in range(450)
    ]
    shell.events.insert_many(events)
    found = [row["id"] for row in shell.rows("list", "--limit", "1000")]
    assert sorted(found) == sorted(event["_id"] for event in events)


def test_an_id_may_be_cut_short_if_it_is_the_only_one(shell: Shell) -> None:
    shell.store("3f2a9c71-aa")
    shell.store("3f2a9c72-bb", ended="FAILURE")
    search = {"status": "refused", "error": "mapper_parsing_exception", "indices": ["events"]}
    shell.events.update_one({"_id": "3f2a9c72-bb"}, {"$set": {"search": search}})
    page = shell("show", "3f2a9c72")
    assert "search     refused: mapper_parsing_exception" in page
    assert "error  Reply: TimeoutError: too late" in page
    shell("show", "3f2a9c7", code=2)
    assert "several events begin with 3f2a9c7: 3f2a9c71-aa, 3f2a9c72-bb" in shell.err
    shell("show", "3f", code=2)
    assert "at least the first 4 characters" in shell.err


def test_only_failed_events_are_retried_and_each_is_appended(shell: Shell) -> None:
    for number in range(3):
        shell.store(f"fail{number}", ended="FAILURE")
    shell.store("waits")
    letters = [{"topic": "enricher:events", "args": [{"id": f"fail{number}"}]} for number in range(3)]
    shell.redis.rpush(LETTERS, *map(json.dumps, letters), '{"args": ["another\'s"]}')
    rows = shell.rows("retry", "--all", "--dry-run")
    assert {row["outcome"] for row in rows} == {"would be retried"}
    assert shell.appended == []
    assert shell.redis.llen(LETTERS) == 4
    rows = shell.rows("retry", "--error", "too late", "--limit", "2", "--rate", "1000")
    assert [row["done"] for row in rows] == [True, True]
    assert sorted(shell.appended) == sorted(row["id"].encode() for row in rows)
    assert shell.redis.llen(LETTERS) == 2
    again = shell.events.find_one({"_id": rows[0]["id"]})
    assert (again["status"], again["error"]) == ("PENDING", None)
    shell("retry", "waits", code=1)
    assert "it waits already" in shell("retry", "waits", code=1)
    shell("retry", code=2)
    assert "say which events" in shell.err
    shell("retry", "waits", "--all", "--type", "Ticket", code=2)
    assert "not both" in shell.err


def test_events_that_have_ended_are_deleted_with_their_results(shell: Shell) -> None:
    shell.store("done", ended="SUCCESS")
    shell.store("waits")
    shell.redis.set("celery-task-meta-done", "{}")
    shell("delete", "--all", code=2)
    assert "give --yes" in shell.err
    assert "deleted" in shell("delete", "--all", "--yes")
    assert (shell.status("done"), shell.status("waits")) == (None, "PENDING")
    assert shell.redis.get("celery-task-meta-done") is None
    assert "not deleted: it has not ended, it is PENDING" in shell("delete", "waits", "--yes", code=1)


def test_post_says_who_does_not_answer(shell: Shell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "event.json").write_text("{}", encoding="utf-8")
    shell("post", "event.json", code=2)
    assert "web.listen" in shell.err
    shell("post", "event.json", "--url", "localhost:80", code=2)
    assert "a URL such as http://127.0.0.1:8080" in shell.err
    monkeypatch.setattr("enricher.events.cli.posting.time.sleep", lambda _: None)
    shell("post", "event.json", "nothing.json", "--url", f"http://127.0.0.1:{free_port()}", code=2)
    assert "event.json: no worker answers at http://127.0.0.1:" in shell.err
    assert "nothing.json: No such file or directory" in shell.err


def test_check_says_where_events_are_accepted_and_what_is_wrong_with_pipelines(
    tmp_path: Path, urls: Urls
) -> None:
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "orders.py").write_text(SHOP + "\nclass Letter(Event):\n    text: str\n", "utf-8")
    (tmp_path / "shop" / "broken.py").write_text("import nothing_there\n", "utf-8")
    (tmp_path / "shop" / "twice.py").write_text(f"{SHOP}OrderPipeline.__name__ = 'Other'\n", "utf-8")
    servers = {"ENRICHER_REDIS__URL": urls.redis, "ENRICHER_MONGO__URL": urls.mongo}

    def check(packages: str, code: int, **settings: str) -> tuple[str, str]:
        given = [f"--set={key.replace('__', '.')}={value}" for key, value in settings.items()]
        found = finished(tmp_path, "check", f"--set=events.packages={packages}", *given, **servers)
        assert found.returncode == code, (found.stdout, found.stderr)
        return found.stdout, found.stderr

    out, err = check("shop.orders", 0, web__listen="127.0.0.1:8000")
    assert "Events are accepted from anybody on this machine at http://127.0.0.1:8000/events." in out
    assert "no pipeline is for events of type shop.orders.Letter" in err
    out, err = check("shop", 1, events__tokens="shop=s3cret", events__listen="0.0.0.0:8001")
    assert "clients with a token (shop) at http://0.0.0.0:8001/events" in out
    assert "Failed to import pipeline module shop.broken: No module named 'nothing_there'" in err
    assert "two pipelines are for events of type 'Order': shop.orders.OrderPipeline and shop.twice." in err
    assert "s3cret" not in out + err
    assert "events come in by submit() alone" in check("shop.orders", 0)[1]
    open_to_all = {"web__listen": "0.0.0.0:8001", "web__tokens": "viewer=x"}
    assert "events.tokens = {}: expected tokens of clients" in check("shop.orders", 2, **open_to_all)[1]
