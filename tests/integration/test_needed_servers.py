"""Only servers that something needs are connected to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from enricher import Context, Effect, Enricher, Insert, Publish, Route, load
from enricher.cli.main import exit_code
from enricher.config import Section
from enricher.engine.effects import LIVE
from enricher.system import Host, Plan, System
from tests.integration.host import stored
from tests.memory import MemoryLive
from tests.rig import PATIENCE, until


class Door:
    """An address where nobody answers, and who has knocked."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        self.url = f"mongodb://127.0.0.1:{self._socket.getsockname()[1]}/d"

    @property
    def knocked(self) -> bool:
        try:
            self._socket.accept()
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._socket.close()


class Shelf(MemoryLive):
    """A sink of a system's own."""

    name = "shelf"


class Put(Publish, frozen=True):
    sink = "shelf"


class ShelfSettings(Section, frozen=True, kw_only=True):
    enabled: bool = True


def put(event: Any, context: Context) -> list[Effect]:
    return [Put("shelf", context.body)]


def system(shelf: Shelf, **more: Any) -> System:
    def plan(section: ShelfSettings, host: Host) -> Plan:
        route = Route(topic="parcels", handler=put, sinks=("shelf",), intake="none")
        return Plan(routes=[route], sinks=[shelf], **more)

    return System(name="shelves", settings=ShelfSettings, plan=plan)


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


@pytest.mark.parametrize("driver", ["motor", "pymongo"])
async def test_a_system_with_a_sink_of_its_own_alone_needs_no_mongodb(
    driver: str, redis_url: str, door: Door
) -> None:
    shelf = Shelf()
    off = {"market.enabled": False, "mongo.driver": driver, "retention.option_chains": "30d"}
    settings = load(overrides={"redis.url": redis_url, "mongo.url": door.url, **off})
    with capture_logs() as logged:
        async with Enricher(settings, systems=[system(shelf)]) as enricher:
            await asyncio.wait_for(enricher.wait_ready(), PATIENCE)
            await enricher.submit("parcels", b"{}", committed=True)
            assert enricher.health()["status"] == "ready"
    assert shelf.published == [("shelf", b"{}")]
    assert not door.knocked
    (line,) = [line for line in logged if line["event"] == "starting"]
    assert set(line["servers"]) == {"live", "dead_letters", "shelf"}


async def test_what_a_program_emits_is_stored_all_the_same(redis_url: str, mongo_database_url: str) -> None:
    settings = load(
        overrides={"redis.url": redis_url, "mongo.url": mongo_database_url, "market.enabled": False}
    )
    async with Enricher(settings, systems=[system(Shelf())]) as enricher:
        await enricher.wait_ready()
        enricher.emit(Insert("parcels", {"_id": 7}))
    assert stored(mongo_database_url, "parcels") == [7]


NEEDS: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"collections": ["boxes"]}, {}),
    ({"indexes": [("boxes", (("size", 1),))]}, {}),
    ({"patterns": ["boxes:*"]}, {}),
    ({}, {"sinks": ("documents",), "intake": "none"}),
    ({}, {"sinks": (LIVE,)}),  # what a subscription has missed is stored
]


@pytest.mark.parametrize(("of_plan", "of_route"), NEEDS)
async def test_collections_and_routes_that_store_or_subscribe_need_it(
    of_plan: dict[str, Any], of_route: dict[str, Any], redis_url: str, door: Door
) -> None:
    off: dict[str, Any] = {"market.enabled": False, "mongo.timeout": "1s"}
    settings = load(overrides={"redis.url": redis_url, "mongo.url": door.url, **off})
    routes = [Route(topic="mine", handler=put, **of_route)] if of_route else []
    async with Enricher(settings, systems=[system(Shelf(), **of_plan)], routes=routes) as enricher:
        await until(lambda: door.knocked, "a connection to MongoDB")
        assert not enricher.ready


@pytest.mark.usefixtures("nobodys_settings")
def test_check_asks_the_servers_that_are_needed(
    redis_url: str, door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    servers = ["--redis-url", redis_url, "--mongo-url", door.url, "--timeout", "300ms"]
    assert exit_code(["check", *servers]) == 1
    assert "MongoDB at mongodb://127.0.0.1" in capsys.readouterr().err
    assert door.knocked
    while door.knocked:
        pass
    assert exit_code(["check", *servers, "--set", "market.enabled=false"]) == 0
    out, err = capsys.readouterr()
    assert "MongoDB" not in out + err
    assert not door.knocked
