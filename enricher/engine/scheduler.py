"""Every family of lanes of a pool, and whose turn is next.

Strict priority first, then the family that was served least by its weight, lanes of a family in turn, so that
neither a busy route nor a hot key starves the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from enricher.engine.lanes import Family, Lane
from enricher.engine.router import Route
from enricher.engine.writer import CommitGroup


class Families:
    """One family per state store or topic of ``routes``; ``group`` finds the group of some sinks."""

    __slots__ = ("_by_rank", "by_name")

    def __init__(self, routes: Sequence[Route], group: Callable[[tuple[str, ...]], CommitGroup]) -> None:
        self.by_name: dict[str, Family] = {}
        for route in routes:
            if route.family not in self.by_name:
                members = [r for r in routes if r.family == route.family]
                self.by_name[route.family] = Family(members, group(route.sinks))
        self._by_rank = sorted(self.by_name.values(), key=lambda f: -f.priority)

    def __iter__(self) -> Iterator[Family]:
        return iter(self._by_rank)

    def pick(self) -> Lane | None:
        """The lane that has the next turn, taken out of those that wait; None if none may have one."""
        best: Family | None = None
        for family in self._by_rank:
            if best is not None and family.priority < best.priority:
                break
            # As `Family.servable` says it, which would be a call more for each message of a trickle.
            if not family.ready or family.group.room <= 0:
                continue
            if family.cap and family.running >= family.cap:
                continue
            if best is None or family.passed < best.passed:
                best = family
        return None if best is None else best.ready.popleft()

    def waits_beside(self, lane: Lane) -> bool:
        """Whether another lane waits for a turn, whatever it is that is missing for it."""
        return bool(lane.family.ready) or any(family.ready for family in self._by_rank)

    def level(self, family: Family) -> None:
        """A family that was idle gets no credit for the time it did not use."""
        busy = [f.passed for f in self._by_rank if f is not family and (f.ready or f.running)]
        family.passed = max(family.passed, min(busy, default=family.passed))
