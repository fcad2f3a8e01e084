"""A page of an endpoint, a configuration and a task for FastAPI and Celery that lies beside the checkout.

All three run as they lie there, on a repository that keeps its rows in memory, beside our worker: the same
events get the same answers, and the same comes of them.
"""

from __future__ import annotations

import ast
import asyncio
import importlib
import json
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fastapi
import httpx
import pytest
import redis

from enricher import load
from tests.conftest import PAGES_OF_EVENTS
from tests.integration.commands import Command, eventually
from tests.integration.test_events_http import listens
from tests.pages import blocks, page
from tests.servers import Urls, free_port

(FILE,) = PAGES_OF_EVENTS
BLOCKS = blocks(FILE.read_text(encoding="utf-8"))
(ENDPOINT,) = (block for block in BLOCKS if "@router.post" in block)
(CONFIGURATION,) = (block for block in BLOCKS if "def get_celery_config" in block)
(TASK,) = (block for block in BLOCKS if "@celery_app.task" in block)

# What the page takes for granted: a schema and its pipeline, a session, a model and its repository.
PIPELINES = """
from pydantic import BaseModel

from enricher.events import Node, Pipeline, Router, TaskContext


class EventSchema(BaseModel):
    ticket: int
    message: str
    urgent: bool = False


class Analyse(Node):
    def process(self, task_context: TaskContext) -> TaskContext:
        task_context.nodes["Analyse"] = {"words": len(task_context.event.message.split())}
        return task_context


class Choose(Router):
    def route(self, task_context):
        return Call if task_context.event.urgent else None


class Call(Node):
    async def process(self, task_context: TaskContext) -> TaskContext:
        task_context.nodes["Call"] = True
        return task_context


class SupportPipeline(Pipeline):
    event = EventSchema
    start = Analyse
    nodes = {Analyse: [Choose], Choose: [Call]}
"""
GIVEN = """
import json
import os
import uuid
from contextlib import contextmanager
from functools import lru_cache
from http import HTTPStatus

from celery import Celery
from fastapi import APIRouter, Depends, Response

from enricher.events import ElasticsearchIndexNode, PipelineRegistry
from pipelines.support import EventSchema, SupportPipeline

PipelineRegistry.register(SupportPipeline)
router = APIRouter(prefix="/events")
ROWS = {}


class Session:
    pass


def db_session():
    yield Session()


class Event:
    def __init__(self, data):
        self.id = uuid.uuid4()
        self.data = data
        self.task_context = None


class GenericRepository:
    def __init__(self, session, model):
        assert isinstance(session, Session)

    def create(self, obj):
        ROWS[str(obj.id)] = obj

    update = create

    def get(self, id):
        return ROWS[id]
"""
EVENTS = [
    {"ticket": 1, "message": "it does not work"},
    {"ticket": "2", "message": "", "urgent": True, "colour": "red"},
    {"ticket": 3, "message": "ü \U0001f600", "urgent": "yes"},
]
REFUSED = [{}, {"ticket": "x", "message": 7}, [], "text", {"ticket": 1, "message": None, "urgent": "perhaps"}]


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[Any]:
    """The module of the page, with its Celery on a Redis that is there."""
    (tmp_path / "pipelines").mkdir()
    (tmp_path / "pipelines" / "support.py").write_text(PIPELINES, encoding="utf-8")
    (tmp_path / "old_app.py").write_text("\n".join([GIVEN, CONFIGURATION, ENDPOINT, TASK]), encoding="utf-8")
    monkeypatch.setenv("PROJECT_NAME", "support")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("old_app")
    module.celery_app.conf.update(broker_url=redis_url, result_backend=redis_url)
    yield module
    module.PipelineRegistry.pipelines.pop("EventSchema")
    for name in ("old_app", "pipelines.support", "pipelines"):
        sys.modules.pop(name, None)


class OldClient:
    """Asks the endpoint of the page."""

    def __init__(self, router: fastapi.APIRouter) -> None:
        self._app = fastapi.FastAPI()
        self._app.include_router(router)

    def post(self, path: str, **given: Any) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self._app)
            async with httpx.AsyncClient(transport=transport, base_url="http://old") as client:
                return await client.post(path, **given)

        return asyncio.run(asked())


@pytest.fixture
def old_client(old: Any) -> OldClient:
    return OldClient(old.router)


@pytest.fixture
def new_client(tmp_path: Path, urls: Urls) -> Iterator[httpx.Client]:
    port = free_port()
    given = {
        "REDIS_URL": urls.redis,
        "MONGO_URL": urls.mongo,
        "ENRICHER_EVENTS__PACKAGES": "pipelines",
        "ENRICHER_MARKET__ENABLED": "false",
        "ENRICHER_WEB__LISTEN": f"127.0.0.1:{port}",
    }
    with (
        Command(tmp_path, "run", **given) as worker,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client,
    ):
        worker.until("ready")
        eventually(lambda: listens(port), "the web app")
        yield client


def id_in(answer: httpx.Response) -> str:
    assert answer.status_code == 202, answer.text
    (id_,) = re.findall("`(.*)`", json.loads(answer.text)["message"])
    return str(uuid.UUID(id_))


@pytest.mark.parametrize("event", EVENTS, ids=range(len(EVENTS)))
def test_an_event_gets_the_same_answer_and_the_same_comes_of_it(
    event: Any, old: Any, old_client: OldClient, new_client: httpx.Client, redis_url: str
) -> None:
    theirs, ours = (client.post("/events/", json=event) for client in (old_client, new_client))
    said, now_said = (json.loads(each.text)["message"] for each in (theirs, ours))
    assert now_said.replace(id_in(ours), "ID") == said.replace(id_in(theirs), "ID")
    # What the endpoint of the page has queued is what its task is called with.
    with redis.Redis.from_url(redis_url) as client:
        (queued,) = (json.loads(each) for each in client.lrange("celery", 0, -1))
    assert queued["headers"]["task"] == old.process_incoming_event.name == "process_incoming_event"
    (id_,) = old.ROWS
    assert id_ in queued["headers"]["argsrepr"]
    old.process_incoming_event(id_)
    found = eventually(lambda: ended(new_client, id_in(ours)), "its end")
    assert found["data"] == old.ROWS[id_].data
    before, now = old.ROWS[id_].task_context, found["task_context"]
    # Here no search server is named: the worker adds no such node, and that of the task is skipped.
    assert before["nodes"].pop("ElasticsearchIndexNode", None) is None
    assert (now["event"], now["nodes"]) == (before["event"], before["nodes"])
    assert now["metadata"]["routes"] == before["metadata"]["routes"]


def ended(client: httpx.Client, id_: str) -> Any:
    event = client.get(f"/events/{id_}").json()
    return event["status"] == "SUCCESS" and event


def test_what_is_refused_is_refused_for_the_same_reasons(
    old_client: OldClient, new_client: httpx.Client
) -> None:
    for event in REFUSED:
        theirs, ours = (client.post("/events/", json=event) for client in (old_client, new_client))
        assert theirs.status_code == ours.status_code == 422, event
        places = [[each["loc"] for each in answer.json()["detail"]] for answer in (theirs, ours)]
        assert places[0] == places[1], event
        if isinstance(event, dict):
            kinds = [[each["type"] for each in answer.json()["detail"]] for answer in (theirs, ours)]
            assert kinds[0] == kinds[1], event
    json_ = {"content-type": "application/json"}
    for broken in (b'{"ticket": 1,', b"{'ticket': 1}", b'{"ticket": 1} more'):
        theirs, ours = (
            client.post("/events/", content=broken, headers=json_).json()["detail"]
            for client in (old_client, new_client)
        )
        assert [{name: each[name] for name in each if name != "input"} for each in theirs] == ours


def test_its_redis_is_found_by_the_name_of_the_project(old: Any) -> None:
    given = {"PROJECT_NAME": "support", "ENRICHER_EVENTS__PACKAGES": "pipelines"}
    assert load(environ=given).redis.url == old.get_redis_url() == "redis://support_redis:6379/0"


def test_every_name_of_the_page_is_one_of_the_migration() -> None:
    """What its programs call, set and define, but for Python's own."""
    told = page("events.md").split("## From FastAPI and Celery")[1]
    pythons = {
        "json",
        "dumps",
        "str",
        "os",
        "getenv",
        "lru_cache",
        "HTTPStatus",
        "ACCEPTED",
        "Response",
        "id",
    }
    local = {"redis_host", "redis_url", "repository", "session", "event", "data", "task_id", "pipeline"}
    names = set[str]()
    for node in (node for block in BLOCKS for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.Name | ast.FunctionDef):
            names.add(node.id if isinstance(node, ast.Name) else node.name)
        elif isinstance(node, ast.Attribute):
            names.add(node.attr)
        elif isinstance(node, ast.Dict):
            names |= {key.value for key in node.keys if isinstance(key, ast.Constant)}
    wanted = names - pythons - local - {"message", "handle_event", "event_id"}
    assert len(wanted) > 25
    assert not [name for name in wanted if not re.search(rf"\b{name}\b", told)]
