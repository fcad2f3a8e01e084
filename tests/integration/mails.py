"""The mail route for tests: a worker in this process on given servers, and mails to send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from email.message import EmailMessage
from typing import Any

from redis.asyncio import Redis

from enricher.app import Enricher
from enricher.systems import load
from tests.integration.worker import database
from tests.rig import PATIENCE, until

STREAM, GROUP, LETTERS = "email_ingestion_stream", "email_processor_group", "email_ingestion_dlq"
QUICK: dict[str, Any] = {
    "mail.enabled": True,
    "market.enabled": False,
    "mail.block": 0.1,
    "mail.initial_backoff": 0.05,
    "mail.lease": 1.0,
    "stats.interval": 0.1,
}


def raw_mail(number: int | str = 1, **headers: str) -> bytes:
    """A small MIME mail whose message id is ``<number@x>``."""
    message = EmailMessage()
    given = {"From": "Ann <ann@x.example>", "To": "bob@y.example", "Subject": f"mail {number}", **headers}
    for name, value in given.items():
        message[name.replace("_", "-")] = value
    message["Message-ID"] = f"<{number}@x>"
    message["Date"] = "Mon, 16 Feb 2026 10:00:00 +0100"
    message.set_content(f"text {number}\n")
    message.add_alternative(f"<p>{number}</p>\n", subtype="html")
    message.set_boundary(f"part-{number}")
    return message.as_bytes()


class Post:
    """A running mail worker, with clients to send to it and to look at what it did."""

    def __init__(self, enricher: Enricher, client: Redis, documents: Any) -> None:
        self.enricher = enricher
        self.redis = client
        self.emails = documents["emails"]

    @property
    def counts(self) -> dict[str, int]:
        return {name: n for name, n in self.enricher.stats.topic(STREAM).counts.items() if n}

    async def send(self, *entries: Mapping[str, Any] | bytes) -> None:
        """Append entries; bytes are a raw message."""
        for entry in entries:
            await self.redis.xadd(STREAM, {"raw": entry} if isinstance(entry, bytes) else dict(entry))

    async def count(self, name: str, number: int, deadline: float = PATIENCE) -> None:
        """Return when a counter has reached ``number``."""
        await self.until(lambda: self.counts.get(name, 0) >= number, f"{number} {name}", deadline)

    async def until(self, holds: Callable[[], Any], what: str = "it", deadline: float = PATIENCE) -> Any:
        """The first true value of ``holds`` (plain or async)."""
        return await until(holds, what, deadline)

    def stored(self) -> dict[str, dict[str, Any]]:
        """The stored mails by id."""
        return {mail["_id"]: mail for mail in self.emails.find()}

    async def letters(self) -> list[dict[str, str]]:
        """The dead letters, oldest first."""
        found = await self.redis.xrange(LETTERS)
        return [{n.decode(): v.decode() for n, v in fields.items()} for _, fields in found]

    async def pending(self) -> int:
        """Entries that wait for an acknowledgement."""
        return int((await self.redis.xpending(STREAM, GROUP))["pending"])


@asynccontextmanager
async def post(
    redis_url: str,
    mongo_url: str,
    handler: Any = None,
    overrides: Mapping[str, Any] | None = None,
    *,
    look_at: str = "",
    ready: bool = True,
    **more: Any,
) -> AsyncIterator[Post]:
    """A mail worker; ``look_at`` is the Redis that the test itself uses (default: the worker's)."""
    settings = load(overrides={"redis.url": redis_url, "mongo.url": mongo_url, **QUICK, **(overrides or {})})
    client = Redis.from_url(look_at or redis_url)
    documents = database(mongo_url)
    enricher = Enricher(settings, mail_handler=handler, **more)
    try:
        async with enricher:
            if ready:
                await asyncio.wait_for(enricher.wait_ready(), PATIENCE)
            yield Post(enricher, client, documents)
    finally:
        await client.aclose()
        documents.client.close()
