"""Whose fault is an error that nobody understands? As bookkeeping about the writes of one batch.

A write that failed is in doubt. It is vouched for (by others, against itself) once a write of each kind that
it consists of has landed since: what fails then is the write and not the server. Where none of its own kind
comes, what lands of other kinds will do after a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from enricher.engine.effects import Ack, Effect, KeyClaim, SetClaim
from enricher.engine.ports import Answer, Claimed, Failed, Refused, Stored, Write

Kind = tuple[type[Effect], str]

# How often what is vouched for is tried again before it is refused.
TRIES = 4
# So many writes fail alone, and nothing lands, until the others are tried one at a time.
ALONE = 3
# Seconds after which what lands of other kinds vouches too, unless as many of its own kind fail. All that
# shares a batch with it waits for so long.
PATIENCE = 10.0
# Seconds after which a visible sink may be given what comes after it in its lane.
HELD_BACK = 60.0


def kinds(write: Write, sink: str) -> set[Kind]:
    """What a write consists of for ``sink``: per collection what is done to it, else all effects alike."""
    found = set[Kind]()
    for effect in write.effects:
        if effect.sink == sink:
            collection = getattr(effect, "collection", "")
            found.add((type(effect) if collection else Effect, collection))
    return found


class Landings:
    """What has landed in one sink, and in which order."""

    def __init__(self, sink: str) -> None:
        self.sink = sink
        self.newest = 0
        self._of_kind: dict[Kind, int] = {}

    def note(self, write: Write) -> None:
        """A write has landed that was not there before."""
        found = kinds(write, self.sink)
        if found:
            self.newest += 1
            self._of_kind.update(dict.fromkeys(found, self.newest))

    def all_since(self, at: int, wanted: set[Kind]) -> bool:
        """Whether every kind that is ``wanted`` has landed since landing number ``at``."""
        return bool(wanted) and all(self._of_kind.get(kind, 0) > at for kind in wanted)


class _Doubt:
    __slots__ = ("at", "failures", "raised", "since", "wanted")

    def __init__(self, at: int, since: float, wanted: set[Kind], raised: bool) -> None:
        self.at = at
        self.raised = raised
        self.since = since
        self.wanted = wanted
        self.failures = 0


class Doubts:
    """What is left of ``writes``, and what is known of it. Times are seconds of a monotonic clock.

    Writes are named by their places. ``in_order`` says that a write must not land before an earlier one of
    its lane. ``answers`` are those of the sink, and a refusal for each write that goes on failing.
    """

    def __init__(self, writes: Sequence[Write], landings: Landings, *, in_order: bool) -> None:
        self.answers: dict[int, Answer] = {}
        self.reason = ""
        self.away: Sequence[int] = ()
        """What was tried last when the server was away."""
        self._writes = writes
        self._landings = landings
        self._in_order = in_order
        self._fresh = list(range(len(writes)))
        self._doubts: dict[int, _Doubt] = {}
        self._landed: int | None = None

    @property
    def left(self) -> bool:
        """Whether any write is neither landed nor refused."""
        return bool(self._fresh or self._doubts)

    def add(self, number: int) -> None:
        """So many writes were added to the batch."""
        self._fresh += range(len(self._writes) - number, len(self._writes))

    def silent(self, now: float) -> int:
        """How many writes are in doubt with nothing that vouches."""
        return sum(not self._vouched(doubt, now) for doubt in self._doubts.values())

    def fail(self, now: float) -> bool:
        """Whether anything failed that has neither landed since nor is itself to blame."""
        return self.silent(now) > 0 or any(i in self._fresh for i in self.away)

    def stuck(self, now: float) -> bool:
        """Whether nothing lands, as far as can be known without waiting."""
        silent = self.silent(now)
        none_vouched = silent == len(self._doubts)
        return silent > 0 and none_vouched and (silent >= ALONE or not self._open(now))

    def exhausted(self, now: float) -> bool:
        """Whether only writes in doubt could be tried."""
        return not self._open(now)

    def choose(self, size: int, now: float) -> list[int]:
        """What to try next: ``size`` writes in order, or one that is in doubt."""
        fresh = self._open(now)
        vouched = [i for i, doubt in self._doubts.items() if self._vouched(doubt, now)]
        if fresh and (not vouched or len(self._doubts) - len(vouched) < ALONE):
            return fresh[: 1 if self.silent(now) >= ALONE else size]
        if vouched:
            return [min(vouched, key=lambda i: self._doubts[i].failures)]
        oldest = next(iter(self._doubts))
        self._doubts[oldest] = self._doubts.pop(oldest)  # the others have their turn first
        return [oldest]

    def witness(self, now: float) -> int | None:
        """A write that landed just before those in doubt failed: if it can be repeated, the server works.

        Only where all of them failed as a whole, for what is known to be there may pass where what is new
        does not; and where nobody is told anything twice, which a claim sees to.
        """
        index = self._landed
        if index is None:
            return None
        landed = self._writes[index]
        if self._in_order and not any(isinstance(e, KeyClaim | SetClaim | Ack) for e in landed.effects):
            return None
        found = kinds(landed, self._landings.sink)
        silent = [doubt for doubt in self._doubts.values() if not self._vouched(doubt, now)]
        return index if all(doubt.raised and doubt.wanted <= found for doubt in silent) else None

    def repeated(self, witness: int) -> None:
        """The ``witness`` could be repeated."""
        self._landings.note(self._writes[witness])

    def rounds(self, chosen: Sequence[int]) -> int:
        """How often the write that is ``chosen`` has failed although others landed; 0 if not."""
        doubt = self._doubts.get(chosen[0])
        return 0 if doubt is None else doubt.failures

    def take(
        self, chosen: Sequence[int], found: Mapping[int, Answer], now: float, *, raised: bool = False
    ) -> None:
        """Note what became of the writes that were ``chosen``, in their order.

        ``raised`` says that a failure was one of the whole commit, which had but this write.
        """
        for place, index in enumerate(chosen):
            answer = found.get(place)
            if isinstance(answer, Failed):
                self._failed(index, answer, now, raised)
                continue
            self._settled(index, answer)
            if answer is None:
                self._landings.note(self._writes[index])
                self._landed = index

    def _failed(self, index: int, answer: Failed, now: float, raised: bool) -> None:
        self.reason = answer.reason
        doubt = self._doubts.get(index)
        if doubt is None:
            wanted = kinds(self._writes[index], self._landings.sink)
            self._doubts[index] = _Doubt(self._landings.newest, now, wanted, raised)
            self._fresh.remove(index)
        elif self._vouched(doubt, now):
            doubt.failures += 1
            if doubt.failures >= TRIES:
                self._settled(index, Refused(answer.reason, answer.error_type, answer.traceback))

    def _settled(self, index: int, answer: Refused | Stored | Claimed | None) -> None:
        if self._doubts.pop(index, None) is None:
            self._fresh.remove(index)
        if answer is not None:
            self.answers[index] = answer

    def _vouched(self, doubt: _Doubt, now: float) -> bool:
        landings = self._landings
        if landings.all_since(doubt.at, doubt.wanted):
            return True
        if landings.newest <= doubt.at or now - doubt.since <= PATIENCE:
            return False
        return sum(other.wanted == doubt.wanted for other in self._doubts.values()) < ALONE

    def _open(self, now: float) -> list[int]:
        """What has never failed and may be tried."""
        if not (self._in_order and self._doubts):
            return self._fresh
        held = {
            id(owner)
            for i, doubt in self._doubts.items()
            if (owner := self._writes[i].owner) is not None and now - doubt.since <= HELD_BACK
        }
        return [i for i in self._fresh if id(self._writes[i].owner) not in held]
