"""What the page about jobs shows runs as it stands there, and its tables say what is so."""

from __future__ import annotations

import re
import shlex
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import get_type_hints

import msgspec
import pytest
import redis

from enricher.adapters.redis.jobs import calls
from enricher.jobs import Worker, connect, send
from enricher.jobs.settings import JobSettings
from tests.integration.commands import Command, eventually, ran
from tests.pages import ROOT, blocks, page
from tests.rig import PATIENCE
from tests.servers import RedisProcess, free_port

PAGE = page("jobs.md")
FILES = {block.split()[1]: block for block in blocks(PAGE)}
SETTINGS = dict(re.findall(r"(ENRICHER_\w+)=(\S+)", PAGE))
COMMANDS = re.findall(r"^\$ (python .*)$", "".join(blocks(PAGE, "console")), re.MULTILINE)
CLASSES = [name for name in FILES if "/" in name]
(README,) = (
    block for block in blocks((ROOT / "README.md").read_text(encoding="utf-8")) if "perform" in block
)


def rows(section: str, text: str = PAGE) -> list[list[str]]:
    """The rows of the first table of a section, cell by cell, without its head."""
    lines = re.findall(
        r"^\|(.*)\|$", re.split(rf"^#+ {section}\n", text, flags=re.MULTILINE)[1], re.MULTILINE
    )
    found = [[cell.strip() for cell in line.split("|")] for line in lines]
    head = [at for at, row in enumerate(found) if set("".join(row)) <= {"-"}]
    return found[2 : head[1] - 1 if len(head) > 1 else None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the page."""
    folder = tmp_path_factory.mktemp("page")
    (folder / "shop").mkdir()
    for name, text in {**FILES, "of_readme.py": README}.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with RedisProcess(tmp_path_factory.mktemp("jobs") / "redis") as server:
        yield {"REDIS_URL": server.url}


@pytest.fixture(scope="module")
def listen() -> str:
    """Where the worker listens."""
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="module")
def worker(folder: Path, urls: dict[str, str], listen: str) -> Iterator[Command]:
    given = {"ENRICHER_JOBS__PACKAGES": "shop, of_readme", "ENRICHER_WEB__LISTEN": listen, **urls}
    with Command(folder, "run", "--queues", "critical,default,low", **given) as command:
        yield command.until("ready")


@pytest.fixture(autouse=True)
def program(worker: Command, urls: dict[str, str]) -> Iterator[None]:
    connect(urls["REDIS_URL"])
    yield
    connect("")


def test_every_class_of_the_page_is_found(worker: Command) -> None:
    defined = re.findall(r"^class (\w+)\(Worker\)", "".join([*FILES.values(), README]), re.MULTILINE)
    assert len(CLASSES) == 5
    assert f"Registered {len(defined)} workers" in worker.events()
    assert "Registered worker CleanUpWorker with cron schedule: 0 2 * * *" in worker.events()
    assert "Registered worker PingWorker every 30 s" in worker.events()
    assert not [line for line in worker.logged() if line["level"] == "ERROR"]


@pytest.mark.parametrize(
    "name", ["of_readme.py", *(name for name in FILES if "/" not in name and "test" not in name)]
)
def test_every_program_runs(name: str, folder: Path, urls: dict[str, str]) -> None:
    done = ran(name, folder=folder, **urls)
    assert (done.returncode, done.stderr) == (0, "")
    told = {
        "place.py": "{'order': 7, 'text': 'Receipt 7 (de)'}",
        "web.py": "{'order': 8",
        "of_readme.py": "None",
    }.get(name, "")
    assert told in done.stdout


def test_its_tests_pass(folder: Path) -> None:
    done = ran("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_shop.py", folder=folder)
    assert done.returncode == 0, done.stdout
    assert "3 passed" in done.stdout


def test_payments_end_as_their_comments_say() -> None:
    paid, unknown, closed = (
        send("shop.payments.PaymentWorker", 1, bank=bank) for bank in ("a", "unknown", "closed")
    )
    assert paid.get(timeout=PATIENCE) == "paid"
    eventually(lambda: unknown.status == "REVOKED", "the cancelled one")
    eventually(lambda: closed.status == "FAILURE", "the one that was tried again")


def test_an_order_runs_its_step_once_and_enqueues_its_receipt_with_its_success() -> None:
    order = send("shop.orders.OrderWorker", 5)
    assert order.get(timeout=PATIENCE) == "1005, attempt 1"


def test_one_job_a_product_waits_or_runs(folder: Path, urls: dict[str, str]) -> None:
    program = """
from shop.stock import ReindexWorker

first = ReindexWorker.options(delay=3600).perform_async("a", reason="one")
assert ReindexWorker.perform_async("a", reason="another") == first
assert ReindexWorker.perform_async("b", reason="one") != first
assert first.cancel()
assert ReindexWorker.perform_async("a", reason="one") != first
"""
    done = ran("-c", program, folder=folder, **urls)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_table_of_attributes_is_that_of_the_class() -> None:
    told = {cell.strip("`"): default for cell, default, _ in rows("What a class says")}
    said = {name: getattr(Worker, name) for name in get_type_hints(Worker)}
    assert told.keys() == said.keys()
    for name, default in told.items():
        if default in ("none", "all") or "." in default or default == "the service's":
            assert said[name] in (None, ()), name
        else:
            value = eval(default.strip("`"))
            assert said[name] in (value, (value,)), name


def test_the_table_of_settings_is_that_of_the_section() -> None:
    told = {name: cell for cells, cell, _ in rows("Settings") for name in re.findall(r"`(\w+)`", cells)}
    settings = JobSettings()
    assert told.keys() == {field.name for field in msgspec.structs.fields(JobSettings)}
    assert told.pop("queues").split(", ") == list(settings.queues)
    assert told.pop("keep_finished") == told.pop("keep_for") == "10,000, 7 days"
    assert (settings.keep_finished, settings.keep_for) == (10_000, 7 * 86_400)
    assert (told.pop("max_payload"), settings.max_payload) == ("1 MiB", 2**20)
    for name, default in told.items():
        value = getattr(settings, name)
        if default == "none" or "." in default:
            assert value in (None, "", ()), name
        else:
            assert str(value).lower().removesuffix(".0") == default.removesuffix(" s"), name


@pytest.mark.parametrize("path", ["livez", "readyz", "metrics", "scale"])
def test_the_worker_answers_machines(path: str, listen: str) -> None:
    assert f"`/{path}`" in PAGE
    with urllib.request.urlopen(f"http://{listen}/{path}", timeout=PATIENCE) as answer:
        said = answer.read().decode()
    assert answer.status == 200
    figures = ("enricher_queue_jobs", "enricher_queue_oldest_seconds") if path in ("metrics", "scale") else ()
    assert all(name in said and f"`{name}`" in PAGE for name in figures)


def test_the_lines_of_the_log_are_those_of_the_program() -> None:
    written = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "enricher").rglob("*jobs/*.py"))
    named = [cells[0].strip("`") for cells in rows("What to watch")]
    assert len(named) > 6
    assert not [name for name in named if f'("{name}"' not in written]


@pytest.mark.parametrize("line", [line for line in COMMANDS if " run --" not in line])
def test_every_command_runs(line: str, folder: Path, urls: dict[str, str]) -> None:
    job = send("shop.receipts.ReceiptWorker", 5)
    job.get(timeout=PATIENCE)
    words = [job.id if word == "ID" else word for word in shlex.split(line)]
    if "tail" in words:
        with Command(folder, *words[3:], **SETTINGS, **urls) as tail:
            eventually(lambda: send("shop.receipts.ReceiptWorker", 6) and "Receipt" in tail.out, "what ends")
        return
    done = ran(*words[1:], folder=folder, **SETTINGS, **urls)
    assert done.returncode == 0, (done.stdout, done.stderr)


def test_every_key_is_one_of_the_table_and_a_worker_goes_on_when_all_are_gone(
    folder: Path, urls: dict[str, str]
) -> None:
    assert ran("enqueue.py", folder=folder, **urls).returncode == 0
    told = re.findall(r"`(\S+?)`", "".join(cells[0] for cells in rows("Keys")))
    known = re.findall(r"^    (\S+:\S+|celery\S+) ", calls.__doc__ or "", re.MULTILINE)
    assert set(told) == set(known)
    patterns = [re.sub(r"\\{\w+\\}", "[^:]+", re.escape(each)) for each in told]
    with redis.Redis.from_url(urls["REDIS_URL"], decode_responses=True) as client:
        keys = [key for key in client.scan_iter("*") if key.startswith(("jobs", "celery"))]
        assert len(keys) > 10
        assert not [key for key in keys if not any(re.fullmatch(pattern, key) for pattern in patterns)]
        client.flushall()
    assert send("shop.receipts.ReceiptWorker", 9).get(timeout=PATIENCE)["order"] == 9
