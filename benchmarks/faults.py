"""Part `faults`: what each fault costs, counted from outside.

Worker processes enrich a mixed load that comes by two intakes at once: entries appended to the intake's
stream by the sender itself (`stream`), and messages published on channels that the worker bridges to that
stream (`bridge`). While they do, something breaks. In the end everything that was sent is looked for in the
stream, in the documents, and among what was published (heard, or recorded by the commit script); the
worker's own counters are not asked.

``faults.only`` names scenarios (``worker_killed+resent``), ``faults.kills`` is how often a worker is killed,
``faults.rate`` messages a second by each intake, ``faults.frozen`` and ``faults.outage`` seconds,
``faults.lease`` seconds of what a worker has in hand, ``faults.seed`` of messages and moments.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.events import faults as events
from benchmarks.faults_ledger import BRIDGE, STREAM
from benchmarks.faults_ledger import row as row_of
from benchmarks.faults_scenarios import QUICK, SCENARIOS, Plan
from benchmarks.faults_stage import Stage, StageOptions
from benchmarks.jobs import faults as jobs
from benchmarks.parts import Options
from benchmarks.report import Report

OTHERS: Mapping[str, Any] = {"jobs": jobs, "events": events}
COLUMNS = [
    *("scenario", "intake", "faults", "sent", "appended", "stored", "published", "lost_before"),
    *("lost_after", "duplicated", "wrong", "dead", "late", "recovery_s", "broken"),
]


def run(options: Options) -> list[Report]:
    """One row per scenario and intake, one per scenario of others; a broken promise fails the run."""
    base = QUICK if options.quick else Plan()
    plan = Plan(
        kills=int(options.number("faults.kills", base.kills)),
        life=base.life,
        times=base.times,
        frozen=options.number("faults.frozen", base.frozen),
        outage=options.number("faults.outage", base.outage),
        refusing=base.refusing,
    )
    stage = StageOptions(
        seed=int(options.number("faults.seed", 7)),
        rate=options.number("faults.rate", 100),
        lease=options.number("faults.lease", 30),
    )
    report = Report("faults", "what is lost, repeated and late, by scenario and intake", COLUMNS)
    report.notes.append("lost_before: by pub/sub, before a bridge heard it; late: by more than a second")
    wanted = chosen(options.settings.get("faults.only", ""))
    of_others = []
    for system, module in OTHERS.items():
        about = f"{system} under faults, see `{module.__name__}`"
        of_others.append(Report("faults", about, [*module.COLUMNS, "broken"]))
        for name in (name for name in wanted if name in module.SCENARIOS):
            with tempfile.TemporaryDirectory(prefix="enricher-faults-") as folder:
                row = asyncio.run(module.played(name, plan, stage, Path(folder)))
            of_others[-1].rows.append(row)
            of_others[-1].failed = of_others[-1].failed or bool(row["broken"])
    for name in (name for name in wanted if name in SCENARIOS):
        try:
            rows, notes = asyncio.run(played(name, plan, stage))
        except (RuntimeError, TimeoutError) as error:  # the others go on
            rows, notes = [{"scenario": name, "broken": f"{type(error).__name__}: {error}"}], []
        report.rows += rows
        report.notes += notes
        report.failed = report.failed or any(one["broken"] for one in rows)
    return [one for one in (report, *of_others) if one.rows]


def chosen(names: str) -> list[str]:
    """The scenarios of a list like ``flushed+resent``, all of an empty one; ValueError for an unknown one."""
    known = [*SCENARIOS, *(name for module in OTHERS.values() for name in module.SCENARIOS)]
    wanted = names.split("+") if names else known
    for name in wanted:
        if name not in known:
            raise ValueError(f"no scenario {name!r}; known scenarios: {', '.join(known)}")
    return wanted


async def played(name: str, plan: Plan, options: StageOptions) -> tuple[list[dict[str, Any]], list[str]]:
    """The rows of one scenario on servers of its own, and what there is to say about it."""
    scenario = SCENARIOS[name]
    with tempfile.TemporaryDirectory(prefix="enricher-faults-") as folder:
        async with Stage(Path(folder), msgspec.structs.replace(options, **scenario.stage)) as stage:
            for worker in scenario.workers:
                await stage.start_worker(worker)
            await stage.load(scenario.fault(stage, plan))
            found = await stage.settled()
            common = {"scenario": name, "about": scenario.about, "dead": found.dead}
            common["faults"] = len(stage.ends_us)
            rows = [
                common | row_of(stage.sent, found, stage.ends_us, scenario.promise, intake)
                for intake in (STREAM, BRIDGE)
            ]
            if any(one["broken"] for one in rows):
                stage.notes.append(f"{name}: left {await stage.witness.left()}")
                stage.notes += [f"{name}: {worker} logged {stage.log(worker)}" for worker in stage.workers]
            return rows, stage.notes

