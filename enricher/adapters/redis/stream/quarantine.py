"""Entries that somebody left unfinished, and in what company each is tried again.

The process that had them may have died of one of them, or of something else. What is known of an entry is
how often it was delivered and left, and what it was exposed to: companies that were left too.

    merely read     it was one of many under way. It is tried at once: alone if there are few such, else in a
                    company, each twice as large as the one before
    in a company    the company was left, which counts against none of its members. Each is tried in a smaller
                    one, at last alone, once this worker has lived for a third of a lease
    alone           nothing else was under way: this counts. It is tried again, alone, when the rest is done

The last delivery that an entry has is alone, and not before its worker has lived for a lease. So an entry is
poison only if the process that had it ended ``max_deliveries`` times, all but the first of them while
nothing else was under way, and the last of them not soon after its start. A process that is killed at
random moments does not meet one entry in this way again and again, and while it lives briefly it works on
what nobody has died of.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from enricher.adapters.redis.stream.group import StreamGroup

# Most in a company, of those that were merely read, were exposed once, twice. One by one, entries would hold
# up a busy stream for longer than a worker that is killed now and then lives.
COMPANIES = (1000, 128, 16)
# Where a worker begins: even one that is killed within a second shall get something done.
FIRST = 32
# So many are tried alone at once: it takes no longer than to find out in a company that it was none of them.
FEW = 8


class Suspect(msgspec.Struct, frozen=True):
    """An entry to take, the number of the delivery that this will be, and what it was ``exposed`` to.

    0: nothing; 1, 2, 3: a company of the size of `COMPANIES`, the last of those it was in.
    """

    group: StreamGroup
    id: str
    delivery: int
    exposed: int = 0

    def waits(self, max_deliveries: int) -> float:
        """How long a worker must have lived before it tries this, in leases."""
        if self.delivery == 1 or self.delivery > max_deliveries:
            return 0.0  # nobody died of it, or nobody will try it
        if self.delivery == max_deliveries:
            return 1.0
        return 1 / 3 if self.exposed or self.delivery > 2 else 0.0


class Trial(msgspec.Struct, frozen=True):
    """Whom to take next. ``apart``: while nothing else is under way.

    ``exposes`` (as `Suspect.exposed`): this is a company, and no delivery of its own; 0: it is one.
    """

    suspects: tuple[Suspect, ...] = ()
    apart: bool = True
    exposes: int = 0


NOBODY = Trial()


def next_trial(
    suspects: Iterable[Suspect], max_deliveries: int, lived: float, largest: int = COMPANIES[0]
) -> Trial:
    """Whom to take next of those that were left, by a worker that has ``lived`` for so many leases.

    Nobody, if all that are left must wait. ``largest`` is that of a company, as far as this worker has got.
    """
    waiting = [s for s in suspects if s.waits(max_deliveries) <= lived]
    harmless = [s for s in waiting if s.delivery == 1 or s.delivery > max_deliveries]
    if harmless:
        return Trial(tuple(harmless[: COMPANIES[0]]), apart=False)
    unproven = [s for s in waiting if s.delivery == 2 < max_deliveries]
    merely_read = [s for s in unproven if not s.exposed]
    if len(merely_read) > FEW:
        return Trial(tuple(merely_read[: min(largest, COMPANIES[0])]), exposes=1)
    for exposes, size, enough in ((2, COMPANIES[1], COMPANIES[2]), (3, COMPANIES[2], FEW)):
        company = [s for s in unproven if 0 < s.exposed < exposes]
        if len(company) > enough:
            return Trial(tuple(company[:size]), exposes=exposes)
    if not waiting:
        return NOBODY
    return Trial((min(waiting, key=lambda suspect: (suspect.delivery, suspect.exposed)),))
