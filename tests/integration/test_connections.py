"""The whole worker over every way to reach its servers, and over connections that are lost on the way."""

from __future__ import annotations

import asyncio
import logging
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from socket import create_connection
from typing import Any

import pymongo
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from enricher.adapters.mongo import Driver, MongoDocuments, close_client, mongo_client
from enricher.adapters.redis.client import redis_client
from enricher.app import Enricher, wall_clock
from enricher.cli.main import exit_code
from enricher.engine.effects import Insert
from enricher.engine.ports import Write
from enricher.errors import SinkUnavailable
from tests.integration.test_market_contract import chain, quote, tick
from tests.integration.worker import CHAINS, QUOTES, TICKS, Worker, encoded, running, worker_settings
from tests.rig import PATIENCE, until
from tests.servers import (
    LOOPBACK,
    FaultyProxy,
    MongoProcess,
    RedisProcess,
    debian_redis_binary,
    free_port,
    redis_binaries,
)

SECRET = "cannot-be-guessed-17"
DRIVERS: tuple[Driver, ...] = ("motor", "pymongo")
# The bundled Valkey is built without TLS; Debian's redis-server has it.
WITH_TLS = [binary for binary in [debian_redis_binary()] if binary is not None]
QUICK = {
    "redis.socket_timeout": 0.5,
    "redis.canary_interval": 0.1,
    "redis.canary_timeout": 0.5,
    "retry.max_delay": 0.1,
    "mongo.timeout": 1,
}


async def does_its_work(worker: Worker) -> None:
    """One message of each kind goes through: stored, cached and published."""
    now = wall_clock()
    await worker.send(TICKS, tick(21503.45, now))
    await worker.send(QUOTES, quote(at_us=now))
    await worker.take(CHAINS, chain(now))
    assert [d["price"] for d in worker.stored("underlying_ticks")] == [21503.45]
    assert [d["strike"] for d in worker.stored("option_quotes")] == [21500]
    assert len(worker.stored("option_chains")) == 1
    assert (await worker.cached("latest:underlying:NIFTY"))["price"] == 21503.45
    assert [m["price"] for m in worker.published("underlying")] == [21503.45]
    assert len(worker.published("option_chain")) == 1
    assert await worker.letters() == []


@asynccontextmanager
async def without_a_worker(url: str) -> AsyncIterator[Redis]:
    """A client of the server at ``url``."""
    client = Redis.from_url(url)
    try:
        yield client
    finally:
        await client.aclose()


# -- ways to reach Redis ---------------------------------------------------------------------------


async def test_a_password_for_everybody_is_given(own_redis: RedisProcess, mongo_database_url: str) -> None:
    own_redis.call("CONFIG", "SET", "requirepass", SECRET)
    async with running(f"redis://:{SECRET}@{LOOPBACK}:{own_redis.port}/0", mongo_database_url) as worker:
        await does_its_work(worker)


async def test_a_user_needs_no_more_than_its_keys_channels_and_commands(
    own_redis: RedisProcess, mongo_database_url: str
) -> None:
    allowed = ["~*", "&*", "+@all", "-@admin", "-@dangerous", "+info"]
    own_redis.call("ACL", "SETUSER", "worker", "on", f">{SECRET}", *allowed)
    own_redis.call("ACL", "SETUSER", "default", "off")
    url = f"redis://worker:{SECRET}@{LOOPBACK}:{own_redis.port}/0"
    async with running(url, mongo_database_url) as worker:
        await does_its_work(worker)


@pytest.mark.parametrize("name", list(redis_binaries()))
async def test_a_unix_socket_serves_as_well_as_a_port(
    name: str, tmp_path: Path, mongo_database_url: str
) -> None:
    socket = tmp_path / "s"
    binary = redis_binaries()[name]
    with RedisProcess(tmp_path / "r", binary=binary, extra=("--unixsocket", str(socket))):
        async with running(f"unix://{socket}?db=2", mongo_database_url) as worker:
            await does_its_work(worker)
        async with without_a_worker(f"unix://{socket}?db=0") as other:
            assert await other.dbsize() == 0


@pytest.mark.parametrize("protocol", [2, 3])
async def test_both_protocols_carry_the_same_work(
    protocol: int, any_redis_url: str, mongo_database_url: str
) -> None:
    async with running(any_redis_url, mongo_database_url, {"redis.protocol": protocol}) as worker:
        await does_its_work(worker)
        spoken = {c["resp"] for c in await worker.redis.client_list() if c["name"] == "worker-enricher"}
    assert spoken == {str(protocol)}


def certified(folder: Path) -> tuple[Path, Path]:
    """A new key, and the certificate that a server on this host signs with it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-days", "2", "-subj", "/CN=localhost", "-addext", f"subjectAltName=IP:{LOOPBACK}",
         "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    return key, certificate


@pytest.mark.parametrize("binary", WITH_TLS)
async def test_tls_is_spoken_to_a_server_whose_certificate_is_trusted_and_to_no_other(
    binary: Path, tmp_path: Path, mongo_database_url: str
) -> None:
    (key, certificate), port = certified(tmp_path), free_port()
    tls = ("--tls-port", str(port), "--tls-auth-clients", "no")
    files = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    with RedisProcess(tmp_path / "r", binary=binary, extra=(*tls, *files)):
        url = f"rediss://{LOOPBACK}:{port}/0"
        async with running(f"{url}?ssl_ca_certs={certificate}", mongo_database_url) as worker:
            await does_its_work(worker)
        async with running(url, mongo_database_url, QUICK, ready=False) as worker:

            def refused() -> bool:  # a slow machine may find it too late at first
                return "certificate" in worker.enricher.health()["outages"].get("live", "")

            await until(refused, "a refused certificate")
            assert not worker.enricher.ready


async def test_options_in_the_redis_url_win(redis_url: str, mongo_database_url: str) -> None:
    url = redis_url.removesuffix("/0") + "/3?socket_timeout=2&client_name=market-one&max_connections=7"
    client = redis_client(url, socket_timeout=5, client_name="worker-enricher")
    kept = client.connection_pool.connection_kwargs
    assert (kept["socket_timeout"], kept["db"], client.connection_pool.max_connections) == (2, 3, 7)
    await client.aclose()
    async with running(url, mongo_database_url) as worker:
        await does_its_work(worker)
        names = {c["name"] for c in await worker.redis.client_list()}
        assert "market-one" in names
        assert "worker-enricher" not in names
    async with without_a_worker(redis_url) as other:
        assert await other.dbsize() == 0


async def test_dead_letters_go_to_a_redis_of_their_own_and_only_they_wait_for_it(
    redis_url: str, own_redis: RedisProcess, mongo_database_url: str
) -> None:
    own = {"dead_letters.url": own_redis.url, **QUICK}
    async with running(redis_url, mongo_database_url, own) as worker:
        await worker.take(TICKS, b"no JSON")
        async with without_a_worker(own_redis.url) as other:
            assert await other.llen("dlq:enrichment") == 1
        own_redis.kill()
        await worker.send(TICKS, b"no JSON either")
        await until(lambda: "dead_letters" in worker.enricher.health()["outages"], "the outage")
        await worker.send(TICKS, tick(21503.45, wall_clock()))
        await until(lambda: worker.stored("underlying_ticks"), "a tick that needs no dead letters")
        own_redis.start()
        await worker.settled()
        async with without_a_worker(own_redis.url) as other:
            assert await other.llen("dlq:enrichment") == 2
        assert await worker.letters() == []


# -- ways to reach MongoDB -------------------------------------------------------------------------


@pytest.mark.parametrize("driver", DRIVERS)
async def test_both_drivers_do_the_same_work(driver: str, redis_url: str, mongo_database_url: str) -> None:
    options = {"mongo.driver": driver}
    async with running(redis_url, mongo_database_url, options) as worker:
        await does_its_work(worker)
    async with running(redis_url, mongo_database_url, options) as worker:
        await worker.take(TICKS, tick(21600, wall_clock(), 2))
        window = await worker.cached("ohlc:NIFTY:5m")
    assert (window["num_ticks"], window["open"], window["close"]) == (2, 21503.45, 21600)


@pytest.mark.parametrize("driver", DRIVERS)
async def test_options_in_the_mongo_url_win(driver: Any, mongo_process: MongoProcess) -> None:
    url = mongo_process.url() + "&socketTimeoutMS=2500&appName=market"
    client = mongo_client(url, driver=driver, timeout=10)
    try:
        kept = client.options.pool_options
        assert (kept.socket_timeout, kept.connect_timeout, kept.appname) == (2.5, 10, "market")
        assert client.options.write_concern.document == {"w": "majority", "j": True}
    finally:
        await close_client(client)


class MongoOverTls(MongoProcess):
    """A server that speaks nothing but TLS."""

    def answers(self) -> bool:
        with suppress(OSError), create_connection((LOOPBACK, self.port), timeout=10):
            return True
        return False


async def test_documents_of_any_size_go_over_tls_by_both_drivers(tmp_path: Path) -> None:
    key, certificate = certified(tmp_path)
    server = MongoOverTls(tmp_path / "m")
    server.extra = ("--tls-cert-file", str(certificate), "--tls-key-file", str(key))
    large = [Write([Insert("c", {"_id": n, "text": "x" * 500_000})]) for n in range(8)]
    with server:
        url = f"{server.url()}&tls=true"
        for driver in DRIVERS:
            client = mongo_client(f"{url}&tlsCAFile={certificate}", driver=driver, timeout=PATIENCE)
            sink = MongoDocuments(client, driver)
            assert await sink.commit(large) == {}
            assert len(await sink.find("c", {})) == 8
            await close_client(client)
        stranger = mongo_client(url, driver="pymongo", timeout=0.5)
        with pytest.raises(SinkUnavailable, match="certificate"):
            await MongoDocuments(stranger, "db").commit(large)
        await close_client(stranger)


@pytest.mark.parametrize(
    ("path", "setting", "expected"),
    [("", "", "deltastream"), ("of_the_url", "", "of_the_url"), ("of_the_url", "of_setting", "of_setting")],
)
async def test_the_database_is_that_of_the_setting_else_of_the_url_else_deltastream(
    path: str, setting: str, expected: str, redis_url: str, own_mongo: MongoProcess
) -> None:
    settings = worker_settings(redis_url, own_mongo.url(path), {"mongo.database": setting})
    async with Enricher(settings) as enricher:
        await enricher.wait_ready()
        body = tick(21503.45, wall_clock())
        await enricher.submit(TICKS, encoded(body), committed=True)
    with pymongo.MongoClient[dict[str, Any]](own_mongo.url()) as client:
        ours = {"deltastream", "of_the_url", "of_setting"} & set(client.list_database_names())
        assert ours == {expected}
        assert client[expected]["underlying_ticks"].count_documents({}) == 1


async def test_a_database_that_knows_the_users_is_asked_for_them_and_never_written_to(
    redis_url: str, own_mongo: MongoProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    with pymongo.MongoClient[dict[str, Any]](own_mongo.url()) as client:
        for place, name in (("admin", "worker"), ("users", "another")):
            client[place].command("createUser", name, pwd=SECRET, roles=[{"role": "root", "db": "admin"}])
    own_mongo.stop()
    own_mongo.extra = ("--auth",)
    own_mongo.start()
    nobody = pymongo.MongoClient[dict[str, Any]](own_mongo.url())
    with nobody, pytest.raises(pymongo.errors.OperationFailure):
        nobody["deltastream"].list_collection_names()

    def url(name: str, path: str, options: str = "") -> str:
        given = own_mongo.url(path).replace("mongodb://", f"mongodb://{name}:{SECRET}@")
        return given + options

    ways = [
        (url("worker", "admin"), {}, "deltastream"),
        (url("worker", "admin"), {"mongo.driver": "pymongo"}, "deltastream"),
        (url("another", "local", "&authSource=users"), {}, "deltastream"),
        (url("worker", "market", "&authSource=admin"), {}, "market"),
        (url("worker", "admin"), {"mongo.database": "another"}, "another"),
    ]
    for number, (address, overrides, expected) in enumerate(ways):
        with capture_logs() as entries:
            async with Enricher(worker_settings(redis_url, address, overrides)) as enricher:
                await asyncio.wait_for(enricher.wait_ready(), PATIENCE)
                body = encoded(tick(21500 + number, wall_clock(), number))
                await enricher.submit(TICKS, body, committed=True)
        with pymongo.MongoClient[dict[str, Any]](url("worker", "admin")) as client:
            assert client[expected]["underlying_ticks"].count_documents({"tick_id": number}) == 1
            for untouched in ("admin", "local", "config", "users"):
                assert "underlying_ticks" not in client[untouched].list_collection_names()
        said = [entry["reason"] for entry in entries if entry["event"] == "configuration_warning"]
        assert len(said) == (expected == "deltastream"), address
        assert all("'deltastream'" in reason and "authSource" in reason for reason in said)
    options = ["--redis-url", redis_url, "--mongo-url", url("worker", "admin")]
    assert await asyncio.to_thread(exit_code, ["check", *options]) == 0
    out, err = capsys.readouterr()
    assert "database deltastream, driver motor (a thread for each commit" in out
    assert "Warning: mongo.url names the database 'admin'" in err
    assert SECRET not in out + err


# -- connections that are lost ---------------------------------------------------------------------


async def test_a_frozen_redis_is_noticed_although_the_feed_is_silent(
    own_redis: RedisProcess, mongo_database_url: str
) -> None:
    async with running(own_redis.url, mongo_database_url, QUICK) as worker:
        source = worker.enricher.engine.sources[0]
        own_redis.pause()
        await until(lambda: not source.health()["ready"], "the canary's silence")
        noticed = wall_clock() / 1e6
        assert worker.enricher.health()["status"] == "degraded"
        own_redis.resume()
        await until(lambda: worker.enricher.ready, "the connection that comes back")
        await until(lambda: len(worker.stored("feed_gaps")) == 3, "a gap for each channel")
        gaps = worker.stored("feed_gaps")
        assert {gap["channel"] for gap in gaps} == {TICKS, QUOTES, CHAINS}
        assert all(gap["from"].timestamp() < noticed < gap["to"].timestamp() + 0.001 for gap in gaps)
        assert all("canary" in gap["reason"] for gap in gaps)
        await does_its_work(worker)


async def test_a_subscriber_that_is_cut_off_misses_what_nobody_heard_and_nothing_else(
    own_redis: RedisProcess, mongo_database_url: str
) -> None:
    async with running(own_redis.url, mongo_database_url) as worker:
        now = wall_clock()
        heard: list[int] = []
        missed: list[int] = []

        async def publish(number: int) -> bool:
            reached = await worker.redis.publish(TICKS, encoded(tick(100, now + number, number)))
            (heard if reached else missed).append(number)
            return bool(reached)

        numbers = iter(range(100_000))
        for cut in range(1, 4):
            for _ in range(100):
                assert await publish(next(numbers))
            subscribers = await worker.redis.client_list(_type="pubsub")
            (mine,) = [c["id"] for c in subscribers if c["name"] == "worker-enricher"]
            assert await worker.redis.client_kill_filter(_id=mine) == 1
            while not await publish(next(numbers)):
                pass
            await until(lambda cut=cut: worker.enricher.stats.total("gaps") == 3 * cut, "the gaps")
        worker.sent = len(heard)
        await worker.settled()
        assert sorted(d["tick_id"] for d in worker.stored("underlying_ticks")) == heard
        assert len(missed) >= 3
        gaps = worker.stored("feed_gaps")
        assert {gap["channel"] for gap in gaps} == {TICKS, QUOTES, CHAINS}
        assert len(gaps) == 9


async def test_what_channels_say_before_the_patterns_are_confirmed_is_not_thrown_away(
    own_redis: RedisProcess, mongo_database_url: str
) -> None:
    async with FaultyProxy(own_redis.port) as proxy:
        proxy.delay = 0.05
        slow = {"redis.url": proxy.redis_url()}
        # So long that it needs several pieces: SUBSCRIBE is carried out well before PSUBSCRIBE has arrived.
        patterns = {"market.channels.patterns": ["other:*" + "x" * 200_000]}
        async with running(own_redis.url, mongo_database_url, patterns, through=slow, ready=False) as worker:
            now = wall_clock()
            heard: list[int] = []
            number = 0
            while not worker.enricher.ready:
                number += 1
                if await worker.redis.publish(TICKS, encoded(tick(100, now + number, number))):
                    heard.append(number)
            proxy.heal()
            await until(lambda: worker.count(TICKS, "processed") >= len(heard), "every tick that was heard")
            assert [d["tick_id"] for d in worker.stored("underlying_ticks")] == heard
            assert len(heard) > 10


async def test_a_sink_that_hangs_does_not_make_the_reader_a_slow_subscriber(
    own_redis: RedisProcess, own_mongo: MongoProcess
) -> None:
    own_redis.call("CONFIG", "SET", "client-output-buffer-limit", "pubsub 512kb 256kb 1")
    async with running(own_redis.url, own_mongo.url("market"), {"mongo.timeout": 1}) as worker:
        source = worker.enricher.engine.sources[0]
        own_mongo.pause()
        now = wall_clock()
        # Three times what Redis would keep for a subscriber that does not read.
        for at in range(0, 5000, 250):
            batch = [tick(100, now + n, n, note="x" * 200) for n in range(at, at + 250)]
            await worker.send(TICKS, *batch)
            await until(lambda: worker.count(TICKS, "received") >= worker.sent, "the reader")
        assert worker.sent == 5000
        assert source.health()["ready"]
        own_mongo.resume()
        await worker.settled()
        assert len(worker.stored("underlying_ticks")) == 5000
        assert (source.health()["reconnects"], source.health()["gaps"]) == (0, 0)


# -- passwords -------------------------------------------------------------------------------------


async def test_no_password_is_said_while_authentication_fails(
    own_redis: RedisProcess, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    own_redis.call("CONFIG", "SET", "requirepass", "another-one")
    redis_url = f"redis://worker:{SECRET}@{LOOPBACK}:{own_redis.port}/0"
    mongo_url = f"mongodb://worker:{SECRET}@{LOOPBACK}:{free_port()}/market"
    letters = f"redis://:{SECRET}@{LOOPBACK}:{free_port()}/0"
    settings = worker_settings(redis_url, mongo_url, {**QUICK, "dead_letters.url": letters})
    with caplog.at_level(logging.DEBUG), capture_logs() as entries:
        async with Enricher(settings) as enricher:
            wanted = {"documents", "live", "dead_letters"}
            await enricher.submit(TICKS, b"no JSON")
            await until(lambda: set(enricher.health()["outages"]) == wanted, "all three outages")
            source = enricher.engine.sources[0]
            await until(lambda: source.health()["last_error"], "the reader's error")
            figures = enricher.figures()
            await enricher.stop(0.1)
    said = [repr(entries), caplog.text, *capfd.readouterr(), repr(figures), repr(settings), str(settings)]
    assert any(entry["event"] == "outage_begin" for entry in entries)
    assert SECRET not in "\n".join(said)


async def test_any_name_of_a_service_does_as_the_name_of_a_client(redis_url: str) -> None:
    client = redis_client(redis_url, socket_timeout=2, client_name="mon büro 1")
    assert await client.client_getname() in ("mon-b-ro-1", b"mon-b-ro-1")
    await client.aclose()
