"""`enricher run` ends soon after its drain deadline, whatever a handler does, and says which it was."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import redis

from tests.integration.commands import Command, eventually
from tests.integration.test_cli_run import INT, TERM
from tests.servers import RedisProcess, Urls

PROGRAM = """
import asyncio, ctypes, functools, os, time
import enricher.cli.run
from enricher import Enricher, RetryPolicy, Route
from enricher.cli.main import main

def begun(topic):
    print('{"message": "begun"}', flush=True)

async def swallows(event, context):
    begun(context.topic)
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass

async def blocks(event, context):
    begun(context.topic)
    time.sleep(600)

async def spins(event, context):
    begun(context.topic)
    while True:
        pass

async def leaves(event, context):
    async def child():
        raise SystemExit(7)
    if context.body == b"{}":
        return await asyncio.create_task(child())
    begun(context.topic)

async def stops(event, context):
    asyncio.get_running_loop().stop()

def plain(event, context):
    begun(context.topic)
    time.sleep(600)

async def in_c(event, context):
    begun(context.topic)
    while True:
        ctypes.CDLL(None).poll(None, 0, 600_000)

async def finishes(event, context):
    begun(context.topic)
    await asyncio.sleep(3)

handlers = (swallows, blocks, spins, leaves, stops, plain, in_c)
once = RetryPolicy(max_retries=0)
routes = [Route(topic=f.__name__, handler=f, key=lambda body: "k1", retry=once) for f in handlers]
drain = float(os.environ.get("DRAIN", 0)) or None
routes.append(Route(topic="finishes", handler=finishes, drain_deadline=drain))
enricher.cli.run.Enricher = functools.partial(Enricher, routes=routes)
main()
"""


def worker(folder: Path, redis_url: str, mongo_url: str, *more: str, **variables: str) -> Command:
    return Command(
        folder,
        *("run", "--redis-url", redis_url, "--mongo-url", mongo_url, "--set", "market.enabled=false"),
        *("--set", "service.drain_deadline=300ms", *more),
        program=("-c", PROGRAM),
        **variables,
    )


@pytest.mark.parametrize("topic", ["swallows", "blocks", "spins", "plain", "in_c"])
def test_a_stop_is_bounded_and_3_says_that_messages_were_lost(tmp_path: Path, urls: Urls, topic: str) -> None:
    with (
        worker(tmp_path, *urls) as running,
        redis.Redis.from_url(urls.redis) as client,
    ):
        running.until("ready")
        for _ in range(3):
            client.publish(topic, b"{}")
        running.until("begun")
        assert running.signal(TERM).end() == 3
        line = next(line for line in running.logged() if line["message"] == "forced_exit")
        assert line["lost"].keys() == {topic}
        if topic != "swallows":
            assert (line["topic"], line["key"]) == (topic, "k1")
            assert f"in {topic}" in line["stack"]
        if topic != "plain":
            assert (line["handlers"][0]["topic"], line["handlers"][0]["key"]) == (topic, "k1")
            assert line["handlers"][0]["seconds"] >= 0.3


def test_a_route_that_may_drain_for_longer_than_the_service_has_that_time(tmp_path: Path, urls: Urls) -> None:
    with (
        worker(tmp_path, *urls, DRAIN="120") as running,
        redis.Redis.from_url(urls.redis) as client,
    ):
        running.until("ready")
        client.publish("finishes", b"{}")
        running.until("begun")
        assert running.signal(TERM).end() == 0
        assert "forced_exit" not in [line["message"] for line in running.logged()]


def test_what_a_handler_does_to_the_loop_itself_ends_its_message_alone(tmp_path: Path, urls: Urls) -> None:
    with (
        worker(tmp_path, *urls) as running,
        redis.Redis.from_url(urls.redis) as client,
    ):
        running.until("ready")
        for topic, said in (("leaves", "SystemExit: 7"), ("stops", "RuntimeError: Event loop stopped")):
            client.publish(topic, b"{}")
            eventually(
                lambda said=said: any(
                    line["message"] == "loop_interrupted" and said in line["error"]
                    for line in running.logged()
                )
            )
        running.until("dead_letter")
        client.publish("leaves", b"[]")
        running.until("begun")
        assert running.signal(TERM).end() == 0


def test_what_somebody_has_still_is_not_lost_and_a_second_signal_ends_it_at_once(
    tmp_path: Path, redis_url: str, mongo_database_url: str
) -> None:
    intake = {"ENRICHER_STREAMS__INTAKE": "blocks=stream,in_c=stream"}
    with redis.Redis.from_url(redis_url) as client:
        with worker(tmp_path, redis_url, mongo_database_url, **intake) as running:
            running.until("ready")
            client.publish("blocks", b"{}")
            running.until("begun")
            assert running.signal(TERM).end() == 0
            line = next(line for line in running.logged() if line["message"] == "forced_exit")
            assert (line["lost"], line["handed_back"]) == ({}, {"blocks": 1})
        hour = ("--set", "service.drain_deadline=1h")
        with worker(tmp_path, redis_url, mongo_database_url, *hour, **intake) as running:
            running.until("ready")
            client.publish("in_c", b"{}")
            running.until("begun")
            running.signal(TERM)
            time.sleep(0.3)  # the kernel makes one signal of two that nobody has heard yet
            assert running.signal(INT).end() == 130


def test_what_was_heard_and_never_got_into_its_stream_is_lost(
    tmp_path: Path, own_redis: RedisProcess, mongo_database_url: str
) -> None:
    intake = {"ENRICHER_STREAMS__INTAKE": "leaves=stream"}
    long = ("--set", "service.drain_deadline=1m")
    with (
        worker(tmp_path, own_redis.url, mongo_database_url, *long, **intake) as running,
        redis.Redis.from_url(own_redis.url) as client,
    ):
        running.until("bridge_begins")
        client.config_set("maxmemory", 1)
        client.publish("leaves", b"[]")
        running.until("connection_lost")
        assert running.signal(TERM).end() == 3
        lost = [line["topics"] for line in running.logged() if line["message"] == "messages_lost"]
        assert lost == [{"leaves": 1}]


def test_who_holds_the_loop_is_said_while_it_is_held(tmp_path: Path, urls: Urls) -> None:
    with (
        worker(tmp_path, *urls, "--set", "service.stall_after=500ms") as running,
        redis.Redis.from_url(urls.redis) as client,
    ):
        running.until("ready")
        time.sleep(1.1)  # a loop that turns is no news
        client.publish("blocks", json.dumps({}))
        running.until("event_loop_blocked")
        line = next(line for line in running.logged() if line["message"] == "event_loop_blocked")
        assert (line["topic"], line["key"]) == ("blocks", "k1")
        assert "in blocks" in line["stack"]
        eventually(lambda: running.process.poll() is None)
        assert running.signal(TERM).end() == 3
