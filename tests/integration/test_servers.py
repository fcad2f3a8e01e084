"""The test servers and the proxy themselves do what the outage tests rely on."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pymongo
import pytest
import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.rig import PATIENCE
from tests.servers import FaultyProxy, MongoProcess, RedisProcess, first_reply


def plain(url: str, timeout: float = PATIENCE) -> redis.Redis:
    """A client that repeats nothing by itself."""
    return redis.Redis.from_url(url, socket_timeout=timeout, retry=Retry(NoBackoff(), 0))


async def until_answered(client: redis.Redis) -> None:
    """Connect, however long it takes."""
    while True:
        with contextlib.suppress(redis.TimeoutError):
            await client.ping()
            return


async def test_every_redis_found_starts_empty(any_redis_url: str) -> None:
    async with plain(any_redis_url) as client:
        assert await client.dbsize() == 0
        await client.set("a", 1)


def test_a_killed_redis_comes_back_on_its_port_with_its_data(own_redis: RedisProcess) -> None:
    own_redis.call("SET", "kept", "1")
    url = own_redis.url
    own_redis.kill()
    assert not own_redis.answers()
    own_redis.start()
    assert own_redis.url == url
    assert own_redis.call("GET", "kept") == b"$1\r\n1\r\n"


def test_a_frozen_redis_accepts_and_does_not_answer_until_it_resumes(
    own_redis: RedisProcess,
) -> None:
    own_redis.pause()
    assert first_reply(own_redis.port, b"PING\r\n", timeout=0.2) == b""
    own_redis.resume()
    assert own_redis.answers()


def test_a_killed_mongo_comes_back_on_its_port_with_its_data(own_mongo: MongoProcess) -> None:
    with pymongo.MongoClient[dict[str, object]](own_mongo.url("d")) as client:
        client["d"]["c"].insert_one({"_id": 1})
    own_mongo.kill()
    own_mongo.start()
    with pymongo.MongoClient[dict[str, object]](own_mongo.url("d")) as client:
        assert client["d"]["c"].count_documents({}) == 1


def test_the_test_database_is_named_in_its_url(mongo_database: str, mongo_database_url: str) -> None:
    with pymongo.MongoClient[dict[str, object]](mongo_database_url) as client:
        assert client.get_default_database().name == mongo_database


async def test_the_proxy_passes_everything_on_until_told_otherwise(redis_url: str) -> None:
    async with FaultyProxy(port_of(redis_url)) as proxy, plain(proxy.redis_url()) as client:
        assert await client.set("a", "x" * 300_000)
        assert await client.strlen("a") == 300_000
        assert await client.get("a") == b"x" * 300_000
        assert proxy.accepted >= 1


async def test_a_lost_reply_means_that_the_write_happened(redis_url: str) -> None:
    async with FaultyProxy(port_of(redis_url)) as proxy, plain(proxy.redis_url()) as client:
        await client.ping()
        proxy.lose_next_reply(only_if=lambda request: b"INCR" in request)
        with pytest.raises(redis.ConnectionError):
            await client.incr("n")
        assert proxy.lost_replies == 1
        assert await client.get("n") == b"1"


@pytest.mark.parametrize("fault", ["drop", "swallow_replies"])
async def test_swallowed_bytes_look_like_a_frozen_server(redis_url: str, fault: str) -> None:
    async with (
        FaultyProxy(port_of(redis_url)) as proxy,
        plain(proxy.redis_url(), timeout=0.3) as client,
        plain(redis_url) as patient,
    ):
        await until_answered(client)
        setattr(proxy, fault, True)
        with pytest.raises(redis.TimeoutError):
            await client.set("written", 1)
        proxy.heal()
        assert (await patient.get("written") is None) == (fault == "drop")


async def test_cut_and_refuse_end_connections_old_and_new(redis_url: str) -> None:
    async with FaultyProxy(port_of(redis_url)) as proxy, plain(proxy.redis_url()) as client:
        await client.ping()
        proxy.refuse = True
        proxy.cut()
        await asyncio.sleep(0)
        with pytest.raises(redis.ConnectionError):
            await client.ping()
        proxy.heal()
        assert await client.ping()


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1].split("/")[0])


def test_data_folders_of_two_processes_are_apart(tmp_path: Path) -> None:
    with RedisProcess(tmp_path / "a") as first, RedisProcess(tmp_path / "b") as second:
        first.call("SET", "x", "1")
        assert second.call("GET", "x").startswith(b"$-1")
