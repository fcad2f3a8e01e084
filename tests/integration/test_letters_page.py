"""The page about dead letters: its program prints what it says, and its store is one."""

from __future__ import annotations

from typing import Any

from enricher.adapters.redis.client import redis_client
from enricher.app import Enricher
from enricher.dead_letters import LengthAlert, LetterStore, by_worker, retry
from enricher.systems import load
from tests.integration.commands import ran
from tests.pages import blocks, page
from tests.rig import PATIENCE, until
from tests.toy_letters import SqliteLetters

PAGE = page("dead_letters.md")
PROGRAM, STORE = blocks(PAGE)
(OUTPUT,) = blocks(PAGE, "text")


def test_the_program_prints_what_the_page_says(redis_url: str) -> None:
    done = ran("-c", PROGRAM, REDIS_URL=redis_url)
    assert (done.stdout, done.returncode) == (OUTPUT, 0), done.stderr


def store_of_the_page() -> LetterStore:
    names: dict[str, Any] = {}
    exec(STORE, names)
    made: LetterStore = names["LettersInMemory"]()
    return made


async def test_a_worker_uses_a_store_of_the_programs_own_and_reprocesses_from_it(
    redis_url: str, mongo_database_url: str
) -> None:
    settings = load(
        overrides={"redis.url": redis_url, "mongo.url": mongo_database_url, "dead_letters.alert_at": 1}
    )
    for store in (store_of_the_page(), SqliteLetters()):
        alerts: list[LengthAlert] = []
        async with (
            Enricher(settings, dead_letters=store, on_dead_letters=alerts.append) as worker,
            redis_client(redis_url, socket_timeout=PATIENCE) as client,
        ):
            await worker.wait_ready()
            for body in ("no JSON", '{"product": "NIFTY"}', "[]"):
                await worker.submit("market:underlying", body)
            await until(lambda: worker.stats.total("dead") == 3, "the dead letters")
            assert (await store.count(), [alert.length for alert in alerts]) == (3, [2])
            report = await retry(store, by_worker(client, settings.service.name, store, seconds=PATIENCE))
            assert (report.gone, dict(report.outcomes), await store.count()) == (0, {"failed": 3}, 3)
            assert {letter.attempts async for letter in store.letters()} == {2}
            assert await client.exists(settings.dead_letters.key) == 0
