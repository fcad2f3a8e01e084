"""Documents leave MongoDB when the settings say so, and what is computed goes on being right."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from enricher.adapters.mongo_retention import FIELD, NAME
from enricher.cli.main import exit_code
from enricher.clock import wall_clock
from tests.integration.test_market_contract import MINUTE, SECOND, chain, quote, tick
from tests.integration.worker import CHAINS, QUOTES, TICKS, database, running
from tests.rig import until
from tests.servers import Urls

WRITTEN = (
    "underlying_ticks",
    "option_quotes",
    "option_chains",
    "ohlc_bars",
    "volatility_surfaces",
    "market_history",
)


def kept(documents: Any, collection: str) -> int | None:
    """What our index on a collection says."""
    found = documents[collection].index_information().get(NAME)
    return None if found is None else int(found["expireAfterSeconds"])


async def fill(worker: Any, now: int, numbers: range) -> None:
    for n in numbers:
        at = now - 20 * MINUTE + n * 20 * SECOND
        await worker.take(TICKS, tick(100.0 + n, at, n))
        await worker.take(QUOTES, quote(21000, at_us=at, expiry="2099-06-26"))
        await worker.take(CHAINS, chain(at, expiry="2099-06-26"))


async def test_the_index_follows_the_setting_and_nobody_elses_is_touched(
    redis_url: str, mongo_database_url: str
) -> None:
    documents = database(mongo_database_url)
    try:
        documents.option_quotes.create_index([(FIELD, 1)], name="theirs", expireAfterSeconds=10**6)
        for setting, seconds in (("30d", 30 * 86_400), ("12h", 12 * 3600), ("0", None)):
            asked = {"retention.underlying_ticks": setting, "retention.option_quotes": setting}
            async with running(redis_url, mongo_database_url, asked):
                await until(lambda: kept(documents, "underlying_ticks") == seconds, f"{setting} on ticks")  # noqa: B023
            theirs = documents.option_quotes.index_information()
            assert theirs["theirs"]["expireAfterSeconds"] == 10**6
            assert NAME not in theirs
    finally:
        documents.client.close()


async def test_documents_leave_and_a_restart_without_them_computes_on(urls: Urls) -> None:
    now = wall_clock()
    documents = database(urls.mongo)
    try:
        async with running(*urls) as worker:
            await fill(worker, now, range(20))
            for name in WRITTEN:
                await until(lambda: documents[name].count_documents({}), f"something in {name}")  # noqa: B023
                assert all(isinstance(d[FIELD], datetime) for d in documents[name].find()), name
        # As if all had been processed two days ago; what is still open is closed, and written, only now.
        old = {FIELD: {"$lt": datetime.now(UTC) - timedelta(days=1)}}
        for name in WRITTEN:
            documents[name].update_many({}, {"$set": {FIELD: datetime.now(UTC) - timedelta(days=2)}})
        asked = {f"retention.{name}": "1d" for name in WRITTEN}
        async with running(*urls, asked):
            for name in WRITTEN:
                await until(lambda: kept(documents, name) == 86_400, f"the index on {name}")  # noqa: B023
            # What the server does once a minute.
            documents.client.admin.command("secantusAdmin.pruneTtl")
            assert not [name for name in WRITTEN if documents[name].count_documents(old)]
        assert documents.enricher_state.count_documents({})
        async with running(*urls, asked) as worker:
            await fill(worker, now, range(20, 25))
            window = await worker.cached("ohlc:NIFTY:15m")
            assert (window["num_ticks"], window["open"], window["close"]) == (5, 120.0, 124.0)
            assert not await worker.letters()
            assert documents.underlying_ticks.count_documents({}) == 5
    finally:
        documents.client.close()


@pytest.mark.usefixtures("nobodys_settings")
def test_check_says_how_fast_collections_grow(urls: Urls, capsys: pytest.CaptureFixture[str]) -> None:
    documents, now = database(urls.mongo), datetime.now(UTC)
    try:
        documents.underlying_ticks.insert_many(
            {"_id": f"{n:04d}", FIELD: now - timedelta(seconds=864 * n)} for n in range(101)
        )
    finally:
        documents.client.close()
    servers = ("--redis-url", urls.redis, "--mongo-url", urls.mongo)
    code = exit_code(["check", *servers, "--set", "retention.underlying_ticks=5m"])
    out, err = capsys.readouterr()
    assert code == 0, err
    row = next(line for line in out.splitlines() if "underlying_ticks " in line)
    assert row.split()[:2] == ["underlying_ticks", "101"]
    assert "101, " in row.split("kB", 1)[1]
    assert "24 h" in row
    assert "5 min" in row
    assert "option_quotes " not in out
    assert "Disk: unknown" in out
    assert "retention.underlying_ticks 5 min is short" in err
