"""A worker with everything on and something of everything in it, and a browser to look at it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from playwright.async_api import Browser, async_playwright
from redis.asyncio import Redis

from enricher.app import wall_clock
from enricher.embedded import binaries
from enricher.market.feed.synthetic import SyntheticMarket
from tests.browser import screens
from tests.integration.mails import STREAM, raw_mail
from tests.integration.worker import ROOT, database
from tests.rig import PATIENCE, until
from tests.servers import Urls, free_port

EVIL = "<img src=x onerror=alert(1)>"
TALKS = "tests.jobs_app.limits.Talks"


class Worker:
    """``enricher run`` with its web app at ``url``; it may be killed and started again."""

    def __init__(self, urls: Urls) -> None:
        self.urls = urls
        self.url = f"http://127.0.0.1:{free_port()}"
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        on = {
            "REDIS_URL": self.urls.redis,
            "MONGO_URL": self.urls.mongo,
            "ENRICHER_WEB__LISTEN": self.url.removeprefix("http://"),
            "ENRICHER_SERVICE__INSTANCE": "one",
            "ENRICHER_EVENTS__ENABLED": "true",
            "ENRICHER_EVENTS__PACKAGES": "tests.event_app",
            "ENRICHER_EVENTS__MAX_RETRIES": "0",
            "ENRICHER_MAIL__ENABLED": "true",
            "ENRICHER_JOBS__ENABLED": "true",
            "ENRICHER_JOBS__PACKAGES": "tests.jobs_app",
            "ENRICHER_JOBS__HEALTH_URL": "http://127.0.0.1:9/",
        }
        command = [sys.executable, "-m", "enricher", "run", "--log-level", "warning"]
        self._process = subprocess.Popen(  # noqa: ASYNC220  the start itself takes a millisecond
            binaries.bound_to_this_process(command), cwd=ROOT, env={**os.environ, **on}
        )
        async with httpx.AsyncClient(base_url=self.url) as client:

            async def ready() -> bool:
                assert self._process is not None
                assert self._process.poll() is None, "the worker ended"
                try:
                    return (await client.get("/readyz")).status_code == 200
                except httpx.HTTPError:
                    return False

            await until(ready, "a worker that is ready")

    async def end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            await self.ended()

    async def ended(self) -> int:
        """Wait until it has ended, of its own accord; returns the exit code."""
        assert self._process is not None
        process, self._process = self._process, None
        return await asyncio.to_thread(process.wait, PATIENCE)


async def _fill(worker: Worker) -> None:
    """Some of everything: a market, dead letters, events that went well or not, mails."""
    market = SyntheticMarket(["NIFTY", "BANKNIFTY"], seed=5)
    async with Redis.from_url(worker.urls.redis) as redis:
        began = wall_clock() - 120_000_000
        for second in range(0, 120, 4):
            for channel, body in market.mix(began + second * 1_000_000):
                await redis.publish(channel, body)
        await redis.publish("market:underlying", b'{"product": "%s", "price": "?"}' % EVIL.encode())
        for number in range(3):
            await redis.xadd(STREAM, {"raw": raw_mail(number, Subject=f"{EVIL} {number}")})
        bodies = [{"text": "help"}, {"text": EVIL, "urgent": True}, {"text": "fail 1"}]
        async with httpx.AsyncClient(base_url=worker.url) as client:
            for body in bodies:
                assert (await client.post("/events", json=body)).status_code == 202
            for job in ({"args": [2]}, {"args": [EVIL], "queue": "unserved"}):
                answer = await client.post("/api/v1/enqueue", json={"task": TALKS, **job})
                assert answer.status_code == 200
        found = database(worker.urls.mongo)
        await until(lambda: found["option_chains"].count_documents({}) >= 6, "chains")
        ended = {"status": {"$in": ["SUCCESS", "FAILURE"]}}
        await until(lambda: found["events"].count_documents(ended) == 3, "events")

        async def failed() -> bool:
            return bool(await redis.zcard("jobs:finished:failed") == 1)

        await until(failed, "the job to fail")

        async def letters() -> bool:
            return int(await redis.llen("dlq:enrichment")) == 2

        await until(letters, "dead letters")


@pytest.fixture
async def worker(urls: Urls) -> AsyncIterator[Worker]:
    found = Worker(urls)
    await found.start()
    try:
        yield found
    finally:
        await found.end(signal.SIGKILL)


@pytest.fixture
async def filled(worker: Worker) -> Worker:
    await _fill(worker)
    return worker


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        arguments: list[Any] = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = await playwright.chromium.launch(executable_path=screens.chromium(), args=arguments)
        yield chromium
        await chromium.close()
