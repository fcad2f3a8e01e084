"""A mail worker that is killed while the program's own function is at a mail."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pymongo
import redis

from enricher.adapters.redis.claims import PREFIX
from tests.integration.commands import Command
from tests.integration.mails import GROUP, LETTERS, STREAM, raw_mail
from tests.integration.test_mail_cli import eventually

# What it does outside is a list in Redis: it has begun with a mail, it has ended.
HANDLER = """
import asyncio, os
from redis.asyncio import Redis

async def on_mail(mail):
    async with Redis.from_url(os.environ["REDIS_URL"]) as client:
        await client.rpush("begun", mail.id)
        while mail.id == "2@x" and not await client.exists("go"):
            await asyncio.sleep(0.02)
        await client.rpush("ended", mail.id)
        return {"by": os.getpid()}
"""


def test_a_mail_whose_function_was_killed_is_handled_again_and_lands_once(
    tmp_path: Path, redis_url: str, mongo_database_url: str
) -> None:
    (tmp_path / "shop.py").write_text(HANDLER, encoding="utf-8")
    settings = ("mail.enabled=true", "mail.handler=shop:on_mail", "mail.lease=1", "market.enabled=false")
    arguments = ["run", *(part for each in settings for part in ("--set", each))]
    variables = {"REDIS_URL": redis_url, "MONGO_URL": mongo_database_url}
    client = redis.Redis.from_url(redis_url)
    emails = pymongo.MongoClient[dict[str, Any]](mongo_database_url).get_default_database()["emails"]

    def stored() -> dict[str, int]:
        return {mail["_id"]: mail["result"]["by"] for mail in emails.find()}

    with Command(tmp_path, *arguments, **variables) as killed:
        killed.until("ready")
        for number in (1, 2, 3):
            client.xadd(STREAM, {"raw": raw_mail(number)})
        eventually(lambda: client.llen("begun") == 3 and len(stored()) == 2)
        # Stored first, acknowledged after it.
        eventually(lambda: client.xpending(STREAM, GROUP)["pending"] == 1)
        killed.signal(signal.SIGKILL)
        killed.end()
    assert set(stored()) == {"1@x", "3@x"}
    client.set("go", "1")
    client.xadd(STREAM, {"raw": raw_mail(2)})  # and somebody sends it once more
    with Command(tmp_path, *arguments, **variables) as other:
        other.until("ready")
        eventually(lambda: len(stored()) == 3)
        eventually(lambda: client.xpending(STREAM, GROUP)["pending"] == 0)
        pid = other.process.pid
        other.signal(signal.SIGTERM)
        assert other.end() == 0
    assert stored() == {"1@x": killed.process.pid, "2@x": pid, "3@x": killed.process.pid}
    # What landed did so once; what the function did outside before it was killed it did twice.
    assert sum(client.scard(key) for key in client.keys(f"{PREFIX}:[0-9]*")) == 3
    assert Counter(client.lrange("begun", 0, -1)) == {b"1@x": 1, b"2@x": 2, b"3@x": 1}
    assert Counter(client.lrange("ended", 0, -1)) == {b"1@x": 1, b"2@x": 1, b"3@x": 1}
    assert client.xlen(LETTERS) == 0
    emails.database.client.close()
    client.close()
