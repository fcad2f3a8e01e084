"""What commands print: lines of progress, counts, and errors of Redis without its password."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click
from redis.exceptions import RedisError

from enricher.config import redact
from enricher.errors import EnricherError

_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|\r(?!\n)")


@contextmanager
def talking_to(url: str) -> Iterator[None]:
    """Turns what the Redis client raises into an error that names the server, without its password."""
    try:
        yield
    except RedisError as error:
        # "@" is how Redis names a script, and how a URL ends a password.
        text = str(error).replace("@user_script", "user_script")
        raise EnricherError(f"Redis at {redact(url)}: {type(error).__name__}: {text}") from error


def say(text: str) -> None:
    """Print a line on standard error, for the person at the terminal."""
    click.echo(text, err=True)


def visible(text: str) -> str:
    """The text with control characters escaped, but for tabs and ends of lines.

    What came over the feed may hold orders to a terminal.
    """
    return _CONTROLS.sub(lambda found: f"\\x{ord(found[0]):02x}", text)


def listed(counts: Counter[str]) -> str:
    """``a 1,234, b 5``: counts by name, in the order of the names."""
    return ", ".join(f"{name} {number:,}" for name, number in sorted(counts.items())) or "nothing"


class EverySecond:
    """A line of progress once a second."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._last = clock()
        self._before = 0

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._began

    def rate(self, total: int) -> float | None:
        """Per second since the last line, once a second has passed since then; else None."""
        now = self._clock()
        passed = now - self._last
        if passed < 1.0:
            return None
        rate = (total - self._before) / passed
        self._last, self._before = now, total
        return rate

    def report(self, total: int, rest: str) -> None:
        """Say how fast ``total`` grows, once a second has passed since the last line; ``rest`` follows it."""
        if (rate := self.rate(total)) is not None:
            say(f"{self.seconds:6.0f} s  {rate:9,.0f} /s  {total:12,} {rest}")
