"""A failover: the replica takes over, the address leads to it, and the old primary goes on, read-only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel

from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.reconnect import own_client
from enricher.app import Enricher, wall_clock
from tests.integration.test_market_contract import chain, tick
from tests.integration.worker import CHAINS, TICKS, Worker, database, encoded, running, worker_settings
from tests.rig import until
from tests.servers import LOOPBACK, FaultyProxy, RedisProcess

QUICK = {"redis.socket_timeout": 2.0, "retry.max_delay": 0.2}
INTAKES = {
    "memory": QUICK,
    "stream": {**QUICK, "streams.intake": f"{TICKS}=stream,{CHAINS}=stream", "streams.block": 0.2},
}


class Pair:
    """A primary, its replica, and the address under which the primary is known."""

    def __init__(self, first: RedisProcess, second: RedisProcess, address: FaultyProxy) -> None:
        self.old, self.new, self.address = first, second, address

    async def fail_over(self) -> None:
        """Hand over without a loss, as an operator does; connections to the old primary stay."""
        self.old.call("FAILOVER", "TO", LOOPBACK, str(self.new.port))
        await until(lambda: b"role:master" in self.new.call("INFO", "replication"), "the new primary")
        await until(lambda: b"role:slave" in self.old.call("INFO", "replication"), "the old one's new role")
        self.address.target_port = self.new.port


@pytest.fixture
async def pair(own_redis: RedisProcess, tmp_path: Path) -> AsyncIterator[Pair]:
    replica = RedisProcess(tmp_path / "replica").start()
    try:
        own_redis.call("CONFIG", "SET", "repl-diskless-sync-delay", "0")
        replica.call("REPLICAOF", LOOPBACK, str(own_redis.port))
        await until(lambda: b"master_link_status:up" in replica.call("INFO", "replication"), "the replica")
        async with FaultyProxy(own_redis.port) as address:
            yield Pair(own_redis, replica, address)
    finally:
        replica.kill()


async def publish_ticks(client: Redis, first: int, number: int, start: int) -> None:
    """Ticks ``first`` to ``first + number`` and a chain."""
    async with client.pipeline(transaction=False) as pipeline:
        for n in range(first, first + number):
            pipeline.publish(TICKS, encoded(tick(100.0 + n, start + n * 1000, n)))
        pipeline.publish(CHAINS, encoded(chain(start + first)))
        await pipeline.execute()


@pytest.mark.parametrize("intake", INTAKES)
async def test_after_a_failover_the_work_goes_on_at_the_new_primary(
    pair: Pair, mongo_database_url: str, intake: str
) -> None:
    start = wall_clock() - 1_000_000

    def landed(worker: Worker, ticks: int, chains: int) -> bool:
        return (
            len(worker.stored("underlying_ticks")) == ticks
            and len(worker.stored("option_chains")) == chains
            and not worker.enricher.engine.pool.count
        )

    async with (
        running(
            pair.old.url, mongo_database_url, INTAKES[intake], through={"redis.url": pair.address.redis_url()}
        ) as worker,
        Redis.from_url(pair.new.url) as new,
    ):
        await publish_ticks(worker.redis, 0, 50, start)
        await until(lambda: landed(worker, 50, 1), "what came before")
        await pair.fail_over()
        # The old primary still hears of what is published, as a replica does.
        await publish_ticks(new, 50, 50, start)
        await until(lambda: landed(worker, 100, 2), "what came after")
        await until(lambda: worker.enricher.health()["status"] == "ready", "health")
        assert [d["tick_id"] for d in worker.stored("underlying_ticks")] == list(range(100))
        assert await new.get("latest:underlying:NIFTY") is not None
        assert b'"price":199.0' in await new.get("latest:underlying:NIFTY")
        assert await new.llen("dlq:enrichment") == 0
        assert worker.enricher.stats.total("processed") == 102


class SentinelProcess(RedisProcess):
    """A Sentinel that watches one primary and may decide alone."""

    def __init__(self, folder: Path, watched: RedisProcess) -> None:
        super().__init__(folder)
        self.watched = watched

    def command(self) -> list[str]:
        file = self.folder / "sentinel.conf"
        file.write_text(
            f"port {self.port}\nbind {LOOPBACK}\ndir {self.folder}\n"
            f"sentinel monitor main {LOOPBACK} {self.watched.port} 1\n"
            "sentinel down-after-milliseconds main 400\nsentinel failover-timeout main 3000\n"
        )
        return [str(self.binary), str(file), "--sentinel"]


@pytest.mark.parametrize("by", ["url", "host's client"])
async def test_sentinels_say_who_is_the_primary_when_the_old_one_is_killed(
    pair: Pair, tmp_path: Path, mongo_database_url: str, by: str
) -> None:
    sentinel = SentinelProcess(tmp_path / "sentinel", pair.old)
    sentinel.start()
    url = f"redis+sentinel://{LOOPBACK}:{sentinel.port}/main"
    watch = Sentinel([(LOOPBACK, sentinel.port)], socket_timeout=2.0)
    host = watch.master_for("main") if by == "host's client" else None
    settings = worker_settings(url, mongo_database_url, INTAKES["stream"])
    documents = database(mongo_database_url)
    start = wall_clock() - 1_000_000

    def stored() -> int:
        return int(documents["underlying_ticks"].count_documents({}))

    try:
        replica = str(pair.new.port).encode()
        await until(lambda: replica in sentinel.call("SENTINEL", "REPLICAS", "main"), "the replica's name")
        async with Enricher(settings, redis=host) as enricher, redis_client(url, socket_timeout=5) as client:
            await asyncio.wait_for(enricher.wait_ready(), 30)
            await publish_ticks(client, 0, 50, start)
            await until(lambda: stored() == 50 and not enricher.engine.pool.count, "what came before")
            assert await client.wait(1, 5000) == 1
            pair.old.kill()
            await until(lambda: b"role:master" in pair.new.call("INFO", "replication"), "the new primary")
            hears = b"market:underlying\r\n:1"
            await until(lambda: hears in pair.new.call("PUBSUB", "NUMSUB", TICKS), "a reader there")
            await publish_ticks(client, 50, 50, start)
            await until(lambda: stored() == 100 and not enricher.engine.pool.count, "what came after")
            assert b'"price":199.0' in await client.get("latest:underlying:NIFTY")
            assert await client.llen("dlq:enrichment") == 0
            await until(lambda: enricher.health()["status"] == "ready", "health")
    finally:
        sentinel.kill()
        documents.client.close()
        if host is not None:
            await host.aclose()
        await watch.aclose()


async def test_a_client_leaves_a_server_that_has_become_a_replica(pair: Pair) -> None:
    async with redis_client(pair.address.redis_url(), socket_timeout=2) as client:
        await client.set("a", 1)
        await pair.fail_over()
        with pytest.raises(Exception, match="read only replica"):
            await client.set("a", 2)
        await client.set("a", 3)
        assert b"3" in pair.new.call("GET", "a")


@pytest.mark.parametrize("by", ["url", "host's client"])
async def test_sentinels_are_asked_from_another_event_loop_too(pair: Pair, tmp_path: Path, by: str) -> None:
    sentinel = SentinelProcess(tmp_path / "sentinel", pair.old)
    sentinel.start()
    watch = Sentinel([(LOOPBACK, sentinel.port)], socket_timeout=2.0)
    url = f"redis+sentinel://{LOOPBACK}:{sentinel.port}/main"
    client = redis_client(url, socket_timeout=5) if by == "url" else watch.master_for("main")

    async def ask() -> bytes:
        async with own_client(client, same_loop=False) as own:
            await own.set("asked", "elsewhere")
            return bytes(await own.get("asked"))

    try:
        await client.set("asked", "here")  # so that there are connections of this loop
        assert await asyncio.to_thread(asyncio.run, ask()) == b"elsewhere"
        assert await client.get("asked") == b"elsewhere"
    finally:
        sentinel.kill()
        await client.aclose()
