"""A batch of which a commit failed: what is left of it, what to try next, and which write is to blame.

The rules are those of `circuit_breaker`; nothing here waits or asks. A write that failed for a reason
that nobody knows is a suspect. It is to blame, and not the server, once a write of each kind that it consists
of was written after it had failed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from enricher.engine.effects import Ack, Effect, KeyClaim, SetClaim
from enricher.engine.ports import Answer, Claimed, Failed, Refused, Write
from enricher.errors import SinkUnavailable, WriteRefused
from enricher.texts import text_of, trace_of

Kind = tuple[type[Effect], str]
Outcome = Mapping[int, Answer] | Exception
"""What became of a try: the sink's answers, or what it raised."""

# Errors of what a write holds: it cannot be encoded, today or tomorrow.
OF_ONE_WRITE = (WriteRefused, TypeError, ValueError, OverflowError, RecursionError)
# How often a write that is to blame is tried again before it is refused.
TRIES = 4
# With so many suspects, and nothing written since, the others are tried one at a time.
MANY = 3
# Seconds after which a write of another kind is proof enough, unless `MANY` suspects are of the same kinds.
PATIENCE = 10.0
# Seconds after which a visible sink may be given what follows a suspect in its lane.
HELD_BACK = 60.0


def kinds(write: Write, sink: str) -> set[Kind]:
    """What a write consists of for ``sink``: per collection (or index) what is done to it, else all alike."""
    effects = [(type(e), _place(e)) for e in write.effects if e.sink == sink]
    return {(kind if collection else Effect, collection) for kind, collection in effects}


def _place(effect: Effect) -> str:
    return getattr(effect, "collection", "") or getattr(effect, "index", "")


class Written:
    """What one sink has written, whatever the batch: the number of the newest write of each kind."""

    def __init__(self, sink: str) -> None:
        self.sink = sink
        self.newest = 0
        self._of_kind: dict[Kind, int] = {}

    def note(self, write: Write) -> None:
        """Something was written that was not there before."""
        if written := kinds(write, self.sink):
            self.newest += 1
            self._of_kind.update(dict.fromkeys(written, self.newest))

    def all_since(self, number: int, wanted: set[Kind]) -> bool:
        """Whether every kind that is ``wanted`` was written after write ``number``."""
        return bool(wanted) and all(self._of_kind.get(kind, 0) > number for kind in wanted)


@dataclass(slots=True)
class _Suspect:
    newest: int
    """The newest write when it failed."""
    since: float
    kinds: set[Kind]
    alone: bool
    """The commit failed as a whole, and it had but this write."""
    failures: int = 0
    """How often it has failed since it was to blame."""


class FailedBatch:
    """What is left of ``writes``, named by their places. Times are seconds of a monotonic clock.

    ``in_order`` says that a write must not be written before an earlier one of its lane. By turns `take` is
    told what became of a try, `look` says whether to wait, `choose` chooses what is next, until nothing is
    `left`.
    """

    def __init__(self, writes: Sequence[Write], written: Written, *, in_order: bool) -> None:
        self.answers: dict[int, Answer] = {}
        """Those of the sink, and a refusal for each write that is to blame."""
        self.chosen: Sequence[int] = range(len(writes))
        """What is being tried."""
        self.attempt = 0
        """How often it was waited since something was answered."""
        self._writes = writes
        self._written = written
        self._in_order = in_order
        self._size = len(writes)
        self._fresh = list(range(len(writes)))
        self._suspects: dict[int, _Suspect] = {}
        self._reason = ""
        self._tried = self._away = False
        self._unreached: Sequence[int] = ()
        self._last: int | None = None
        self._probe: int | None = None

    @property
    def left(self) -> bool:
        """Whether any write is neither written nor refused."""
        return bool(self._fresh or self._suspects)

    # -- what became of a try ----------------------------------------------------------------------

    def take(self, outcome: Outcome | None, now: float) -> str | None:
        """Note the ``outcome`` of trying what was chosen; None if an outage did not let anybody try.

        Returns why the sink is down, "" if it has answered, and None if that is not known.
        """
        if outcome is None:
            self._away = True
            return None
        if isinstance(outcome, Exception):
            return self._raised(outcome, now)
        self.attempt, self._away = 0, False
        self._size *= 2
        for place, index in enumerate(self.chosen):
            answer = outcome.get(place)
            if self._tried and isinstance(answer, Claimed):
                answer = None  # by an earlier try of this batch, whose answer was lost
            if self._probe is not None:
                if isinstance(answer, Failed):
                    return answer.reason
                self._written.note(self._writes[index])
            elif isinstance(answer, Failed):
                self._failed(index, answer, now, alone=False)
            else:
                self._settle(index, answer)
                if answer is None:
                    self._written.note(self._writes[index])
                    self._last = index
        return ""

    def _raised(self, error: Exception, now: float) -> str | None:
        self._tried = True
        if isinstance(error, SinkUnavailable):
            self._away, self._unreached = True, self.chosen
            return error.reason
        self._size = max(1, len(self.chosen) // 2)
        if len(self.chosen) > 1:
            return None
        kind = type(error.__cause__ if isinstance(error, WriteRefused) and error.__cause__ else error)
        # Text, as a console's rendering of the error can take seconds.
        failed = Failed(text_of(error) or repr(error), kind.__name__, trace_of(error))
        if self._probe is not None:
            return failed.reason
        if isinstance(error, OF_ONE_WRITE):
            self._settle(self.chosen[0], _refused(failed, getattr(error, "path", None)))
        else:
            self._failed(self.chosen[0], failed, now, alone=True)
        return ""

    def _failed(self, index: int, answer: Failed, now: float, *, alone: bool) -> None:
        self._reason = answer.reason
        suspect = self._suspects.get(index)
        if suspect is None:
            wanted = kinds(self._writes[index], self._written.sink)
            self._suspects[index] = _Suspect(self._written.newest, now, wanted, alone)
            self._fresh.remove(index)
        elif self._to_blame(suspect, now):
            suspect.failures += 1
            if suspect.failures >= TRIES:
                self._settle(index, _refused(answer))

    def _settle(self, index: int, answer: Answer | None) -> None:
        if self._suspects.pop(index, None) is None:
            self._fresh.remove(index)
        if answer is not None:
            self.answers[index] = answer

    # -- what is known -----------------------------------------------------------------------------

    def _to_blame(self, suspect: _Suspect, now: float) -> bool:
        if self._written.all_since(suspect.newest, suspect.kinds):
            return True
        if self._written.newest <= suspect.newest or now - suspect.since <= PATIENCE:
            return False
        return sum(other.kinds == suspect.kinds for other in self._suspects.values()) < MANY

    def _judged(self, now: float) -> tuple[list[int], list[int]]:
        """The suspects that are to blame, and those of which nobody knows."""
        judged: tuple[list[int], list[int]] = [], []
        for index, suspect in self._suspects.items():
            judged[not self._to_blame(suspect, now)].append(index)
        return judged

    def fails(self, now: float) -> bool:
        """Whether anything failed that was not written since and is not itself to blame."""
        return bool(self._judged(now)[1]) or any(index in self._fresh for index in self._unreached)

    def _open(self, now: float) -> list[int]:
        """What has never failed and may be tried."""
        if not (self._in_order and self._suspects):
            return self._fresh
        suspects = ((self._writes[i].owner, suspect) for i, suspect in self._suspects.items())
        held = {id(o) for o, suspect in suspects if o is not None and now - suspect.since <= HELD_BACK}
        return [i for i in self._fresh if id(self._writes[i].owner) not in held]

    # -- what to do --------------------------------------------------------------------------------

    def look(self, now: float, *, down: bool) -> tuple[bool, str]:
        """Whether to wait before the next try, and why the sink is down, if only this says so.

        Where nothing is written any more, a write that was is tried again: if it can be, the server works.
        """
        to_blame, unknown = self._judged(now)
        stuck = bool(unknown) and not to_blame and (len(unknown) >= MANY or not self._open(now))
        self._probe = self._find_probe(unknown) if stuck else None
        found_down = stuck and self._probe is None
        waits = self._away or (stuck and (found_down or down))
        if waits:
            self.attempt += 1
            self._size = max(1, self._size // 2)
        return waits, self._reason if found_down else ""

    def _find_probe(self, unknown: Sequence[int]) -> int | None:
        """The last write that was written. Only where each suspect failed alone, as a whole commit, for a
        server may take again what it has while it takes nothing new; and where nothing is published twice,
        which a claim sees to.
        """
        if self._last is None:
            return None
        probe = self._writes[self._last]
        if self._in_order and not any(isinstance(e, KeyClaim | SetClaim | Ack) for e in probe.effects):
            return None
        known = kinds(probe, self._written.sink)
        suspects = (self._suspects[index] for index in unknown)
        return self._last if all(suspect.alone and suspect.kinds <= known for suspect in suspects) else None

    def exhausted(self, now: float) -> bool:
        """Whether only writes that came later can show whether anything is written."""
        to_blame, unknown = self._judged(now)
        return bool(unknown) and not to_blame and not self._open(now)

    def add(self, number: int) -> None:
        """So many writes were added to the batch."""
        self._fresh += range(len(self._writes) - number, len(self._writes))

    def choose(self, now: float) -> int:
        """Choose what to try next; how often it has failed although others were written."""
        self.chosen = [self._probe] if self._probe is not None else self._choice(now)
        suspect = self._suspects.get(self.chosen[0])
        return 0 if suspect is None else suspect.failures

    def _choice(self, now: float) -> list[int]:
        fresh, (to_blame, unknown) = self._open(now), self._judged(now)
        if fresh and len(unknown) < MANY:
            return fresh[: self._size]
        if to_blame:
            return [min(to_blame, key=lambda index: self._suspects[index].failures)]
        if fresh:
            return fresh[:1]
        oldest = next(iter(self._suspects))
        self._suspects[oldest] = self._suspects.pop(oldest)  # the others have their turn first
        return [oldest]


def _refused(failed: Failed, path: str | None = None) -> Refused:
    return Refused(failed.reason, failed.error_type, failed.traceback, path)
