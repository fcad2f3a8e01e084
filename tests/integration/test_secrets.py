"""No command, log line or figure shows a password, whatever the shape of the address that holds it."""

from __future__ import annotations

import asyncio
import socket
import traceback
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from structlog.testing import capture_logs

from enricher import Enricher
from enricher.cli.main import WRONG, exit_code
from enricher.systems import load
from tests.integration.commands import Command
from tests.rig import until
from tests.secret_urls import MISPLACED, MONGO, PW, REDIS, shown_halves

pytestmark = pytest.mark.usefixtures("nobodys_settings")

SHAPES = [("redis.url", url) for url in REDIS] + [("mongo.url", url) for url in MONGO] + MISPLACED
VARIABLES = {"redis.url": "REDIS_URL", "mongo.url": "MONGO_URL"}
QUICK = {
    "ENRICHER_REDIS__SOCKET_TIMEOUT": "0.2",
    "ENRICHER_MONGO__TIMEOUT": "0.5",
    "ENRICHER_SERVICE__DRAIN_DEADLINE": "0",
}
CHECK = ("check", "--verbose", "--timeout", "1s")
COMMANDS = {
    "redis.url": [CHECK, ("health", "--timeout", "200ms"), ("top", "--once"), ("dlq", "list"), ("mail",)],
    # No other command asks MongoDB.
    "mongo.url": [CHECK],
}
# These open their connection as the others do: some shapes are enough.
SENDERS = [
    ("feed", "--count", "1", "--for", "100ms"),
    ("record", "out.jsonl", "--for", "100ms", "--overwrite"),
    ("replay", "in.jsonl", "--speed", "max"),
]


def test_no_command_shows_it(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    redis_url: str,
    mongo_url: str,
    tmp_path: Path,
) -> None:
    """Each address is refused, or its user is by the server, or it does for one that knows no users."""
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    shown: list[tuple[str, str]] = []
    codes = set()
    line = '{"at": "2026-01-01T00:00:00+00:00", "topic": "a", "body": "x"}\n'
    (tmp_path / "in.jsonl").write_text(line)
    for number, (key, url) in enumerate(SHAPES):
        monkeypatch.setenv("REDIS_URL", redis_url)
        monkeypatch.setenv("MONGO_URL", mongo_url)
        there = urlsplit(redis_url if key == "redis.url" else mongo_url).netloc
        monkeypatch.setenv(VARIABLES[key], url.replace("127.0.0.1:1", there))
        senders = SENDERS if key == "redis.url" and number % 5 == 0 else []
        for arguments in (*COMMANDS[key], *senders):
            codes.add(exit_code(arguments))
            shown += [(url, text) for text in capfd.readouterr() if shown_halves(text)]
    assert shown == []
    assert codes == {0, 1, WRONG}


@pytest.mark.parametrize("before", ["", "check", "check --set", "check --", "dlq", "top --interval"])
def test_no_mistake_on_the_command_line_shows_it(before: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code([*before.split(), f"redis://:{PW}@127.0.0.1:1"]) == WRONG
    out, err = capfd.readouterr()
    assert shown_halves(out + err) == []


@pytest.mark.filterwarnings("ignore:Unknown option:UserWarning")
async def test_no_figure_and_no_log_line_of_a_worker_shows_it() -> None:
    quick = {"redis.socket_timeout": 0.2, "mongo.timeout": 0.05, "service.drain_deadline": 0}
    nowhere = {"redis.url": "redis://127.0.0.1:1", "mongo.url": "mongodb://127.0.0.1:1"}
    printed: list[Any] = []
    served: list[str] = []

    async def serve(key: str, url: str) -> None:
        try:
            settings = load(overrides={**quick, **nowhere, key: url})
            async with Enricher(settings) as enricher:
                served.append(url)
                await until(lambda: len(enricher.health()["outages"]) == 3, "outages")
                printed.extend([settings, enricher.health(), enricher.figures()])
        except Exception as error:
            # A client may have refused an option; its name is no secret.
            printed.extend([error, repr(error), *traceback.format_exception(error)])

    with capture_logs() as lines:
        await asyncio.gather(*(serve(key, url) for key, url in SHAPES if (key, url) not in MISPLACED))
    assert len(served) > 40
    assert [text for text in map(str, [*printed, *lines]) if shown_halves(text)] == []


def test_neither_does_a_process_that_runs(tmp_path: Path) -> None:
    url = f"mongodb://me:{PW}@127.0.0.1:1/?authMechanismProperties=AWS_SESSION_TOKEN%3A{PW}"
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(notify := str(tmp_path / "notify"))
    servers = {"REDIS_URL": f"redis://:{PW}@127.0.0.1:1", "MONGO_URL": url}
    variables = {"NOTIFY_SOCKET": notify, **servers, **QUICK}
    with told, Command(tmp_path, "run", "--log-level", "debug", **variables) as worker:
        worker.until("outage_begin")
        arguments = Path(f"/proc/{worker.process.pid}/cmdline").read_text()
        worker.process.terminate()
        worker.end()
        told.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                arguments += told.recv(65_536).decode()
    assert "STATUS=" in arguments
    assert shown_halves(arguments + worker.out + worker.err) == []
