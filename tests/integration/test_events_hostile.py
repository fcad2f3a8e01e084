"""A hostile visitor: each request is refused in a sentence, and nothing of it is left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import psutil
import pymongo
import pytest

from tests.integration.commands import Command, eventually
from tests.integration.hostile_requests import REQUESTS, Hostile, answer, post, ticket
from tests.integration.test_events_http import listens
from tests.rig import until
from tests.servers import Urls, free_port

APP = """
from typing import Any

from enricher.events import Event, Node, Pipeline, TaskContext


class Ticket(Event):
    text: str
    urgent: bool = False
    more: Any = None


class Read(Node):
    async def process(self, context: TaskContext) -> TaskContext:
        return context


class TicketPipeline(Pipeline):
    event = Ticket
    start = Read
"""
FEW_FILES = """
import resource

resource.setrlimit(resource.RLIMIT_NOFILE, (300, 300))
from enricher.__main__ import main

main()
"""
GROWN = 24 * 1_048_576
AT_ONCE = 16


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def worker(tmp_path: Path, urls: Urls, port: int) -> Iterator[Command]:
    (tmp_path / "tickets.py").write_text(APP)
    with Command(tmp_path, "run", **environment(urls, port)) as command:
        command.until("ready")
        eventually(lambda: listens(port), "the web app")
        yield command


def environment(urls: Urls, port: int) -> dict[str, str]:
    return {
        "REDIS_URL": urls.redis,
        "MONGO_URL": urls.mongo,
        "ENRICHER_MARKET__ENABLED": "false",
        "ENRICHER_EVENTS__PACKAGES": "tickets",
        "ENRICHER_WEB__LISTEN": f"127.0.0.1:{port}",
        "ENRICHER_WEB__HEADER_TIMEOUT": "1",
        "ENRICHER_WEB__BODY_TIMEOUT": "1",
    }


def memory(worker: Command) -> int:
    return psutil.Process(worker.process.pid).memory_info().rss


async def visit(port: int) -> None:
    """Send every request, and look at every answer."""
    slots = asyncio.Semaphore(AT_ONCE)
    wrong = []

    async def one(at: int) -> None:
        async with slots:
            request = REQUESTS[at]
            status, body = await answer(port, request)
        said = json.loads(body).get("detail") if body else ""
        if status not in request.statuses or bool(said) != bool(status) or len(body) > 10_000:
            wrong.append((request.name, status, body[:200]))

    async with asyncio.TaskGroup() as tasks:
        for at in range(len(REQUESTS)):
            tasks.create_task(one(at))
    assert not wrong, "\n".join(map(str, wrong))


async def test_each_of_200_hostile_requests_is_refused_in_a_sentence_and_leaves_nothing(
    worker: Command, port: int, urls: Urls
) -> None:
    assert len(REQUESTS) >= 200
    await visit(port)
    before = memory(worker)
    for _ in range(3):
        await visit(port)
    assert memory(worker) - before < GROWN
    with pymongo.MongoClient[dict[str, object]](urls.mongo) as client:
        assert client.get_default_database()["events"].count_documents({}) == 0
    assert "Traceback" not in worker.out + worker.err
    assert not [line for line in worker.logged() if line["level"] in ("ERROR", "WARNING")]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(ticket()))
    assert b" 202 " in await reader.readline()
    writer.close()


async def test_a_thousand_connections_that_do_nothing_keep_nobody_waiting(worker: Command, port: int) -> None:
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(1000)]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(post(ticket()))
    assert b" 202 " in await reader.readline()
    for each in (writer, *(writer for _, writer in idle)):
        each.close()
    assert "Traceback" not in worker.out + worker.err


async def test_more_connections_than_there_may_be_files_harm_nobody(
    tmp_path: Path, urls: Urls, port: int
) -> None:
    (tmp_path / "tickets.py").write_text(APP)
    program = ("-c", FEW_FILES, "run")
    with Command(tmp_path, program=program, **environment(urls, port)) as worker:
        worker.until("ready", "few_connections")
        await until(lambda: listens(port), "the web app")
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(400)]
        await until(lambda: "connection_refused" in worker.events(), "the first refusal")
        refused = [await reader.read(12) for reader, _ in opened[-100:]]
        assert set(refused) <= {b"HTTP/1.1 503", b""}
        for _, writer in opened:
            writer.close()

        async def accepted() -> bool:
            request = Hostile("an event", [post(ticket())], ())
            return (await answer(port, request))[0] == 202

        await until(accepted, "an event that is accepted")
        assert "Traceback" not in worker.out + worker.err
        assert not [line for line in worker.logged() if line["level"] == "ERROR"]
