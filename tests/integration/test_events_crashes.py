"""Events whose workers are killed and whose servers go away: what was answered 202 ends once, in success."""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import redis.asyncio

from enricher import load
from enricher.events.documents import pending
from tests.integration.forks import Forked, command
from tests.integration.test_events_http import id_in, intake
from tests.integration.worker import ROOT, database
from tests.rig import until
from tests.servers import MongoProcess, RedisProcess, Urls, free_port

# A busy worker is not taken for a dead one.
LEASE, SWEEP = 3.0, 3.0
LETTERS = load().dead_letters.key


class EventWorkers:
    """Processes of ``enricher run`` for events alone, each with an address of its own."""

    def __init__(self, urls: Urls, folder: Path, more: Mapping[str, object] | None = None) -> None:
        self.events = database(urls.mongo)["events"]
        self.letters = redis.Redis.from_url(urls.redis)
        self.processes: dict[str, Forked] = {}
        self.ports: dict[str, int] = {}
        self._folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if name.startswith(("PATH", "HOME"))},
            "PYTHONPATH": str(ROOT),
            "ENRICHER_REDIS__URL": urls.redis,
            "ENRICHER_MONGO__URL": urls.mongo,
            "ENRICHER_MARKET__ENABLED": "false",
            "ENRICHER_EVENTS__PACKAGES": "tests.event_app",
            "ENRICHER_EVENTS__LEASE": str(LEASE),
            "ENRICHER_EVENTS__SWEEP_AFTER": str(SWEEP),
            **{f"ENRICHER_{key.upper()}": str(value) for key, value in (more or {}).items()},
        }

    def start(self, name: str) -> None:
        """Begin a worker; its log is ``{name}.log`` in the folder."""
        self.ports.setdefault(name, free_port())
        listen = {"ENRICHER_WEB__LISTEN": f"127.0.0.1:{self.ports[name]}"}
        log = self._folder / f"{name}.log"
        self.processes[name] = command(["run"], {**self._environment, **listen}, self._folder, log)

    def kill(self, name: str) -> None:
        """SIGKILL, and wait for the end."""
        process = self.processes.pop(name)
        process.kill()
        process.wait(30)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.ports[name]}/events"

    def statuses(self) -> Counter[str]:
        """How many events there are of each status."""
        return Counter(event["status"] for event in self.events.find({}, {"status": 1}))

    def set_aside(self) -> list[Any]:
        """The dead letters."""
        return [json.loads(letter) for letter in self.letters.lrange(LETTERS, 0, -1)]


@contextmanager
def event_workers(urls: Urls, folder: Path, **more: object) -> Iterator[EventWorkers]:
    """Workers that have ended when the block is left."""
    workers = EventWorkers(urls, folder, more)
    try:
        yield workers
    finally:
        for name in list(workers.processes):
            workers.kill(name)
        workers.letters.close()


@asynccontextmanager
async def ends_of(url: str) -> AsyncIterator[Counter[tuple[str, str]]]:
    """How often each event was published as ended, by id and status."""
    ends: Counter[tuple[str, str]] = Counter()
    async with redis.asyncio.Redis.from_url(url) as client, client.pubsub() as channel:
        await channel.psubscribe("celery-task-meta-*")

        async def listen() -> None:
            async for message in channel.listen():
                if message["type"] == "pmessage":
                    result = json.loads(message["data"])
                    if result["status"] in ("SUCCESS", "FAILURE"):
                        ends[result["task_id"], result["status"]] += 1

        task = asyncio.create_task(listen())
        try:
            yield ends
        finally:
            task.cancel()
            await asyncio.wait([task])


async def accepted(
    client: httpx.AsyncClient, urls: list[str], text: str, key: str, draw: random.Random
) -> str:
    """The id of an event that is posted until some worker accepts it."""
    while True:
        try:
            headers = {"Idempotency-Key": key}
            answer = await client.post(draw.choice(urls), json={"text": text}, headers=headers)
        except httpx.TransportError:
            await asyncio.sleep(0.05)
            continue
        if answer.status_code != 503:
            return id_in(answer)
        assert int(answer.headers["retry-after"]) > 0
        await asyncio.sleep(0.05)


async def kills(urls: Urls, folder: Path, *, number: int, seed: int) -> None:
    """The law: whoever is killed, each event that was accepted ends once, in success."""
    draw = random.Random(seed)
    with event_workers(urls, folder) as workers:
        for name in ("a", "b"):
            workers.start(name)
        addresses = [workers.url(name) for name in ("a", "b")]
        ids: list[str] = []
        done = asyncio.Event()

        async def post(client: httpx.AsyncClient) -> None:
            while not done.is_set():
                text = f"sleep {draw.uniform(0, 0.1):.3f}"
                ids.append(await accepted(client, addresses, text, uuid.uuid4().hex, draw))
                await asyncio.sleep(draw.uniform(0, 0.05))

        async with ends_of(urls.redis) as ends, httpx.AsyncClient(timeout=30) as client:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(4):
                    tasks.create_task(post(client))
                await until(lambda: ends, "the first end")
                for _ in range(number):
                    await asyncio.sleep(draw.uniform(0.1, 1.0))
                    name = draw.choice(("a", "b"))
                    await asyncio.to_thread(workers.kill, name)
                    workers.start(name)
                done.set()
            await until(lambda: set(workers.statuses()) == {"SUCCESS"}, "all to end", 240)
            await until(lambda: len(ends) >= len(ids), "all ends to be heard")
            assert workers.set_aside() == []
            assert {id_ for id_, _ in ends} >= set(ids)
            assert {status for _, status in ends} == {"SUCCESS"}
            assert [end for end, times in ends.items() if times > 1] == []
            assert workers.events.count_documents({}) == len(ids)


@pytest.mark.parametrize("seed", [1, 2])
async def test_whoever_is_killed_each_accepted_event_ends_once(urls: Urls, tmp_path: Path, seed: int) -> None:
    await kills(urls, tmp_path, number=3, seed=seed)


async def test_the_same_posts_of_many_clients_are_one_event(urls: Urls, tmp_path: Path) -> None:
    draw = random.Random(3)
    with event_workers(urls, tmp_path) as workers:
        for name in ("a", "b"):
            workers.start(name)
        addresses = [workers.url(name) for name in ("a", "b")]
        posts = [f"key-{number}" for number in range(20) for _ in range(50)]
        draw.shuffle(posts)
        found: set[tuple[str, str]] = set()
        async with ends_of(urls.redis) as ends, asyncio.TaskGroup() as tasks:

            async def client(mine: list[str]) -> None:
                async with httpx.AsyncClient(timeout=60) as http:
                    for key in mine:
                        found.add((key, await accepted(http, addresses, key, key, draw)))

            for number in range(8):
                tasks.create_task(client(posts[number::8]))
        await until(lambda: workers.statuses() == Counter({"SUCCESS": 20}), "twenty events to end")
        assert len(found) == 20
        assert max(ends.values(), default=1) == 1


async def test_without_mongodb_an_event_is_refused_for_now_and_what_was_accepted_stays(
    own_mongo: MongoProcess, redis_url: str
) -> None:
    urls = Urls(redis_url, own_mongo.url("test"))
    async with intake(urls, events__accept_timeout=0.5, mongo__timeout=2) as (client, enricher):
        draw = random.Random(1)
        before = [await accepted(client, ["/events"], f"n{n}", f"n{n}", draw) for n in range(5)]
        own_mongo.kill()
        refused = [await client.post("/events", json={"text": f"late{n}"}) for n in range(5)]
        # Those that waited, and those that were told at once.
        assert {answer.status_code for answer in refused} == {503}
        assert all(int(answer.headers["retry-after"]) > 0 for answer in refused)
        await until(lambda: "documents" in enricher.health()["outages"], "the outage to be known")
        said = (await client.post("/events", json={"text": "x"})).json()["detail"]
        assert "events cannot be stored now" in said
        assert (await client.get(f"/events/{before[0]}")).status_code == 503
        own_mongo.start()

        async def accepts() -> bool:
            return (await client.post("/events", json={"text": "again"})).status_code == 202

        await until(accepts, "events to be accepted again")
        events = database(urls.mongo)["events"]
        for id_ in before:
            await until(lambda id_=id_: events.find_one({"_id": id_})["status"] == "SUCCESS", "its end")
        with redis.Redis.from_url(redis_url) as letters:
            assert letters.llen(LETTERS) == 0


async def test_an_outage_of_mongodb_uses_up_no_attempt_of_what_waits_in_the_stream(
    own_mongo: MongoProcess, redis_url: str
) -> None:
    urls = Urls(redis_url, own_mongo.url("test"))
    patient = {"events__max_retries": 1, "events__initial_backoff": 0.05, "mongo__timeout": 1}
    async with intake(urls, **patient) as (_, enricher):
        waiting = pending("late", "Ticket", {"text": "x"}, token="", now_us=time.time_ns() // 1000)
        database(urls.mongo)["events"].insert_one(waiting)
        own_mongo.kill()
        with redis.Redis.from_url(redis_url) as stream:
            stream.xadd("enricher:events", {"id": "late"})
            counts = enricher.stats.topic("enricher:events").counts
            await until(lambda: counts["retried"] >= 3, "more failures than an event may have")
            own_mongo.start()
            events = database(urls.mongo)["events"]
            await until(lambda: events.find_one({"_id": "late"})["status"] == "SUCCESS", "its end")
            assert stream.llen(LETTERS) == 0
        assert events.find_one({"_id": "late"})["attempts"] == 1


@pytest.mark.parametrize("frozen", [False, True])
async def test_without_redis_events_are_accepted_and_processed_later(
    own_redis: RedisProcess, mongo_database_url: str, frozen: bool
) -> None:
    urls = Urls(own_redis.url, mongo_database_url)
    async with intake(urls, events__sweep_after=2, redis__socket_timeout=1) as (client, _):
        (own_redis.pause if frozen else own_redis.kill)()
        ids = [id_in(await client.post("/events", json={"text": f"n{n}"})) for n in range(20)]
        (own_redis.resume if frozen else own_redis.start)()
        events = database(urls.mongo)["events"]
        await until(lambda: events.count_documents({"status": "SUCCESS"}) == len(ids), "all to end")
        assert events.count_documents({}) == len(ids)
        assert own_redis.call("LLEN", LETTERS) == b":0\r\n"


async def test_what_redis_has_lost_is_appended_again(
    own_redis: RedisProcess, mongo_database_url: str
) -> None:
    urls = Urls(own_redis.url, mongo_database_url)
    settings = {"events__concurrency": 2, "events__sweep_after": 2, "events__lease": 1}
    async with intake(urls, **settings) as (client, _):
        ids = [id_in(await client.post("/events", json={"text": "sleep 0.3"})) for _ in range(12)]
        own_redis.flush()
        events = database(urls.mongo)["events"]
        await until(lambda: events.count_documents({"status": "SUCCESS"}) == len(ids), "all to end")
        assert own_redis.call("LLEN", LETTERS) == b":0\r\n"


async def test_what_was_stored_when_its_worker_was_killed_is_processed_by_another(
    own_redis: RedisProcess, mongo_database_url: str, tmp_path: Path
) -> None:
    urls = Urls(own_redis.url, mongo_database_url)
    with event_workers(urls, tmp_path) as workers:
        workers.start("a")
        async with httpx.AsyncClient(timeout=60) as client:
            draw = random.Random(1)
            await accepted(client, [workers.url("a")], "first", "first", draw)
            await until(lambda: workers.statuses() == Counter({"SUCCESS": 1}), "the first one")
            own_redis.pause()
            for number in range(5):
                await accepted(client, [workers.url("a")], f"n{number}", f"n{number}", draw)
            workers.kill("a")
            own_redis.resume()
        assert workers.statuses() == Counter({"SUCCESS": 1, "PENDING": 5})
        workers.start("b")
        await until(lambda: workers.statuses() == Counter({"SUCCESS": 6}), "all of them")
        assert workers.set_aside() == []


async def test_an_event_that_kills_its_worker_again_and_again_has_failed(urls: Urls, tmp_path: Path) -> None:
    with event_workers(urls, tmp_path) as workers:
        workers.start("a")

        async def ended() -> bool:
            if workers.processes["a"].poll() is not None:
                workers.start("a")
            return workers.statuses() == Counter({"FAILURE": 1})

        async with httpx.AsyncClient(timeout=60) as client:
            await accepted(client, [workers.url("a")], "die", "die", random.Random(1))
        await until(ended, "its end")
        await until(workers.set_aside, "its dead letter")
        (letter,) = workers.set_aside()
        (event,) = workers.events.find()
    assert letter["stage"] == "poison"
    assert event["error"]["type"] == "SetAside"
    assert "delivered 3 times and never finished" in event["error"]["message"]
