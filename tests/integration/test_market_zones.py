"""A feed whose times are those of another zone than UTC: found out, mended, and stored for old readers."""

from __future__ import annotations

import json
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import redis

from enricher.clock import event_us, render, wall_clock
from enricher.embedded import Endpoints, read_endpoints
from tests.integration.commands import Command, eventually, finished
from tests.integration.test_market_contract import MINUTE, SECOND, chain, quote, tick
from tests.integration.worker import CHAINS, QUOTES, TICKS, database, encoded, running
from tests.rig import Clock
from tests.servers import MongoProcess

KOLKATA = timedelta(hours=5, minutes=30)
HOST = {"TZ": "Asia/Kolkata", "ENRICHER_STATS__INTERVAL": "0.05", "ENRICHER_SERVICE__INSTANCE": "one"}


def local_now() -> str:
    """The time of day in Kolkata, without an offset, as a feed on such a host stamps it."""
    return (datetime.now(UTC) + KOLKATA).replace(tzinfo=None).isoformat()


def ask(folder: Path, found: Endpoints, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Another command of the same host."""
    return finished(folder, *arguments, REDIS_URL=found.redis_url, MONGO_URL=found.mongo_url, **HOST)


def started(worker: Command, folder: Path) -> Endpoints:
    worker.until("ready")
    found = read_endpoints(folder / "data")
    assert found is not None
    return found


def test_a_host_in_kolkata_is_told_the_setting_and_loses_nothing(tmp_path: Path) -> None:
    run = ("run", "--embedded", "--data-dir", "data")
    sent: list[str] = []
    with Command(tmp_path, *run, **HOST) as worker:
        found = started(worker, tmp_path)
        with redis.Redis.from_url(found.redis_url) as feed:
            for number in range(40):
                sent.append(local_now())
                feed.publish(TICKS, encoded({**tick(100.0 + number, tick_id=number), "timestamp": sent[-1]}))
                strike = 21000 + number
                feed.publish(QUOTES, encoded(quote(strike, timestamp=sent[-1], expiry="2099-06-26")))
                feed.publish(CHAINS, encoded({**chain(expiry="2099-06-26"), "timestamp": sent[-1]}))
            worker.until("feed_in_another_zone")
            eventually(lambda: "market:option_chain" in ask(tmp_path, found, "health").stdout, "the trouble")
            health = ask(tmp_path, found, "health")
            top = ask(tmp_path, found, "top", "--once")
            assert feed.llen("dlq:enrichment") == 0
        lines = [line for line in worker.logged() if line["message"] == "feed_in_another_zone"]
        assert worker.signal(signal.SIGTERM).end() == 0
    assert [line["setting"] for line in lines] == ['feed.timezone = "Asia/Kolkata"']
    assert lines[0]["level"] == "ERROR"
    assert lines[0]["zones"][0] == "Asia/Kolkata"
    assert health.returncode == 0
    assert "degraded" in health.stdout
    assert 'market:underlying: times without an offset, read in UTC, lie 5:30 ahead' in health.stdout
    assert 'feed.timezone = "Asia/Kolkata"' in health.stdout
    assert "degraded" in top.stdout
    assert "Asia/Kolkata" in "".join(top.stdout.split())

    (tmp_path / "config.toml").write_text('[feed]\ntimezone = "Asia/Kolkata"\n')
    with Command(tmp_path, *run, **HOST) as worker:
        found = started(worker, tmp_path)
        with redis.Redis.from_url(found.redis_url) as feed:
            letters = [json.loads(raw) for raw in feed.lrange("dlq:enrichment", 0, -1)]
            assert len(letters) == 120
            assert all('as with feed.timezone = "Asia/Kolkata"' in letter["error"] for letter in letters)
            done = ask(tmp_path, found, "dlq", "reprocess", "--error", "feed.timezone")
            assert done.returncode == 0, done.stderr
            assert feed.llen("dlq:enrichment") == 0
            feed.publish(TICKS, encoded({**tick(500.0, tick_id="now"), "timestamp": local_now()}))
            stored = database(found.mongo_url)
            eventually(lambda: stored.underlying_ticks.count_documents({}) == 41, "the tick of now")
            assert stored.option_quotes.count_documents({}) == 40
            assert stored.option_chains.count_documents({}) == 40
            kept = {d["tick_id"]: d for d in stored.underlying_ticks.find()}
            stored.client.close()
            eventually(lambda: b'"close":500.0' in feed.get("ohlc:NIFTY:15m"), "its window")  # type: ignore[operator]
            window = json.loads(feed.get("ohlc:NIFTY:15m"))  # type: ignore[arg-type]
        health = ask(tmp_path, found, "health")
        assert worker.signal(signal.SIGTERM).end() == 0
    for number, text in enumerate(sent):
        moment = (datetime.fromisoformat(text) - KOLKATA).replace(tzinfo=UTC)
        assert abs(kept[number]["timestamp"] - moment) < timedelta(milliseconds=1)
        assert kept[number]["event_us"] == event_us(moment.isoformat())[0]
    assert (window["num_ticks"], window["open"], window["close"]) == (41, 100.0, 500.0)
    assert "ready" in health.stdout


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "America/New_York"])
async def test_dates_as_sent_are_those_digits_and_a_restart_finds_all_by_event_time(
    zone: str, redis_url: str, mongo_process: MongoProcess, mongo_database: str
) -> None:
    """What is computed is as with dates in UTC, before and after a restart that finds nothing cached."""
    now = wall_clock()

    def text(us: int) -> str:
        return render(us, naive=True, zone=ZoneInfo(zone))

    def sent(first: int, last: int) -> list[tuple[str, Any]]:
        found: list[tuple[str, Any]] = []
        for n in range(first, last):
            at = now - 20 * MINUTE + n * 10 * SECOND
            found.append((TICKS, {**tick(100.0 + n % 7, tick_id=n, volume=10 * n), "timestamp": text(at)}))
            found.append((QUOTES, quote(21000 + n % 5, timestamp=text(at), expiry="2099-06-26")))
            later = chain(expiry="2099-06-26", spot_price=21000 + n)
            found.append((CHAINS, {**later, "timestamp": text(at)}))
        return found

    async def results(dates: str, name: str) -> dict[str, Any]:
        settings = {
            "feed.timezone": zone,
            "feed.naive_dates": dates,
            "market.volume": "cumulative",
            "market.buildup_min_age": 60.0,
        }
        clock = Clock(now)
        at_database = mongo_process.url(name)
        documents = database(at_database)
        try:
            client = redis.Redis.from_url(redis_url)
            client.flushdb()
            async with running(redis_url, at_database, settings, clock=clock) as worker:
                await worker.send_all([(topic, encoded(m)) for topic, m in sent(0, 100)])
                await worker.settled()
            client.flushdb()
            async with running(redis_url, at_database, settings, clock=clock) as worker:
                await worker.send_all([(topic, encoded(m)) for topic, m in sent(100, 119)])
                await worker.settled()
                shown = {key: await worker.cached(f"ohlc:NIFTY:{key}m") for key in (1, 5, 15)}
            client.close()
            found: dict[str, Any] = {"windows": shown}
            for collection in ("ohlc_bars", "market_history", "option_chains"):
                kept_rows = found.setdefault(collection, [])
                for row in documents[collection].find().sort("_id", 1):
                    row.pop("processed_at", None)
                    if collection == "option_chains":
                        row.pop("timestamp")
                    if collection == "market_history":  # how new it is depends on the last checkpoint
                        row = {"_id": row["_id"], "values": sorted(row["values"])}
                    kept_rows.append(row)
            found["ticks"] = list(documents.underlying_ticks.find().sort("_id", 1))
            return found
        finally:
            documents.client.drop_database(name)
            documents.client.close()

    utc = await results("utc", f"{mongo_database}u")
    as_sent = await results("as_sent", f"{mongo_database}s")
    ticks = utc.pop("ticks"), as_sent.pop("ticks")
    assert utc == as_sent
    assert utc["windows"][15]["num_ticks"] == 90
    assert len(ticks[0]) == 119
    for plain, kept in zip(*ticks, strict=True):
        assert plain["event_us"] == kept["event_us"]
        digits = datetime.fromisoformat(text(kept["event_us"])).replace(tzinfo=UTC)
        assert abs(kept["timestamp"] - digits) < timedelta(milliseconds=1)
        offset = plain["timestamp"].astimezone(ZoneInfo(zone)).utcoffset()
        assert kept["timestamp"] - plain["timestamp"] == offset
