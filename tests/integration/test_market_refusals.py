"""What MongoDB or Redis refuses: the message alone, and nothing of it is left in what is shown."""

from __future__ import annotations

import asyncio
import time

import pymongo
import pytest
from structlog.testing import capture_logs

from enricher.clock import wall_clock
from enricher.market.surface.svi_scheduler import NOT_FITTED
from tests.integration.test_market_contract import MINUTE, SECOND, chain, quote, tick
from tests.integration.worker import CHAINS, QUOTES, TICKS, Worker, running
from tests.rig import until
from tests.servers import MongoProcess, RedisProcess

SHOWN = ("ohlc:", "latest:", "volatility_surface:")


async def shown(worker: Worker) -> dict[str, object]:
    keys = sorted([key.decode() async for key in worker.redis.scan_iter("*NIFTY*")])
    return {key: await worker.cached(key) for key in keys if key.startswith(("ohlc:", "latest:underlying"))}


@pytest.mark.parametrize("refused", [set(range(10, 20)), {7, 19}, set(range(20))])
async def test_ticks_that_an_index_refuses_are_in_no_cache_though_no_other_tick_follows(
    redis_url: str, mongo_url: str, mongo_database_url: str, refused: set[int]
) -> None:
    start = wall_clock() // MINUTE * MINUTE - 10 * MINUTE
    async with running(redis_url, mongo_database_url) as worker:
        worker.documents["underlying_ticks"].create_index("volume", unique=True)
        worker.documents["underlying_ticks"].insert_one({"_id": "foreign", "volume": 77})
        prices = [1000.0 + n if n in refused else 100.0 + n for n in range(20)]
        sent = [
            tick(prices[n], start + 20 * n * SECOND, n, volume=77 if n in refused else n) for n in range(20)
        ]
        await worker.take(TICKS, *sent)
        left = [n for n in range(20) if n not in refused]
        assert len(await worker.letters()) == len(refused)
        if not left:
            assert await shown(worker) == {}
            return
        found = await worker.cached("ohlc:NIFTY:15m")
        last = 100.0 + left[-1]
        assert (found["high"], found["close"], found["num_ticks"]) == (last, last, len(left))
        assert (await worker.cached("latest:underlying:NIFTY"))["price"] == 100.0 + left[-1]
        for bar in worker.stored("ohlc_bars"):
            assert bar["high"] < 1000, bar


async def test_rights_and_errors_that_come_and_go_make_no_dead_letter_and_two_lines(
    own_redis: RedisProcess, own_mongo: MongoProcess
) -> None:
    own_redis.call("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all")
    through = {"redis.url": own_redis.url.replace("//", "//app:secret@")}
    start = wall_clock() // SECOND * SECOND - 100 * SECOND
    sent = 0

    async def feed(worker: Worker) -> None:
        nonlocal sent
        await worker.send(TICKS, *(tick(100.0 + n, start + n * 1000, n) for n in range(sent, sent + 20)))
        await worker.send(QUOTES, quote(at_us=start + sent))
        await worker.send(CHAINS, chain(start + sent))
        sent += 20

    def code(number: int, *commands: str) -> None:
        mode = "alwaysOn" if commands else "off"
        data = {"failCommands": list(commands), "errorCode": number}
        with pymongo.MongoClient[dict[str, object]](own_mongo.url()) as client:
            client.admin.command({"configureFailPoint": "failCommand", "mode": mode, "data": data})

    quick = {"retry.max_delay": 0.2, "redis.canary_interval": 60.0}
    async with running(own_redis.url, own_mongo.url("market"), quick, through=through) as worker:
        await feed(worker)
        await worker.settled()
        troubles = [("live", rule) for rule in ("-publish", "-set", "-sadd", "-evalsha")]
        troubles += [("documents", number) for number in (8000, 16500, 1)]
        for sink, trouble in troubles:
            if isinstance(trouble, str):
                own_redis.call("ACL", "SETUSER", "app", trouble)
            else:
                code(trouble, "insert", "update")
            with capture_logs() as lines:
                failures = worker.enricher.stats.counters
                before = failures[f"{sink}_failures"]
                await feed(worker)
                await until(lambda: failures[f"{sink}_failures"] > before + 5, "probes")  # noqa: B023
                assert worker.enricher.health()["status"] == "degraded"
                if isinstance(trouble, str):
                    own_redis.call("ACL", "SETUSER", "app", "+@all")
                else:
                    code(0)
                await worker.settled()
            said = [line["event"] for line in lines if line["event"].startswith(("outage", "write", "dead"))]
            assert said == ["outage_begin", "outage_end"], lines
        assert await worker.letters() == []
        assert [d["tick_id"] for d in worker.stored("underlying_ticks")] == list(range(sent))
        assert [m["price"] for m in worker.published("underlying")] == [100.0 + n for n in range(sent)]
        assert len(worker.published("option_chain")) == sent // 20


KINDS = {TICKS: "underlying_ticks", QUOTES: "option_quotes", CHAINS: "option_chains"}


@pytest.mark.parametrize(("channel", "collection"), KINDS.items())
async def test_what_is_refused_of_any_kind_leaves_everything_shown_as_it_was(
    redis_url: str, mongo_database_url: str, channel: str, collection: str
) -> None:
    start = wall_clock() // MINUTE * MINUTE - 3 * MINUTE

    def messages(at_us: int, price: float, mark: str) -> dict[str, dict[str, object]]:
        return {
            TICKS: tick(price, at_us, at_us, mark=mark),
            QUOTES: quote(at_us=at_us, iv=price / 1000, mark=mark, expiry="2099-06-26"),
            CHAINS: chain(at_us, spot_price=price, mark=mark, expiry="2099-06-26"),
        }

    async def contents(worker: Worker) -> dict[str, object]:
        keys = [key.decode() async for key in worker.redis.scan_iter("*")]
        values = {key: await worker.cached(key) for key in keys if key.startswith(SHOWN)}
        return {**values, "members": await worker.redis.zrange("iv_surface:NIFTY", 0, -1, withscores=True)}

    async with running(redis_url, mongo_database_url) as worker:
        for each, message in messages(start, 100.0, "good").items():
            await worker.take(each, message)
        # Curves are fitted when there is nothing else to do.
        deadline = time.monotonic() + 60
        while NOT_FITTED in str(before := await contents(worker)):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        field = "event_us"
        worker.documents[collection].create_index(field, unique=True)
        worker.documents[collection].insert_one({"_id": "foreign", field: start + SECOND})
        await worker.take(channel, messages(start + SECOND, 900.0, "bad")[channel])
        assert [letter["stage"] for letter in await worker.letters()] == ["commit"]
        while await contents(worker) != before:
            assert time.monotonic() < deadline, (before, await contents(worker))
            await asyncio.sleep(0.05)
        later = messages(start + 2 * SECOND, 101.0, "good")
        for each, message in later.items():
            await worker.take(each, message)
        assert (await worker.cached("ohlc:NIFTY:1m"))["high"] == 101.0

