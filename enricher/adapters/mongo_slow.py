"""Which commands to MongoDB are slow: a listener of either driver that counts them."""

from __future__ import annotations

from collections import Counter
from threading import Lock

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)

from enricher.metrics import Metric

_SLOW_US = 100_000


class SlowCommands(CommandListener):
    """Counts the commands of a client that took longer than 100 ms, by name."""

    def __init__(self) -> None:
        self.counts = Counter(dict.fromkeys(("insert", "update", "find"), 0))
        # Motor runs commands in threads.
        self._lock = Lock()

    def started(self, event: CommandStartedEvent) -> None:
        """Nothing: the end of a command knows how long it took."""

    def succeeded(self, event: CommandSucceededEvent | CommandFailedEvent) -> None:
        """Count it if it was slow."""
        if event.duration_micros > _SLOW_US:
            with self._lock:
                self.counts[event.command_name] += 1

    failed = succeeded

    def metric(self) -> Metric:
        """The counts."""
        text = "Commands to MongoDB that took longer than 100 ms."
        samples = [({"command": name}, float(number)) for name, number in self.counts.copy().items()]
        return Metric(name="enricher_mongo_slow_commands", help=text, kind="counter", samples=samples)
