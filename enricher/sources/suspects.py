"""Entries that somebody left unfinished, and in what company each is tried again.

The process that had them may have died of one of them, or of something else. What is known of an entry is
how often it was delivered and left, and whether it was exposed to others in a company that was left too:

    merely read     it was one of many under way: next it is tried in a company, if there are many such
    in a company    the company was left: next it is tried in a small one, then alone. That a company was left
                    counts against none of its members
    alone           nothing else was under way: this counts, and those that were tried alone and left are
                    the last to be tried again

The last delivery that an entry has is alone, and not before its worker has lived for a lease. So an entry is
poison only if the process that had it ended ``max_deliveries`` times, all but the first of them while
nothing else was under way, and the last of them not soon after its start. A process that is killed at
random moments does not meet one entry in this way again and again.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from enricher.sources.groups import StreamGroup

# Most in a company, of those that were merely read and of those that were exposed once. One by one, entries
# would hold up a busy stream for longer than a worker that is killed now and then lives.
COMPANIES = (128, 16)
# So many are tried alone at once: it takes no longer than to find out in a company that it was none of them.
FEW = 8


class Suspect(msgspec.Struct, frozen=True):
    """An entry to take, the number of the delivery that this will be, and what it was ``exposed`` to.

    0: nothing, 1: a company, 2: a small company.
    """

    group: StreamGroup
    id: str
    delivery: int
    exposed: int = 0


class Trial(msgspec.Struct, frozen=True):
    """Whom to take next. ``apart``: while nothing else is under way.

    ``exposes`` (as `Suspect.exposed`): this is a company, and no delivery of its own; 0: it is one.
    """

    suspects: tuple[Suspect, ...] = ()
    apart: bool = True
    exposes: int = 0


NOBODY = Trial()


def next_trial(suspects: Collection[Suspect], max_deliveries: int, *, lived: bool) -> Trial:
    """Whom to take next of those that were left; nobody if all that are left wait for their last delivery.

    ``lived`` says whether this worker has lived for a lease.
    """
    harmless = [s for s in suspects if s.delivery == 1 or s.delivery > max_deliveries]
    if harmless:  # nobody died of these, or nobody will try them
        return Trial(tuple(harmless[: COMPANIES[0]]), apart=False)
    unproven = [s for s in suspects if s.delivery == 2 < max_deliveries]
    for exposed, (size, enough) in enumerate(zip(COMPANIES, (*COMPANIES[1:], FEW), strict=True)):
        company = [s for s in unproven if s.exposed <= exposed]
        if len(company) > enough:
            return Trial(tuple(company[:size]), exposes=exposed + 1)
    alone = [s for s in suspects if lived or s.delivery < max_deliveries]
    if not alone:
        return NOBODY
    return Trial((min(alone, key=lambda suspect: suspect.delivery),))
