"""Celery 5 with as little of it as does the job: a subscriber and two prefork workers of one child each.

The subscriber is ``python -m benchmarks.peers.with_celery_lean``. Each worker has its own queue, and a
product always goes to the same one: so the rolling windows may live in the child's memory and nothing is read
back. A message is one task, its keys are set in one round trip, and no result is kept, as Celery's own advice
is for results that nobody reads.
"""

from __future__ import annotations

import zlib

import redis
from celery import Celery
from celery.signals import worker_process_init

from benchmarks.peers.catalogue import BROKER_DATABASE
from benchmarks.peers.landing import REDIS_URL, RESP, TOPICS, BlockingLanding
from enricher.messages.models import peek_product

WORKERS = 2

app = Celery("peers", broker=REDIS_URL.rpartition("/")[0] + f"/{BROKER_DATABASE}")
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_store_errors_even_if_ignored=False,
    worker_send_task_events=False,
    worker_enable_remote_control=False,
    broker_connection_retry_on_startup=True,
    task_create_missing_queues=True,
)

_landings: list[BlockingLanding] = []


@worker_process_init.connect
def connect(**_: object) -> None:
    """Clients are made in the child: they must not be shared over a fork."""
    _landings.append(BlockingLanding())


@app.task(name="enrich")
def enrich(topic: str, text: str) -> None:
    """One message."""
    _landings[0].land(topic, text.encode())


def queue(number: int) -> str:
    """The queue of a worker."""
    return f"market-{number}"


def subscribe() -> None:
    """Turn every message into a task, until killed."""
    client = redis.Redis.from_url(
        REDIS_URL, protocol=RESP, decode_responses=True, socket_timeout=None
    )
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(*TOPICS)
    for message in pubsub.listen():
        text = message["data"]
        product = peek_product(text.encode()) or ""
        number = zlib.crc32(product.encode()) % WORKERS
        enrich.apply_async((message["channel"], text), queue=queue(number))


if __name__ == "__main__":
    subscribe()
