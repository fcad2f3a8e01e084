"""Counting CPU time by stage, for part `stages`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
import structlog

from enricher.market.feed.channels import Message

STAGES = (
    "receive",
    "admit",
    "decode",
    "fold",
    "settle",
    "engine",
    "release",
    "documents",
    "arguments",
    "replies",
)
Seconds = dict[str, float]


def wall_clock() -> int:
    """Microseconds since 1970, UTC."""
    return time.time_ns() // 1000


class Stopwatch:
    """CPU seconds of this process by stage."""

    def __init__(self) -> None:
        self.seconds: Seconds = dict.fromkeys(STAGES, 0.0)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block under this stage."""
        before = time.process_time()
        try:
            yield
        finally:
            self.seconds[name] += time.process_time() - before

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, counted under this stage; for what runs once a turn or a batch, not per message."""

        def call(*arguments: Any) -> Any:
            with self.stage(name):
                return function(*arguments)

        return call


def publish_without_a_turn(redis_url: str, messages: Sequence[Message]) -> None:
    """Publish everything while the loop stands still, so that a subscriber in it finds all of it waiting."""
    with redis.Redis.from_url(redis_url) as client:
        for start in range(0, len(messages), 200):
            pipe = client.pipeline(transaction=False)
            for topic, body in messages[start : start + 200]:
                pipe.publish(topic, body)
            pipe.execute()


@contextmanager
def patched(owner: Any, name: str, change: Callable[[Any], Any]) -> Iterator[None]:
    """For the block, ``change`` of what ``owner`` has under this name."""
    before = getattr(owner, name)
    setattr(owner, name, change(before))
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def quiet() -> Iterator[None]:
    """Log only warnings, as a worker in a benchmark does."""
    before = structlog.get_config()["wrapper_class"]
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    try:
        yield
    finally:
        structlog.configure(wrapper_class=before)
