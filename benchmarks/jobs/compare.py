"""The part ``jobs``: what a job costs and how soon it begins, in enricher and in six other frameworks.

Each has eight slots, a Redis of its own, keeps results, and acknowledges a job after it where it can. A peer
and enricher run at the same time and are flooded in turns, enricher before and after each round of the
peer's: what the machine does meanwhile falls on both. The workers stand still while jobs are enqueued, so
that each costs by itself. CPU time is user + system of all processes of the workers. The job does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.jobs import footprint
from benchmarks.jobs.catalogue import BARE, HERE, OTHERS, OURS, Contestant
from benchmarks.jobs.contest import Flood, running, until
from benchmarks.measure import Latencies
from benchmarks.parts import Options
from benchmarks.peers.catalogue import FOLDER
from benchmarks.peers.contest import versions
from benchmarks.report import Report, median, spread

INSTALL = "python -m benchmarks.peers install"
RUN = [
    *("peer", "kind", "against", "us_per_job", "spread", "ours_us", "times_ours"),
    *("jobs_s", "ours_jobs_s", "processes", "rss_mb"),
]
ENQUEUE = ["peer", "one_us", "one_cpu_us", "bulk_us", "bulk_cpu_us", "one_times_ours", "bulk_times_ours"]
START = ["peer", "start_p50_ms", "start_p99_ms", "times_ours", "later_p50_ms", "later_p99_ms", "cron_ms"]


class Size(msgspec.Struct, frozen=True):
    """Jobs of a warm-up and of a round, jobs whose start is timed, and minutes of schedules."""

    warm: int
    round: int
    timed: int
    minutes: int


FULL = Size(1000, 4000, 200, 2)
QUICK = Size(100, 500, 20, 0)


class Pair(msgspec.Struct):
    """The rounds of a peer's jobs of one kind, each with the two of ours around it."""

    peer: Contestant
    kind: str
    against: str
    theirs: list[Flood] = []
    ours: list[tuple[Flood, Flood]] = []
    processes: int = 0
    rss_mb: float = 0.0

    def times(self, part: Any) -> float | None:
        """The median of what theirs cost as a multiple of ours, in a ``part`` of a flood."""
        each = zip(self.theirs, self.ours, strict=True)
        return median([2 * part(one) / (part(before) + part(after)) for one, (before, after) in each], 2)

    def row(self) -> dict[str, Any]:
        """What it took to run them."""
        costs = [one.us for one in self.theirs]
        return {
            "peer": self.peer.name,
            "kind": self.kind,
            "against": self.against,
            "us_per_job": median(costs),
            "spread": spread(costs, 0),
            "ours_us": median([one.us for both in self.ours for one in both]),
            "times_ours": self.times(lambda one: one.us),
            "jobs_s": median([one.jobs_s for one in self.theirs], 0),
            "ours_jobs_s": median([one.jobs_s for both in self.ours for one in both], 0),
            "processes": self.processes,
            "rss_mb": self.rss_mb,
        }

    def enqueue_row(self) -> dict[str, Any]:
        """What it took to enqueue them."""
        return {
            "peer": self.peer.name,
            **enqueued(self.theirs),
            "one_times_ours": self.times(lambda one: one.one.cpu_us),
            "bulk_times_ours": self.times(lambda one: one.bulk.cpu_us),
        }


def enqueued(floods: Sequence[Flood]) -> dict[str, float | None]:
    """Microseconds per job that was enqueued."""
    return {
        "one_us": median([one.one.us for one in floods]),
        "one_cpu_us": median([one.one.cpu_us for one in floods]),
        "bulk_us": median([one.bulk.us for one in floods]),
        "bulk_cpu_us": median([one.bulk.cpu_us for one in floods]),
    }


def run(options: Options) -> list[Report]:
    """Running, enqueueing, starting, and what ours takes; peers that are not installed get a note.

    Settings: ``jobs.only`` (names with commas between), ``jobs.folder``, ``jobs.minutes``.
    """
    folder = Path(options.settings.get("jobs.folder", FOLDER)).expanduser()
    wanted = chosen(options.settings.get("jobs.only", ""))
    ready = [peer for peer in wanted if peer.installed(folder)]
    size = QUICK if options.quick else FULL
    minutes = int(options.number("jobs.minutes", size.minutes))
    ran = Report("jobs", "CPU of all the workers' processes per job that does nothing", RUN)
    enqueueing = Report("jobs", "to enqueue a job; its CPU as a multiple of ours", ENQUEUE)
    starting = Report("jobs", "from enqueueing to the start; how late a moment and a minute are met", START)
    if missing := ", ".join(peer.name for peer in wanted if peer not in ready):
        ran.notes.append(f"not installed in {folder}, so not measured: {missing}; to install: {INSTALL}")
    places = [(BARE, HERE.parent), *((peer, folder) for peer in ready)]
    own = started(OURS, HERE.parent, size, minutes)
    starting.rows.append(own)
    for peer, place in places:
        found = ", ".join(f"{name} {number}" for name, number in versions(peer, place).items())
        ran.notes.append(f"{peer.name}: {found}")
        pairs = contest(peer, place, size, options.rounds)
        ran.rows += [pair.row() for pair in pairs]
        enqueueing.rows.append(pairs[0].enqueue_row())
        row = started(peer, place, size, minutes)
        starting.rows.append(row | {"times_ours": round(row["start_p50_ms"] / own["start_p50_ms"], 2)})
    ran.notes.append("bare: XADD, XREADGROUP and XACK alone, in one process; nothing is kept")
    return [ran, enqueueing, starting, footprint.measured(quick=options.quick, rounds=options.rounds)]


def contest(peer: Contestant, place: Path, size: Size, rounds: int) -> list[Pair]:
    """Flood both in turns, after a warm-up, with each kind of the peer's jobs."""
    pairs = []
    with running(OURS, HERE.parent) as ours, running(peer, place) as other:
        for kind, against in peer.kinds:
            pair = Pair(peer, kind, against)
            for one, its in ((ours, against), (other, kind)):
                one.flood(its, size.warm)
            before = ours.flood(against, size.round)
            for _ in range(rounds):
                pair.theirs.append(other.flood(kind, size.round))
                after = ours.flood(against, size.round)
                pair.ours.append((before, after))
                before = after
            pair.processes, pair.rss_mb = len(other.family()), other.rss_mb()
            pairs.append(pair)
    return pairs


def started(contestant: Contestant, place: Path, size: Size, minutes: int) -> dict[str, Any]:
    """How soon its jobs begin: right after they were enqueued, at a moment, and with the minute."""
    with running(contestant, place) as one:
        one.flood(contestant.kinds[0][0], size.warm)
        made = Latencies()
        soon = one.latencies("steady", size.timed, 20)
        later = one.latencies("later", size.timed // 2, 10) if contestant.delays else made
        if contestant.crons:
            until(lambda: len(one.noted("cron")), minutes, patience=90)
            made.extend(Latencies(one.noted("cron")))
    found, due = soon.summary(), later.summary()
    return {
        "peer": contestant.name,
        "start_p50_ms": found["p50_ms"],
        "start_p99_ms": found["p99_ms"],
        "times_ours": 1.0,
        "later_p50_ms": due["p50_ms"],
        "later_p99_ms": due["p99_ms"],
        "cron_ms": spread([us / 1000 for us in made.values]),
    }


def chosen(names: str) -> list[Contestant]:
    """The peers of a list like ``saq,arq``, all of an empty one, ``none``; ValueError for an unknown one."""
    known = {peer.name: peer for peer in OTHERS}
    wanted = names.split(",") if names else list(known)
    for name in wanted:
        if name not in (*known, "none"):
            raise ValueError(f"no peer {name!r}; known peers: {', '.join(known)}, none")
    return [known[name] for name in wanted if name != "none"]
