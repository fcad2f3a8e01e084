"""The job that asks whether a backend is healthy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis
from structlog.testing import capture_logs

from enricher import Enricher, load
from enricher.errors import WrongSetting
from enricher.jobs import HealthCheckWorker, connect
from enricher.jobs.client import close
from tests.rig import until


@asynccontextmanager
async def backend(status: str) -> AsyncIterator[str]:
    """The URL of a server that answers with this status."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/health"


async def said(redis_url: str, health_url: str) -> dict[str, Any]:
    """The line that a worker with this setting logs of a job that the schedule of nobody has asked for."""
    settings = {"redis.url": redis_url, "market.enabled": False, "jobs.poll": 0.1, "jobs.enabled": True}
    connect(redis_url)
    try:
        with capture_logs() as lines:
            async with Enricher(load(overrides={**settings, "jobs.health_url": health_url})) as enricher:
                await enricher.wait_ready()
                await (await HealthCheckWorker.enqueue()).wait(60)
        (line,) = [line for line in lines if line["event"].startswith("Backend is")]
        return dict(line)
    finally:
        await close()


@pytest.mark.parametrize(
    ("status", "level", "text"),
    [
        ("200 OK", "info", "Backend is healthy"),
        ("503 Service Unavailable", "error", "Backend is unhealthy: status 503"),
        ("204 No Content", "error", "Backend is unhealthy: status 204"),
    ],
)
async def test_it_logs_how_the_backend_is(redis_url: str, status: str, level: str, text: str) -> None:
    async with backend(status) as url:
        line = await said(redis_url, url)
    assert (line["log_level"], line["event"]) == (level, text)


async def test_a_backend_that_is_not_there_is_unhealthy(redis_url: str) -> None:
    async with backend("200 OK") as url:
        pass
    line = await said(redis_url, url)
    assert line["log_level"] == "error"
    assert line["event"].startswith("Backend is unhealthy: ")
    assert "refused" in line["event"]


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/health", ""])
async def test_it_is_scheduled_every_ten_minutes_where_there_is_a_url(redis_url: str, url: str) -> None:
    settings = {"redis.url": redis_url, "market.enabled": False, "jobs.enabled": True, "jobs.health_url": url}
    with redis.Redis.from_url(redis_url, protocol=2, decode_responses=True) as client:
        client.hset(
            "jobs:schedules", "enricher.jobs.health_check.Old", "0 0 enricher.jobs.health_check every 1 s UTC"
        )
        async with Enricher(load(overrides=settings)) as enricher:
            await enricher.wait_ready()
            await until(lambda: not client.hexists("jobs:schedules", "enricher.jobs.health_check.Old"))
        found: Any = client.hgetall("jobs:schedules")
    expected = [("enricher.jobs.health_check.HealthCheckWorker", "*/10 * * * * UTC")]
    assert [(task, kept.split(" ", 3)[3]) for task, kept in found.items()] == (expected if url else [])


def test_without_the_setting_a_job_says_which_it_needs(nobodys_settings: None) -> None:
    with pytest.raises(WrongSetting, match=r"jobs\.health_url"):
        HealthCheckWorker.perform()
