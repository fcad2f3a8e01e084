"""What machines ask a worker: it lives, it is ready or says what is missing, and its figures add up."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from enricher import Enricher, load
from enricher.job_store import Pause
from enricher.jobs import connect
from enricher.jobs.client import close, current
from enricher.web.server import CannotListen
from tests.integration.test_cli_check import exit_code
from tests.jobs_app.limits import Answer, Fails
from tests.rig import until
from tests.servers import RedisProcess, Urls, free_port


@asynccontextmanager
async def app(**given: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Enricher]]:
    """The web app of a worker, mounted."""
    async with Enricher(load(overrides=given)) as enricher:
        transport = httpx.ASGITransport(app=enricher.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield client, enricher


def samples(text: str) -> dict[str, float]:
    """Every sample of an exposition, by its name with its labels."""
    every = [each for family in text_string_to_metric_families(text) for each in family.samples]
    return {" ".join([s.name, *(f"{n}={v}" for n, v in sorted(s.labels.items()))]): s.value for s in every}


def check_with_promtool(text: str) -> None:
    """Prometheus' own tool finds nothing wrong, where it is installed (CI installs it)."""
    if shutil.which("promtool"):
        command = ["promtool", "check", "metrics"]
        checked = subprocess.run(command, input=text.encode(), capture_output=True, check=False)
        assert checked.returncode == 0, checked.stderr.decode()


async def test_the_figures_of_a_market_are_those_of_its_counters(urls: Urls) -> None:
    given = {"redis.url": urls.redis, "mongo.url": urls.mongo}
    async with app(**given) as (client, enricher):
        await enricher.wait_ready()
        said = (await client.get("/readyz")).json()
        assert (said.pop("service"), said.pop("instance")) == ("worker-enricher", enricher.instance)
        assert said == {"status": "ready", "missing": {}, "troubles": {}, "stalled": []}
        assert (await client.get("/livez")).text == "OK"
        tick = b'{"tick_id": 1, "product": "NIFTY", "price": 21500.5, "timestamp": "2026-01-05T09:15:00Z"}'
        await enricher.submit("market:underlying", tick, committed=True)
        with pytest.raises(Exception, match="price"):
            await enricher.submit("market:underlying", b'{"product": "NIFTY"}', committed=True)
        text = (await client.get("/metrics")).text
        found = samples(text)
        of = "enricher_messages_total route=market:underlying"
        assert found[f"{of} status=received"] == 2
        assert (found[f"{of} status=processed"], found[f"{of} status=dead"]) == (1, 1)
        assert found["enricher_latency_seconds_count stage=commit"] >= 2
        assert found["enricher_latency_seconds_bucket le=+Inf stage=commit"] >= 2
        assert 0 < found["enricher_latency_seconds_sum stage=commit"] < 60
        assert found["enricher_ready"] == 1
        assert found["enricher_outage sink=documents"] == 0
        assert found["enricher_source_connected source=pubsub"] == 1
        assert found["enricher_dead_letters_total route=market:underlying stage=decode"] == 1
        assert found["enricher_dead_letters_stored store=list dlq:enrichment"] == 1
        task = "celery_tasks_total status={} task_name=process_underlying_tick"
        assert [found[task.format(status)] for status in ("success", "failure", "retry")] == [1, 1, 0]
        assert found["celery_task_duration_seconds_count task_name=process_underlying_tick"] >= 1
        assert 0 < found["enricher_channel_silent_seconds channel=market:option_chain"] < 60
        assert found["enricher_redis_memory_bytes"] > 0
        assert found["enricher_redis_keyspace_misses_total"] >= 0
        assert found["enricher_mongo_slow_commands_total command=insert"] >= 0
        assert found["process_resident_memory_bytes"] > 1_000_000
        check_with_promtool(text)
        # While it stops and when it has, the last figures can be had; nothing else can.
        await enricher.stop()
        assert samples((await client.get("/metrics")).text)[f"{of} status=processed"] == 1
        assert [(await client.get(path)).status_code for path in ("/readyz", "/livez")] == [503, 200]
        assert (await client.get("/ui/overview")).status_code == 503


async def test_queues_and_tasks_are_counted(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENRICHER_REDIS__URL", redis_url)
    connect(redis_url)
    given = {"redis.url": redis_url, "market.enabled": False, "jobs.packages": "tests.jobs_app"}
    try:
        async with app(**given) as (client, enricher):
            await enricher.wait_ready()
            await (await Answer.enqueue(1)).wait(60)
            failed = await Fails.enqueue(2)
            with pytest.raises(ValueError, match="2"):
                await failed.wait(60)
            await Answer.options(delay=1000).enqueue(3)
            found = samples((await client.get("/metrics")).text)
            task = "celery_tasks_total status={} task_name=tests.jobs_app.limits.{}"
            assert found[task.format("success", "Answer")] == 1
            assert found[task.format("failure", "Fails")] == 1
            took = "celery_task_duration_seconds_count task_name=tests.jobs_app.limits.Answer"
            assert found[took] == 1
            assert found["enricher_queue_jobs queue=default state=scheduled"] == 1
            await current().in_loop().ask(Pause("low"))
            await Answer.options(queue="low").enqueue(4)
            scale = (await client.get("/scale")).json()
            assert {"queue": "default", "state": "scheduled", "value": 1.0} in scale["enricher_queue_jobs"]
            assert {"queue": "low", "state": "waiting", "value": 1.0} in scale["enricher_queue_jobs"]
            assert scale["waiting"] == 1
    finally:
        await close()


async def test_what_is_missing_is_said_and_the_figures_go_on(own_redis: RedisProcess) -> None:
    given = {"redis.url": own_redis.url, "market.enabled": False, "jobs.packages": "tests.jobs_app"}
    async with app(**given) as (client, enricher):
        await enricher.wait_ready()
        own_redis.kill()
        await until(lambda: not enricher.ready, "the loss to be noticed")
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["missing"]["job queues"] == "not connected"
        assert (await client.get("/livez")).status_code == 200
        found = samples((await client.get("/metrics")).text)
        assert found["enricher_source_connected source=job queues"] == 0
        own_redis.start()
        await until(lambda: enricher.ready, "its return")


async def test_an_address_that_is_taken_is_refused_with_who_has_it_before_anything_begins(
    redis_url: str, tmp_path: Path
) -> None:
    path = tmp_path / "web.sock"
    for listen in (f"127.0.0.1:{free_port()}", f"unix:{path}"):
        given = {"redis.url": redis_url, "market.enabled": False, "jobs.packages": "tests.jobs_app"}
        settings = {"web.listen": listen, "events.enabled": False, "events.listen": listen}
        async with Enricher(load(overrides=given | settings)) as enricher:
            await enricher.wait_ready()
            with pytest.raises(CannotListen) as caught:
                async with Enricher(load(overrides=given | {"web.listen": listen})):
                    raise AssertionError("it began")
            mine = f"pid {os.getpid()} ({Path(sys.executable).name}"
            assert mine in str(caught.value)
            assert f"another enricher, worker-enricher {enricher.instance}" in str(caught.value)
            # The worker is asked itself: no Redis is needed to know how it is.
            away = ["--redis-url", f"redis://127.0.0.1:{free_port()}", "--timeout", "5s"]
            for more, code in (([], 0), (["--set", "service.name=other"], 1)):
                asked = ["health", *away, "--set", f"web.listen={listen}", *more]
                assert await asyncio.to_thread(exit_code, asked) == code
    # What a dead worker has left is in nobody's way; what is no socket is not ours to remove.
    assert path.is_socket()
    async with Enricher(load(overrides=given | settings)):
        pass
    path.unlink()
    path.write_text("a file")
    with pytest.raises(CannotListen, match="in use"):
        async with Enricher(load(overrides=given | settings)):
            pass
    assert path.read_text() == "a file"
