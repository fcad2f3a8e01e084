"""taskiq with taskiq-redis: a worker process that subscribes and runs its own tasks (on uvloop by itself)."""

from __future__ import annotations

from taskiq import TaskiqEvents, TaskiqState
from taskiq.serializers import ORJSONSerializer
from taskiq_redis import ListQueueBroker

from benchmarks.peers import subscriber
from benchmarks.peers.landing import REDIS_URL, RESP, Landing

# Its listener waits without a limit, and ends for good when redis-py's default of 5 s cuts the wait short.
broker = ListQueueBroker(REDIS_URL, protocol=RESP, socket_timeout=None).with_serializer(ORJSONSerializer())

_landings: list[Landing] = []


@broker.on_event(TaskiqEvents.WORKER_STARTUP)
async def connect(_: TaskiqState) -> None:
    """Clients belong to the loop that runs now; so does the subscriber."""
    _landings.append(Landing())
    subscriber.start(enrich.kiq)


@broker.task(task_name="enrich")
async def enrich(topic: str, text: str) -> None:
    """One message."""
    await _landings[0].land(topic, text.encode())
