"""Celery 5 as the worker that enricher replaces used it: a subscriber process and a worker of four children.

The subscriber (``python -m benchmarks.peers.with_celery``) turns each message into a task of its kind on the
one queue. A task stores its document by itself, and sets its keys one after the other; a tick is claimed by a
key, and sends three tasks more, one for each rolling window, which read the ticks of their window back from
MongoDB, for four children share no memory. A chain has a task for the volatility surface, which reads quotes
back. Tasks are acknowledged late, one is prefetched for each child, all states and results are kept in
Redis; a failure is tried again after 5, 10 and 20 seconds, and then becomes a dead letter.

In its favour: no line is logged, neither by Celery nor by the tasks; keys and documents are made by faster
functions; no supervisor runs beside it; and a window reads at most as many ticks as the null MongoDB keeps
of a product (the catalogue says how many), where a feed of one tick a second makes it up to 900.
"""

from __future__ import annotations

import time
from contextlib import suppress
from functools import cache
from typing import Any

import orjson
import pymongo
import redis
from celery import Celery, Task
from pymongo.errors import DuplicateKeyError

from benchmarks.peers.catalogue import BROKER_DATABASE
from benchmarks.peers.domain import TOPICS, WINDOWS, Work, read, show, show_window
from benchmarks.peers.landing import DATABASE, MONGO_URL, REDIS_URL, RESP
from benchmarks.peers.read_back import SURFACE_MINUTES, between, show_surface, window_of
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING

SERVER = REDIS_URL.rpartition("/")[0]
RESULTS_DATABASE = 2
DEAD_LETTERS = "dlq:enrichment"

app = Celery("peers", broker=f"{SERVER}/{BROKER_DATABASE}", backend=f"{SERVER}/{RESULTS_DATABASE}")
app.conf.update(
    task_serializer="json",
    accept_content=["json"],
    result_serializer="json",
    task_track_started=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    worker_prefetch_multiplier=1,
    broker_connection_retry_on_startup=True,
)

Message = dict[str, Any]


@cache
def keys() -> redis.Redis:
    """The client of this process: made when it is first used, so never shared over a fork."""
    return redis.Redis.from_url(REDIS_URL, protocol=RESP)


@cache
def documents() -> Any:
    """The database, likewise."""
    client: Any = pymongo.MongoClient(MONGO_URL, tz_aware=True)
    return client[DATABASE]


class Enriching(Task):
    """Tried again three times; then the message is a dead letter."""

    autoretry_for = (Exception,)
    max_retries = 3
    retry_backoff = 5
    retry_jitter = False

    def on_failure(self, exc: Exception, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        """Celery calls it once no try is left."""
        letter = {"task_id": task_id, "task_name": self.name, "error": str(exc), "args": args}
        keys().lpush(DEAD_LETTERS, orjson.dumps({**letter, "timestamp": time.time()}))


@app.task(base=Enriching, name="process_underlying_tick")
def process_underlying_tick(message: Message) -> None:
    """Store, cache, publish; have the windows computed."""
    work = taken(UNDERLYING, message)
    if keys().exists(work.claim):
        return
    land(work)
    event = work.event
    for minutes in WINDOWS:
        calculate_ohlc_window.delay(event.product, minutes, event.event_us, event.naive)


@app.task(base=Enriching, name="process_option_quote")
def process_option_quote(message: Message) -> None:
    """Store and cache."""
    land(taken(OPTION_QUOTE, message))


@app.task(base=Enriching, name="process_option_chain")
def process_option_chain(message: Message) -> None:
    """Store, cache and publish, with its numbers; have the surface computed."""
    work = taken(OPTION_CHAIN, message)
    land(work)
    event = work.event
    calculate_volatility_surface.delay(event.product, event.event_us, event.naive)


@app.task(base=Enriching, name="calculate_ohlc_window")
def calculate_ohlc_window(product: str, minutes: int, end_us: int, naive: bool) -> None:
    """The rolling window that ends with a tick."""
    ticks = documents()["underlying_ticks"].find(between(product, minutes, end_us)).sort("timestamp", 1)
    window = window_of(ticks, minutes, end_us)
    if window is not None:
        keys().execute_command(*show_window(product, minutes, window, naive))


@app.task(base=Enriching, name="calculate_volatility_surface")
def calculate_volatility_surface(product: str, end_us: int, naive: bool) -> None:
    """The volatilities of the last minutes' quotes."""
    query = between(product, SURFACE_MINUTES, end_us)
    quotes = documents()["option_quotes"].find(query).sort("timestamp", 1)
    keys().execute_command(*show_surface(product, quotes, end_us, naive))


def taken(topic: str, message: Message) -> Work:
    """The message checked and made into a document."""
    return read(topic, orjson.dumps(message), time.time_ns() // 1000)


def land(work: Work) -> None:
    """Store it, then make it visible."""
    with suppress(DuplicateKeyError):
        documents()[work.collection].insert_one(work.document)
    for command in show(work, None):
        keys().execute_command(*command)


TASKS = dict(zip(TOPICS, (process_underlying_tick, process_option_quote, process_option_chain), strict=True))


def subscribe() -> None:
    """Turn every message into a task, until killed."""
    client = redis.Redis.from_url(REDIS_URL, protocol=RESP, decode_responses=True, socket_timeout=None)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(*TOPICS)
    for message in pubsub.listen():
        TASKS[message["channel"]].delay(orjson.loads(message["data"]))


if __name__ == "__main__":
    subscribe()
