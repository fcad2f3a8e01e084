"""What the page about events shows runs as it stands there, and its tables say what is so."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import shlex
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celery
import celery.result
import msgspec
import pytest

from enricher import load
from enricher.config import WebSettings
from enricher.events.metrics import Attempts
from enricher.events.settings import EventSettings
from tests.integration.commands import Command, eventually, ran
from tests.integration.test_docs_jobs import rows as rows_of
from tests.integration.test_events_http import listens
from tests.pages import ROOT, blocks, page
from tests.servers import MongoProcess, RedisProcess, SearchProcess, free_port

PAGE = page("events.md")
FILES = {block.split()[1]: block for block in blocks(PAGE)}
CONSOLE = "".join(blocks(PAGE, "console"))
SETTINGS = {
    name: "shop" if name.endswith("PACKAGES") else value
    for name, value in re.findall(r"(\w+)=(\S+)", CONSOLE)
}
COMMANDS = re.findall(r"^\$ (python .*)$", CONSOLE, re.MULTILINE)
LISTEN = "127.0.0.1:8080"
CURLS = re.findall(r"^\$ (curl .*)$", CONSOLE, re.MULTILINE)


def rows(section: str) -> list[list[str]]:
    return rows_of(section, PAGE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page, and two files of events."""
    folder = tmp_path_factory.mktemp("page")
    for name, text in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    ticket = json.dumps({"text": "My parcel is late", "user": 7})
    (folder / "ticket.json").write_text(ticket)
    (folder / "tickets.jsonl").write_text(f"{ticket}\n" * 3)
    return folder


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory, mongo_process: MongoProcess) -> Iterator[dict[str, str]]:
    place = tmp_path_factory.mktemp("events")
    with RedisProcess(place / "redis") as server:
        yield {"REDIS_URL": server.url, "MONGO_URL": mongo_process.url(f"docs_{free_port()}")}


@pytest.fixture(scope="module")
def port() -> int:
    return free_port()


def environment(urls: dict[str, str], port: int, **more: str) -> dict[str, str]:
    """What the page exports, with servers and a port of this test's own."""
    given = {name: value for name, value in SETTINGS.items() if name.startswith("ENRICHER_")}
    return {**given, **urls, "ENRICHER_WEB__LISTEN": f"127.0.0.1:{port}", **more}


@pytest.fixture(scope="module")
def worker(folder: Path, urls: dict[str, str], port: int) -> Iterator[Command]:
    with Command(folder, "run", **environment(urls, port)) as command:
        command.until("ready")
        eventually(lambda: listens(port), "the web app")
        yield command


def shown(port: int, id_: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/events/{id_}", timeout=60) as answer:
        return json.load(answer)


def post(port: int, event: Any, path: str = "/events") -> tuple[int, Any]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", path, json.dumps(event))
    answer = connection.getresponse()
    return answer.status, json.load(answer)


def succeeded(port: int, id_: str) -> Any:
    """The event, once its pipeline has ended well."""
    return eventually(lambda: (e := shown(port, id_))["status"] == "SUCCESS" and e, "its success")


def test_the_first_minute_is_as_the_page_tells_it(folder: Path, worker: Command, port: int) -> None:
    (told,) = re.findall(r"^(\{.*started.*\})$", CONSOLE, re.MULTILINE)
    (id_of_page,) = re.findall(r"`(.*)`", told)
    first, second = (shlex.split(line.replace(LISTEN, f"127.0.0.1:{port}")) for line in CURLS)
    answered = subprocess.run(first, capture_output=True, text=True, check=True, timeout=60).stdout
    (id_,) = re.findall(r"`(.*)`", json.loads(answered)["message"])
    assert answered == told.replace(id_of_page, id_)
    second = [word.replace(id_of_page, id_) for word in second]

    def ended() -> Any:
        event = json.loads(subprocess.run(second, capture_output=True, check=True, timeout=60).stdout)
        return event["status"] == "SUCCESS" and event

    event = eventually(ended, "its success")
    assert event["data"] == {"text": "My parcel is late", "user": 7, "urgent": False}
    assert event["task_context"]["nodes"]["Reply"] == {"text": "Thank you for: My parcel is late"}


def test_an_order_is_offered(worker: Command, port: int) -> None:
    _, answer = post(port, {"product": "tea", "pieces": 3})
    event = succeeded(port, answer["message"].split("`")[1])
    assert event["type"] == "Order"
    assert event["task_context"]["nodes"]["Offer"] == {"pieces": 3, "total": 29.97}


def test_a_refusal_is_the_one_of_the_page(worker: Command, port: int) -> None:
    (told,) = blocks(PAGE, "json")
    assert post(port, {"text": "x", "type": "Ticket"}) == (422, json.loads(told))


def test_every_status_is_told() -> None:
    files = [*(ROOT / "enricher" / "web").glob("*.py"), ROOT / "enricher" / "events" / "http.py"]
    code = "".join(file.read_text(encoding="utf-8") for file in files)
    raised = re.findall(r"(?:Refusal\(|status, self\._why = |_refuse\(|_id\}`\"\}, )(\d{3})", code)
    told = {row[0] for row in rows("The intake")}
    assert {"202", "422", "429", "503"} <= told
    assert set(raised) <= told


def test_the_figures_and_the_lines_of_the_log_are_those_of_the_program() -> None:
    files = [
        file for name in ("events", "web", "adapters") for file in (ROOT / "enricher" / name).rglob("*.py")
    ]
    written = "".join(file.read_text(encoding="utf-8") for file in files)
    named = [cells[0].strip("`") for cells in rows("What to watch")]
    assert len(named) == 5
    assert not [name for name in named if f'("{name}"' not in written]
    figures = set(re.findall(r"`(enricher_\w+)`", PAGE))
    metrics = asyncio.run(Attempts().metrics())
    # Prometheus has such an end for what is counted.
    assert figures == {f"{each.name}{'_total' if each.kind == 'counter' else ''}" for each in metrics}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("try_it.py", "{'language': 'de'} {'Triage': 'Reply'}\n{'text': 'Thank you for: My parcel is late'}"),
        ("found.py", "skipped: there is no search server"),
    ],
)
def test_every_program_runs(name: str, said: str, folder: Path) -> None:
    done = ran(name, folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert said in done.stdout


def test_a_signed_event_is_accepted_and_again_the_same_one(folder: Path, urls: dict[str, str]) -> None:
    port = free_port()
    (text,) = blocks(PAGE, "toml")
    (folder / "asked.toml").write_text(text)
    ((name, value),) = re.findall(r"`(ENRICHER_EVENTS__TOKENS)=(.*?)`", PAGE)
    assert load(environ={name: value}).section(EventSettings).tokens == {"shop": "t0ken", "till": "t1ll"}
    with Command(folder, "run", "--config", "asked.toml", **environment(urls, port)) as command:
        command.until("ready")
        eventually(lambda: listens(port), "the web app")
        url = f"http://127.0.0.1:{port}/events"
        first, again = (ran("send.py", url, "t0ken", "s3cret", "x", folder=folder) for _ in range(2))
        assert first.stdout.startswith("202 process_incoming_event started `"), first.stderr
        assert again.stdout == first.stdout
        assert "401" in ran("send.py", url, "t0ken", "another", "x", folder=folder).stderr


def test_the_intake_is_mounted_in_fastapi(folder: Path, urls: dict[str, str]) -> None:
    port = free_port()
    given = environment(urls, port, ENRICHER_WEB__LISTEN="")
    with Command(folder, "web:app", "--port", str(port), program=("-m", "uvicorn"), **given):
        eventually(lambda: listens(port), "FastAPI")
        answered = eventually(
            lambda: (a := post(port, {"text": "x", "user": 1}, "/worker/events"))[0] == 202 and a
        )
        assert answered[1]["message"].startswith("process_incoming_event started")


@pytest.mark.parametrize("line", [line for line in COMMANDS if not line.endswith(" run")])
def test_every_command_runs(
    line: str, folder: Path, urls: dict[str, str], port: int, worker: Command
) -> None:
    _, answer = post(port, {"text": "x", "user": 1})
    id_ = answer["message"].split("`")[1]
    succeeded(port, id_)
    words = [id_ if word == "ID" else word for word in shlex.split(line)]
    done = ran(*words[1:], folder=folder, **environment(urls, port))
    assert done.returncode == 0, (done.stdout, done.stderr)
    if words[-2:] == ["graph", "Ticket"]:
        assert done.stdout in "".join(blocks(PAGE, "text"))


def test_a_pipeline_is_drawn_as_on_the_page(folder: Path, urls: dict[str, str], port: int) -> None:
    (line,) = re.findall(r"`python -m (enricher events graph [^`]*)`", PAGE)
    done = ran("-m", *line.split(), folder=folder, **environment(urls, port))
    assert done.stdout == blocks(PAGE, "text")[0]


def told_settings(number: int) -> dict[str, str]:
    """Defaults by name, of the first or second table of settings."""
    table = re.split(r"^\| `\[\w+\]`", PAGE, flags=re.MULTILINE)[1:][number].split("\n\n")[0]
    return {
        name: default
        for names, default in re.findall(r"^\| (`.*?`) \| (.*?) \|", table, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }


@pytest.mark.parametrize(("number", "section"), [(0, EventSettings), (1, WebSettings)])
def test_the_tables_of_settings_are_those_of_the_sections(number: int, section: Any) -> None:
    told, settings = told_settings(number), section()
    assert told.keys() == {field.name for field in msgspec.structs.fields(section)}
    for name, default in told.items():
        value = getattr(settings, name)
        if default == "none":
            assert value in (None, "", (), {}), name
        elif isinstance(value, tuple):
            assert value == tuple(re.findall("`(.*?)`", default)), name
        elif default == "1 MiB":
            assert value == 2**20
        else:
            shown = default.strip("`").removesuffix(" s").replace(",", "")
            assert str(value).lower().removesuffix(".0") == shown, name


def test_what_comes_from_celery_runs_and_its_result_is_read_by_celery(
    folder: Path, urls: dict[str, str], search_process: SearchProcess
) -> None:
    port = free_port()
    given = {
        "ENRICHER_EVENTS__PACKAGES": "app",
        "ENRICHER_SEARCH__URL": search_process.url,
        "PROJECT_NAME": "shop",
    }
    own = {"ENRICHER_EVENTS__COLLECTION": "moved", "ENRICHER_EVENTS__STREAM": "moved"}
    with Command(folder, "run", **environment(urls, port, **given, **own)) as command:
        command.until("ready")
        eventually(lambda: listens(port), "the web app")
        status, answer = post(port, {"ticket_id": "T-1", "message": "it does not work"}, "/events/")
        assert status == 202
        id_ = answer["message"].removeprefix("process_incoming_event started `").removesuffix("`")
        app = celery.Celery("tasks", broker=urls["REDIS_URL"], backend=urls["REDIS_URL"])
        context = celery.result.AsyncResult(id_, app=app).get(timeout=60)
        assert context["nodes"]["AnalyseNode"] == {"words": 4}
        event = succeeded(port, id_)
        assert event["task_context"] == context
        found = eventually(lambda: search_process.documents("events").get(id_), "its search document")
        assert found["data"] == {"ticket_id": "T-1", "message": "it does not work"}
