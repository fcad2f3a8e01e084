"""A real Prometheus scrapes a real worker, and every expression of the dashboards finds something there."""

from __future__ import annotations

import json
import re
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.checkers import absent, tool
from tests.integration.commands import Command, eventually
from tests.pages import ROOT, blocks, page
from tests.servers import LOOPBACK, RedisProcess, ServerProcess, Urls, first_reply, free_port

DEPLOY = ROOT / "deploy"
TICK = '{"tick_id": %d, "product": "NIFTY", "price": 21500.5, "timestamp": "2026-01-05T09:15:00Z"}'
NAME = re.compile(r"\b(?:enricher|celery|process)_[a-z_]*[a-z]\b")
# Only where there is such a limit.
LIMIT = "enricher_memory_limit_bytes"
SUFFIXES = ("_total", "_bucket", "_sum", "_count")


class Prometheus(ServerProcess):
    """A Prometheus that scrapes ``target`` once a second."""

    def __init__(self, folder: Path, target: str) -> None:
        super().__init__(folder)
        self.config: dict[str, Any] = yaml.safe_load(blocks(page("metrics.md"), "yaml")[0])
        assert list(self.config) == ["scrape_configs", "rule_files"]
        self.config["scrape_configs"][0]["static_configs"][0]["targets"] = [target]
        self.config["rule_files"] = [str(DEPLOY / "prometheus" / name) for name in self.config["rule_files"]]
        self.config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        (folder / "prometheus.yml").write_text(yaml.safe_dump(self.config), encoding="utf-8")

    def command(self) -> list[str]:
        address = f"--web.listen-address={LOOPBACK}:{self.port}"
        files = [f"--config.file={self.folder / 'prometheus.yml'}", f"--storage.tsdb.path={self.folder}"]
        return [str(tool("prometheus")), address, *files, "--log.level=warn"]

    def answers(self) -> bool:
        request = b"GET /-/ready HTTP/1.0\r\nHost: localhost\r\n\r\n"
        return first_reply(self.port, request).startswith(b"HTTP/1.0 200")

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer of its API."""
        url = f"http://{LOOPBACK}:{self.port}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.loads(answer.read())["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression finds now; `HTTPError` for one that is wrong."""
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found


def panels() -> list[tuple[str, dict[str, Any]]]:
    """Every panel with the name of its dashboard."""
    files = sorted((DEPLOY / "grafana").glob("*.json"))
    return [(f.stem, each) for f in files for each in json.loads(f.read_text(encoding="utf-8"))["panels"]]


def expressions() -> list[tuple[str, str]]:
    """Every expression of the dashboards, as Grafana would ask it, with where it is."""
    return [
        (
            f"{board}: {panel['title']}",
            target["expr"].replace("$__rate_interval", "1m").replace("$job", "enricher"),
        )
        for board, panel in panels()
        for target in panel["targets"]
    ]


def families(text: str) -> set[str]:
    """The metrics that a text speaks of, without what the names of their samples add."""
    return {
        next((name.removesuffix(suffix) for suffix in SUFFIXES if name.endswith(suffix)), name)
        for name in NAME.findall(text)
    }


def fetched(url: str) -> str:
    """The text of a page."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        return str(answer.read(), "utf-8")


def test_panels_lie_beside_each_other_and_are_numbered() -> None:
    for board in {name for name, _ in panels()}:
        own = [panel for name, panel in panels() if name == board]
        assert [panel["id"] for panel in own] == list(range(1, len(own) + 1))
        cells = [
            (x, y)
            for panel in own
            for grid in [panel["gridPos"]]
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        ]
        assert len(cells) == len(set(cells))
        assert max(x for x, _ in cells) < 24


def test_what_is_asked_of_prometheus_is_in_the_docs() -> None:
    rules = (DEPLOY / "prometheus" / "rules.yml").read_text(encoding="utf-8")
    asked = families(rules + " ".join(expression for _, expression in expressions()))
    assert asked <= families(page("metrics.md"))


def test_a_real_prometheus_takes_every_sample_and_answers_every_panel(
    tmp_path: Path, own_redis: RedisProcess, urls: Urls, capsys: pytest.CaptureFixture[str]
) -> None:
    """Takes some seconds: a rate needs two scrapes, and there is at most one a second."""
    if tool("prometheus") is None:
        absent(capsys, "prometheus")
        return
    own_redis.call("CONFIG", "SET", "maxmemory", "1gb")
    port = free_port()
    target = f"{LOOPBACK}:{port}"
    given = {
        "redis.url": own_redis.url,
        "mongo.url": urls.mongo,
        "log.format": "json",
        "web.listen": target,
        "jobs.packages": "tests.jobs_app",
        "events.packages": "tests.event_app",
        "mail.enabled": "true",
    }
    arguments = [f"--set={name}={value}" for name, value in given.items()]
    prometheus = Prometheus(tmp_path / "prometheus", target)
    with Command(tmp_path / "worker", "run", *arguments) as worker, prometheus:
        worker.until("ready")
        for number in range(3):
            own_redis.call("PUBLISH", "market:underlying", TICK % number)
        own_redis.call("PUBLISH", "market:underlying", "{}")
        body = json.dumps({"type": "Ticket", "text": "fail 1"}).encode()
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"http://{target}/events", body, headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.status == 202
        eventually(lambda: prometheus.query('enricher_messages_total{status="dead"} > 0'), "the dead letter")
        rate = 'rate(enricher_node_runs_total{status="failed"}[1m])'
        eventually(lambda: prometheus.query(rate), "two scrapes of an event that has failed")

        exposed = fetched(f"http://{target}/metrics")
        asked = [(where, e) for where, e in expressions() if LIMIT in exposed or LIMIT not in e]
        assert [where for where, expression in asked if not prometheus.query(expression)] == []
        assert [each["health"] for each in prometheus.get("targets")["activeTargets"]] == ["up"]
        own = fetched(f"http://{LOOPBACK}:{prometheus.port}/metrics")
        rejected = re.findall(r"^prometheus_target_scrapes?_(?!pool)\w+_total (\S+)$", own, re.MULTILINE)
        assert len(rejected) > 5
        assert set(rejected) == {"0"}
        rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
        assert {(rule["health"], rule["state"]) for rule in rules} == {("ok", "inactive")}
        told = families(page("metrics.md")) - {LIMIT}
        assert told <= families(exposed)
        assert {name for name in families(exposed) - {LIMIT} if not name.startswith("process_")} <= told
