"""Entries that somebody left unfinished, and which of them to release next.

The process that had them may have died of one of them, or of something else. What is known of an entry is
how often it was delivered and left, and what it was exposed to: cohorts that were left too.

    merely read     it was one of many under way. It is tried at once: alone if there are few such, else in a
                    cohort, each twice as large as the one before
    in a cohort     the cohort was left, which counts against none of its members. Each is tried in a smaller
                    one, at last alone, once this worker has been up for a third of a lease
    alone           nothing else was under way: this counts. It is tried again, alone, when the rest is done

The last delivery that an entry has is alone, and not before its worker has been up for a lease. So an entry
is poison only if the process that had it ended ``max_deliveries`` times, all but the first of them while
nothing else was under way, and the last of them not soon after its start. A process that is killed at
random moments does not meet one entry in this way again and again, and while it lives briefly it works on
what nobody has died of.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from enricher.adapters.redis.stream.entry import GroupKeys

# Most in a cohort, of those that were merely read, were exposed once, twice. One by one, entries would hold
# up a busy stream for longer than a worker that is killed now and then lives.
COHORTS = (1000, 128, 16)
# Where a worker begins: even one that is killed within a second shall get something done.
FIRST_COHORT = 32
# So many are tried alone at once: it takes no longer than to find out in a cohort that it was none of them.
FEW = 8


class Quarantined(msgspec.Struct, frozen=True):
    """An entry of a group, the number of the delivery that comes next, and what it was ``exposed`` to.

    0: nothing; 1, 2, 3: a cohort of the size of `COHORTS`, the last of those it was in.
    """

    keys: GroupKeys
    id: str
    delivery: int
    exposed: int = 0

    def min_uptime(self, max_deliveries: int) -> float:
        """How long a worker must have been up before it tries this, in leases."""
        if self.delivery == 1 or self.delivery > max_deliveries:
            return 0.0  # nobody died of it, or nobody will try it
        if self.delivery == max_deliveries:
            return 1.0
        return 1 / 3 if self.exposed or self.delivery > 2 else 0.0


class Release(msgspec.Struct, frozen=True):
    """Which entries to try next. ``apart``: while nothing else is under way.

    ``exposes`` (as `Quarantined.exposed`): this is a cohort, and no delivery of its own; 0: it is one.
    """

    entries: tuple[Quarantined, ...] = ()
    apart: bool = True
    exposes: int = 0


NOTHING = Release()


def next_release(
    quarantined: Iterable[Quarantined], max_deliveries: int, uptime: float, largest: int = COHORTS[0]
) -> Release:
    """What a worker that has been up for so many leases tries next; `NOTHING` if all must wait.

    ``largest`` is the size of a cohort, as far as this worker has got.
    """
    ready = [entry for entry in quarantined if entry.min_uptime(max_deliveries) <= uptime]
    harmless = [entry for entry in ready if entry.delivery == 1 or entry.delivery > max_deliveries]
    if harmless:
        return Release(tuple(harmless[: COHORTS[0]]), apart=False)
    unproven = [entry for entry in ready if entry.delivery == 2 < max_deliveries]
    merely_read = [entry for entry in unproven if not entry.exposed]
    if len(merely_read) > FEW:
        return Release(tuple(merely_read[: min(largest, COHORTS[0])]), exposes=1)
    for exposes, size, enough in ((2, COHORTS[1], COHORTS[2]), (3, COHORTS[2], FEW)):
        cohort = [entry for entry in unproven if 0 < entry.exposed < exposes]
        if len(cohort) > enough:
            return Release(tuple(cohort[:size]), exposes=exposes)
    if not ready:
        return NOTHING
    return Release((min(ready, key=lambda entry: (entry.delivery, entry.exposed)),))
