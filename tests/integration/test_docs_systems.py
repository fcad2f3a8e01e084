"""The example of docs/systems.md runs as it stands there: a program brings a system of its own."""

from __future__ import annotations

import asyncio
import importlib
import socket
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pymongo
import pytest
from redis import Redis
from structlog.testing import capture_logs

from enricher import BadMessage, ConfigError, Enricher, Insert, Route, Settings, load
from enricher.assembly import planned
from enricher.config import Section, Text
from enricher.config.types import Count
from enricher.system import Host, Plan, System
from tests.memory import MemoryLive
from tests.pages import blocks, page
from tests.rig import PATIENCE, until
from tests.servers import free_port

PAGE = page("systems.md")
EXAMPLE, EXAMPLE_OF_PAGES = blocks(PAGE)
ORDER = '{"id": %d, "product": "NIFTY", "quantity": %s, "price": 200.0}'


class Named(MemoryLive):
    """A sink under a name of its own."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


@pytest.fixture
def example(
    tmp_path: Path, redis_url: str, mongo_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> dict[str, Any]:
    (tmp_path / "order_system.py").write_text(EXAMPLE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "order_system", raising=False)
    monkeypatch.setenv("REDIS_URL", redis_url)
    monkeypatch.setenv("MONGO_URL", mongo_database_url)
    return vars(importlib.import_module("order_system"))


def settings_for(example: dict[str, Any], redis_url: str, mongo_url: str, **more: Any) -> Settings:
    overrides = {"redis.url": redis_url, "mongo.url": mongo_url, "market.enabled": False, **more}
    return load(overrides=overrides, sections={"orders": example["OrderSettings"]})


def orders_in(mongo_url: str) -> list[Any]:
    with pymongo.MongoClient[dict[str, Any]](mongo_url) as client:
        return list(client.get_default_database()["orders"].find().sort("_id", 1))


def test_it_is_short_and_runs_as_a_program(example: dict[str, Any], mongo_database_url: str) -> None:
    assert len(EXAMPLE.splitlines()) < 60
    asyncio.run(example["main"]())
    assert orders_in(mongo_database_url) == [{"_id": 1, "product": "NIFTY", "value": 15_000.0}]


async def test_its_settings_routes_indexes_and_summary_are_those_of_any_system(
    example: dict[str, Any], redis_url: str, mongo_database_url: str
) -> None:
    more = {"orders.channel": "mine", "orders.large": "20000"}
    settings = settings_for(example, redis_url, mongo_database_url, **more)
    with Redis.from_url(redis_url) as client:
        large = client.pubsub()
        large.subscribe("orders:large")
        with capture_logs() as logged:
            async with Enricher(settings, systems=[example["ORDERS"]]) as enricher:
                await asyncio.wait_for(enricher.wait_ready(), PATIENCE)
                client.publish("mine", ORDER % (1, 75))
                client.publish("mine", ORDER % (2, 150))
                await until(lambda: enricher.stats.total("processed") == 2, "both orders")
                with pytest.raises(BadMessage, match=r"\$\.quantity"):
                    await enricher.submit("mine", ORDER % (3, '"many"'), committed=True)
                with pytest.raises(BadMessage, match="at most 4096 bytes"):
                    await enricher.submit("mine", " " * 4097, committed=True)
        summary = [line for line in logged if line["event"] == "orders"][-1]
        assert (summary["processed"], summary["refused"]) == (2, 2)
        heard = Counter(message["type"] for message in iter(lambda: large.get_message(timeout=0.2), None))
        assert heard["message"] == 1
    assert [order["value"] for order in orders_in(mongo_database_url)] == [15_000.0, 30_000.0]
    with pymongo.MongoClient[dict[str, Any]](mongo_database_url) as mongo:
        assert "product_1_value_-1" in mongo.get_default_database()["orders"].index_information()


async def test_it_is_off_when_its_section_says_so_and_at_its_defaults_when_none_does(
    example: dict[str, Any], redis_url: str, mongo_database_url: str
) -> None:
    off = settings_for(example, redis_url, mongo_database_url, **{"orders.enabled": False})
    on = load(
        overrides={"redis.url": redis_url, "mongo.url": mongo_database_url, "market.enabled": False}
    )
    for settings, topics in ((off, []), (on, ["orders:new"])):
        async with Enricher(settings, systems=[example["ORDERS"]]) as enricher:
            assert [route.topic for route in enricher.engine.router.routes] == topics


async def test_a_route_says_that_its_messages_come_by_a_stream_or_from_nowhere(
    example: dict[str, Any], redis_url: str, mongo_database_url: str
) -> None:
    def store(event: Any, context: Any) -> list[Insert]:
        return [Insert("kept", {"_id": event})]

    def plan(section: Any, host: Host) -> Plan:
        kept = Route(topic="kept", handler=store, intake="stream")
        return Plan(routes=[kept, Route(topic="mine", handler=store, intake="none")])

    system = System(name="orders", settings=example["OrderSettings"], plan=plan)
    settings = settings_for(example, redis_url, mongo_database_url)
    with Redis.from_url(redis_url) as client:
        for published, number in (("kept", 1), ("kept", 2)):
            async with Enricher(settings, systems=[system]) as enricher:
                await asyncio.wait_for(enricher.wait_ready(), PATIENCE)
                assert client.publish("mine", "0") == 0
                assert client.publish(published, str(number)) == 1
                await until(lambda: enricher.stats.total("processed") == 1, "the message")
                await enricher.submit("mine", str(number + 10), committed=True)
        assert client.xlen("enricher:intake:worker-enricher") == 2
    with pymongo.MongoClient[dict[str, Any]](mongo_database_url) as mongo:
        found = mongo.get_default_database()["kept"].distinct("_id")
    assert sorted(found) == [1, 2, 11, 12]


async def test_a_system_brings_its_own_sinks_under_names_of_their_own(
    example: dict[str, Any], redis_url: str, mongo_database_url: str
) -> None:
    settings = settings_for(example, redis_url, mongo_database_url)

    def of_sinks(*names: str) -> System:
        def plan(section: Any, host: Host) -> Plan:
            return Plan(sinks=[Named(name) for name in names])

        return System(name="orders", settings=example["OrderSettings"], plan=plan)

    replaced = Named("mine")
    async with Enricher(settings, systems=[of_sinks("mine", "other")], sinks=[replaced]) as enricher:
        sinks = {sink.name: sink for sink in enricher.engine.sinks}
    assert sinks["mine"] is replaced
    assert type(sinks["other"]) is Named
    for name in ("live", "documents", "dead_letters"):
        with pytest.raises(ConfigError, match=f"sinks = '{name}': expected a name that no other sink has"):
            async with Enricher(settings, systems=[of_sinks(name)]):
                pass


async def test_a_system_takes_the_place_of_a_shipped_one_of_its_name(
    example: dict[str, Any], redis_url: str, mongo_database_url: str
) -> None:
    def nothing(section: Any, host: Host) -> Plan:
        return Plan(notes=[host.instance])

    settings = load(overrides={"redis.url": redis_url, "mongo.url": mongo_database_url})
    quiet = System(name="market", settings="enricher.market.settings:MarketSettings", plan=nothing)
    async with Enricher(settings, systems=[quiet]) as enricher:
        assert not enricher.engine.router.routes
    other = System(name="market", settings=example["OrderSettings"], plan=nothing)
    with pytest.raises(ConfigError, match=r"market = 'MarketSettings': expected .*OrderSettings"):
        async with Enricher(settings, systems=[other]):
            pass


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["redis"], "a system is called 'redis': expected small letters.* and none of service, redis"),
        (["Orders"], "a system is called 'Orders'"),
        (["a.b"], r"a system is called 'a\.b'"),
        (["a__b"], "a system is called 'a__b'"),
        ([""], "a system is called ''"),
        (["ours", "ours"], "two systems are called 'ours': the second would replace the first"),
    ],
)
def test_the_name_of_a_system_is_its_own(
    example: dict[str, Any], names: list[str], message: str
) -> None:
    systems = [msgspec.structs.replace(example["ORDERS"], name=name) for name in names]
    with pytest.raises(ValueError, match=message):
        Enricher(Settings(), systems=systems)
    if len(names) == 1:
        with pytest.raises(ValueError, match=message):
            load(sections={names[0]: example["OrderSettings"]})


def test_what_is_no_system_no_section_and_no_plan_is_named(example: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=r"systems has 'market': expected an enricher.system.System"):
        Enricher(Settings(), systems=["market"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match=r"section 'orders' is .*dict.*: expected a subclass of Section"):
        load(sections={"orders": dict})  # type: ignore[dict-item]
    for wrong in (None, []):
        system = System(name="ours", settings=example["OrderSettings"], plan=lambda *_, made=wrong: made)  # type: ignore[misc]
        settings = load(sections={"ours": example["OrderSettings"]})
        with pytest.raises(TypeError, match=r"the plan of system 'ours' returned .*: expected a Plan"):
            planned(settings, {"systems": [system]})


def test_a_setting_without_a_default_has_to_be_set() -> None:
    class Needy(Section, frozen=True, kw_only=True):
        account: Text
        size: Count

    sections = {"needy": Needy}
    with pytest.raises(ConfigError, match=r"default: needy.account = 'not set': expected a value") as raised:
        load(sections=sections, overrides={"needy.size": "none"})
    assert "needy.size = 'none': expected a whole number of at least 1" in str(raised.value)
    settings = load(sections=sections, overrides={"needy.account": "a", "needy.size": "2"})
    assert settings.section(Needy) == Needy(account="a", size=2)


def test_an_unknown_option_is_refused_with_the_known_ones() -> None:
    with pytest.raises(TypeError, match="unknown option 'handler'; known: systems, routes"):
        Enricher(Settings(), handler=print)  # type: ignore[call-arg]


async def test_its_pages_take_orders_and_show_them(
    redis_url: str, mongo_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shop_system.py").write_text(EXAMPLE_OF_PAGES, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "shop_system", raising=False)
    example = importlib.import_module("shop_system")
    port, own = free_port(), free_port()
    given = {"redis.url": redis_url, "mongo.url": mongo_database_url, "market.enabled": False}
    listens = {"web.listen": f"127.0.0.1:{port}", "shop.listen": f"127.0.0.1:{own}"}
    settings = load(overrides={**given, **listens}, sections={"shop": example.ShopSettings})
    async with Enricher(settings, systems=[example.SHOP]) as enricher, httpx.AsyncClient() as client:
        await asyncio.wait_for(enricher.wait_ready(), PATIENCE)
        for number, place in enumerate((port, own)):
            url = f"http://127.0.0.1:{place}/orders"
            await until(lambda place=place: answers(place), "the address")
            taken = await client.post(url, json={"id": number, "pieces": 3})
            assert (taken.status_code, taken.json()) == (202, {"id": number})
            assert (await client.get(f"{url}/{number}")).json() == {"_id": number, "pieces": 3}
            assert (await client.get(f"{url}/9")).status_code == 404
            assert (await client.post(url, content=b"no JSON")).status_code == 500
        await enricher.submit("shop", '{"id": 7, "pieces": 1}', committed=True)
    assert [order["_id"] for order in orders_in(mongo_database_url)] == [0, 1, 7]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
