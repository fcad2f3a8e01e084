"""Which queues free slots read: by strict priority, or by weight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from enricher.errors import WrongSetting


class Shares:
    """Divides free slots among queues.

    A sequence of names is strict priority: all slots go to the first queue, and what it leaves goes to the
    next. A mapping is weights: over a while, queues that have jobs start them in this proportion (start-time
    fair queueing: each queue has a clock that runs slower the heavier it is, and the one furthest behind is
    next).

        asked = shares.take(free)       # [("critical", 5), ("default", 3), ("low", 0)]
        shares.served(what_came)        # {"default": 8}
    """

    def __init__(self, queues: Sequence[str] | Mapping[str, int]) -> None:
        self.names = tuple(dict.fromkeys(queues))
        if not self.names:
            raise WrongSetting("jobs.queues", queues, "at least one queue")
        self._asked: Mapping[str, int] = {}
        self._steps: dict[str, int] = {}
        if isinstance(queues, Mapping):
            for name, weight in queues.items():
                if weight < 1:
                    raise WrongSetting(f"jobs.queues.{name}", weight, "a weight of at least 1")
            whole = math.lcm(*queues.values())
            self._steps = {name: whole // weight for name, weight in queues.items()}
        self._clocks = dict.fromkeys(self._steps, 0)

    def take(self, want: int) -> Sequence[tuple[str, int]]:
        """How many jobs to read from each queue; the numbers add up to ``want``.

        What a queue cannot give is to be filled from the others, in the order of the answer.
        """
        if not self._steps:
            return [(name, want if name == self.names[0] else 0) for name in self.names]
        clocks = dict(self._clocks)

        def turn(name: str) -> tuple[int, int]:
            return clocks[name], self._steps[name]

        asked = dict.fromkeys(sorted(self.names, key=turn), 0)
        for _ in range(want):
            name = min(asked, key=turn)
            asked[name] += 1
            clocks[name] += self._steps[name]
        self._asked = asked
        return list(asked.items())

    def served(self, counts: Mapping[str, int]) -> None:
        """Charge each queue with the jobs that came after the last `take` (a missing queue gave none)."""
        if not self._steps:
            return
        filled = sum(counts.values()) >= sum(self._asked.values())
        empty = {name for name, asked in self._asked.items() if counts.get(name, 0) < asked or not filled}
        for name, count in counts.items():
            self._clocks[name] += count * self._steps[name]
        # An idle queue's clock goes on with those of the others: it must not come back with a claim on
        # every slot. If all were empty there is nobody to be fair to, and they begin anew.
        busy = [clock for name, clock in self._clocks.items() if name not in empty]
        present = min(busy) if busy else max(self._clocks.values())
        for name in empty:
            self._clocks[name] = max(self._clocks[name], present)
        behind = min(self._clocks.values())
        self._clocks = {name: clock - behind for name, clock in self._clocks.items()}
