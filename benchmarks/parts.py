"""The parts of the benchmarks by name, and what each is told.

A part is a module with ``def run(options: Options) -> list[Report]``. It is imported when it is asked for, so
that a package that only one part needs is only missed there.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

import msgspec

from benchmarks.report import Report


class Options(msgspec.Struct, frozen=True):
    """What the command line says.

    ``quick`` asks for the smallest run that still shows something, ``rounds`` how often each figure is taken
    (after one round that is not counted). ``update`` rewrites what is committed (the guard's limits).
    ``settings`` are a part's own, by name: {"soak.minutes": "30"}.
    """

    quick: bool = False
    rounds: int = 3
    update: bool = False
    settings: Mapping[str, str] = {}

    def number(self, name: str, default: float) -> float:
        """The setting as a number; ValueError with its name where it is none."""
        text = self.settings.get(name)
        if text is None:
            return default
        try:
            return float(text.replace("_", ""))
        except ValueError:
            raise ValueError(f"{name} must be a number, not {text!r}") from None


class Part(msgspec.Struct, frozen=True):
    """What it measures, in half a sentence, the module that does it, and the settings of its own, by name."""

    about: str
    module: str
    settings: Mapping[str, str] = {}

    def run(self, options: Options) -> list[Report]:
        """Run the part; servers it starts have ended when it returns."""
        found: list[Report] = import_module(self.module).run(options)
        return found


PARTS: dict[str, Part] = {
    "cpu": Part(
        "CPU time per message and messages a second under flood",
        "benchmarks.cpu",
        {
            "products": "a mix over so many alone (up to 50,000), instead of all workloads",
            "shards": "the mix alone, by one process and by so many that share its keys",
        },
    ),
    "latency": Part(
        "PUBLISH to the enriched channel at fixed rates; CPU when idle",
        "benchmarks.latency",
        {"driver": "that the worker has for MongoDB (motor)"},
    ),
    "peers": Part(
        "the same jobs in six other frameworks, in the same run",
        "benchmarks.peers.compare",
        {
            "only": "these peers, with commas between",
            "folder": "where their environments are (python -m benchmarks.peers install)",
        },
    ),
    "jobs": Part(
        "background jobs here and in six other frameworks: CPU, enqueueing, delays, schedules",
        "benchmarks.jobs.compare",
        {
            "only": "these peers, with commas between; none for ours alone",
            "folder": "where their environments are (python -m benchmarks.peers install)",
            "minutes": "of schedules (2; quick none)",
        },
    ),
    "events": Part(
        "a POST to its 202 and to the end of its pipeline, beside FastAPI + Celery",
        "benchmarks.events.compare",
        {"folder": "where the peer's environment is (python -m benchmarks.peers install)"},
    ),
    "floor": Part(
        "our cost as a multiple of the tightest loop with the same libraries",
        "benchmarks.floor",
        {"only": "ticks, quotes, chains or mix"},
    ),
    "overload": Part(
        "a tenth to ten times of capacity, per overload policy",
        "benchmarks.overload",
        {"seconds": "of each load (5; quick 1.5)", "pool": "messages that the pool holds"},
    ),
    "soak": Part(
        "memory, CPU and latency over time under a steady load",
        "benchmarks.soak",
        {
            "minutes": "how long (30; quick 1)",
            "rate": "messages a second (half of what it can do)",
            "sample": "seconds from one sample to the next (10)",
        },
    ),
    "restart": Part(
        "a start with embedded servers on what is stored",
        "benchmarks.restart",
        {
            "messages": "of the mix, stored just before (10,000; quick 1,000)",
            "flood": "messages at once, every tenth the first of its product (4,000; quick 1,000)",
        },
    ),
    "streams": Part(
        "mails and stream intake: CPU and delay",
        "benchmarks.streams",
        {"only": "mail, delay or intake"},
    ),
    "faults": Part(
        "what each fault costs: lost, repeated, late, time to recover",
        "benchmarks.faults",
        {
            "only": "these scenarios, with + between",
            "kills": "of a worker (50; quick 4)",
            "frozen": "seconds a server stands still (10; quick 3)",
            "outage": "seconds a server is unreachable (60; quick 5)",
            "lease": "seconds of what a worker has in hand (30)",
            "rate": "messages a second (100)",
            "seed": "of the moments (7)",
        },
    ),
    "formulas": Part(
        "volatilities, Greeks, curves and a chain's analytics by subject",
        "benchmarks.formulas",
        {"only": "options, curves or chain"},
    ),
    "fuzz": Part(
        "mutated messages and files: nothing uncaught, nothing slow",
        "benchmarks.fuzz",
        {"count": "how many (200,000; quick 2,000)", "seed": "of the mutations (7)"},
    ),
    "web": Part(
        "what watching pages and scrapes cost; every page with a million ticks and 100,000 letters and jobs",
        "benchmarks.web",
        {"rate": "messages a second (250)", "ticks": "that are stored (1,000,000; quick 10,000)"},
    ),
    "stretch": Part("for how long one chain holds the event loop", "benchmarks.stretch"),
    "walk": Part("the way of one message through the source: calls, changes of file", "benchmarks.walk"),
    "state": Part("what the state of one product takes", "benchmarks.state"),
    "guard": Part("the engine's work per message, counted, against committed limits", "benchmarks.guard"),
}
