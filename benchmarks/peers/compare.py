"""The part ``peers``: CPU time and speed of the same jobs in other frameworks, each beside enricher's.

A peer and enricher run at the same time, each on servers of its own, both warmed up, and are flooded in
turns, enricher before and after each round of the peer's: what the machine does meanwhile falls on both. CPU
time is user + system of all processes (subscriber,
workers, children), not of the servers. What was stored and published is counted from outside.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from benchmarks.parts import Options
from benchmarks.peers.catalogue import FOLDER, PEERS, READ_BACK, Peer
from benchmarks.peers.contest import Contestant, Round, framework, own_worker, versions
from benchmarks.report import Report, median, spread
from benchmarks.workloads import workload
from enricher import __version__
from enricher.market.feed.channels import Message

KINDS = ("ticks", "mix")
OURS = "enricher"
INSTALL = "python -m benchmarks.peers install"

COLUMNS = [
    "peer", "version", "kind", "us_per_message", "spread", "times_ours", "messages_s", "messages",
    "documents", "published", "lost", "processes", "rss_mb",
]  # fmt: skip
NOTES = (
    "times ours: the median of the rounds, each against enricher's rounds right before and after it.",
    "lost: messages sent to it that became no document, plus what is missing on enriched:*.",
    "Neither they nor enricher compute what `market.analytics` adds to a chain.",
    "The peers call enricher's own market functions and do less: no bars, surface or build-up,",
    "no claims of quotes and chains, no order among the writers of a key.",
    "celery: a subscriber and four children, as the worker that enricher replaces: a task for each message,",
    f"three for a tick's windows, that read up to {READ_BACK} ticks back, and one for a chain's surface;",
    "one insert and one key at a time; results kept.",
    "celery-lean: one task for each message, windows in memory, keys in one round trip, no results;",
    "a subscriber and two workers of one child.",
)


class Size(msgspec.Struct, frozen=True):
    """Messages of the warm-up and of a round; ours has more, for a round of as few would be over too soon."""

    warm: int
    theirs: int
    ours: int


FULL = Size(300, 2000, 10_000)
QUICK = Size(50, 200, 2000)


class Side(msgspec.Struct):
    """One contestant's rounds with one kind of messages, and those among them that were measured."""

    name: str
    version: str
    kind: str
    rounds: list[Round] = []
    measured: list[Round] = []
    ratios: list[float] = []
    processes: int = 0
    rss_mb: float = 0.0

    def add(self, one: Round, ratio: float, *, measured: bool) -> None:
        """Write a round down; a warm-up is not measured."""
        self.rounds.append(one)
        if measured:
            self.measured.append(one)
            self.ratios.append(ratio)

    def row(self) -> dict[str, Any]:
        """As the table has it. The warm-up counts in what was done and lost, not in CPU time and speed."""
        costs = [one.us for one in self.measured]
        return {
            "peer": self.name,
            "version": self.version,
            "kind": self.kind,
            "us_per_message": median(costs),
            "spread": spread(costs, 0),
            "times_ours": median(self.ratios),
            "messages_s": median([one.messages_s for one in self.measured], 0),
            "messages": sum(one.wanted.documents for one in self.rounds),
            "documents": sum(one.done.documents for one in self.rounds),
            "published": sum(one.done.published for one in self.rounds),
            "lost": sum(one.lost for one in self.rounds),
            "processes": self.processes,
            "rss_mb": self.rss_mb,
        }


def run(options: Options) -> list[Report]:
    """A row per peer and kind, and enricher's over all of them; peers that are not installed get a note.

    Settings: ``peers.only`` (names with commas between), ``peers.folder``.
    """
    folder = Path(options.settings.get("peers.folder", FOLDER)).expanduser()
    wanted = chosen(options.settings.get("peers.only", ""))
    ready = [peer for peer in wanted if peer.installed(folder)]
    missing = [peer.name for peer in wanted if peer not in ready]
    report = Report("peers", "the same jobs in other frameworks, all processes, flood", COLUMNS)
    if missing:
        names = ", ".join(missing)
        report.notes.append(f"not installed in {folder}, so not measured: {names}; to install: {INSTALL}")
    if not ready:
        return [report]
    size = QUICK if options.quick else FULL
    ours = {kind: Side(OURS, __version__, kind) for kind in KINDS}
    sides = []
    for peer in ready:
        found = versions(peer, folder)
        named = ", ".join(f"{name} {number}" for name, number in found.items())
        report.notes.append(f"{peer.name}: {named}")
        for kind in KINDS:
            side = Side(peer.name, found[peer.shown[0]], kind)
            with own_worker() as base, framework(peer, folder) as other:
                contest(base, ours[kind], other, side, size, options.rounds)
            sides.append(side)
    report.rows += [side.row() for side in (*ours.values(), *sides)]
    report.notes += NOTES
    return [report]


def contest(base: Contestant, ours: Side, other: Contestant, theirs: Side, size: Size, rounds: int) -> None:
    """Flood both in turns, first to warm up, and write the rounds down.

    Theirs is compared with the mean of ours right before and right after it.
    """
    (warm_us, warm_them), (first, _), *pairs = shares(ours.kind, size, rounds)
    ours.add(base.flood(warm_us), 1.0, measured=False)
    theirs.add(other.flood(warm_them), 1.0, measured=False)
    before = base.flood(first)
    ours.add(before, 1.0, measured=True)
    for for_us, for_them in pairs:
        their, after = other.flood(for_them), base.flood(for_us)
        ours.add(after, 1.0, measured=True)
        theirs.add(their, 2 * their.us / (before.us + after.us), measured=True)
        before = after
    for side, contestant in ((ours, base), (theirs, other)):
        side.processes, side.rss_mb = contestant.processes(), contestant.rss_mb()


def shares(kind: str, size: Size, rounds: int) -> list[tuple[list[Message], list[Message]]]:
    """Messages for us and for them: a warm-up, some for us alone, then one pair per round.

    None is sent to anyone twice.
    """
    counts = [(size.warm, size.warm), (size.ours, 0)] + [(size.ours, size.theirs)] * rounds
    made = []
    whole = workload(kind, sum(mine for mine, _ in counts))
    at = [0, 0]
    for mine, their in counts:
        made.append((whole[at[0] : at[0] + mine], whole[at[1] : at[1] + their]))
        at[0] += mine
        at[1] += their
    return made


def chosen(names: str) -> list[Peer]:
    """The peers of these names, all for none; ValueError for a name that no peer has."""
    known = {peer.name: peer for peer in PEERS}
    unknown = [name for name in names.split(",") if names and name not in known]
    if unknown:
        raise ValueError(f"peers.only: no peer {unknown[0]!r}; known peers: {', '.join(known)}")
    return [known[name] for name in names.split(",")] if names else list(PEERS)
