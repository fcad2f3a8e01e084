"""Events in the fault matrix (``python -m benchmarks faults``): lost, twice, wrongly refused; from outside.

Two workers accept events over HTTP, process and index them, and enrich ticks beside that. While they do
something breaks: a worker, MongoDB, Redis, the search server; ``faults.outage`` is for how many seconds a
server is away. Afterwards all that was answered 202 is looked for.

    lost       answered 202 and not succeeded, or its success was never published
    twice      its success was published more than once
    unindexed  answered 202, and not in the search server as it is in its document
    refused    not answered 202; ``wrongly``: not 503 with Retry-After, by a worker that could store, or
               sooner than ``events.accept_timeout`` after all was well
    market_ms  99th percentile of a tick's time until it was published enriched, before and during the fault
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from benchmarks.events.faults_stage import WORKERS, EventStage, wrongly
from benchmarks.faults_scenarios import Plan
from benchmarks.faults_stage import PATIENCE, StageOptions
from enricher.events.settings import EventSettings

COLUMNS = [
    *("scenario", "faults", "posted", "refused", "wrongly", "accepted", "lost", "twice", "unindexed"),
    *("dead", "recovery_s", "market_ms"),
]
Server = Literal["redis", "mongo", "search"]
Fault = Callable[[EventStage, Plan], Awaitable[None]]


async def killed(stage: EventStage, plan: Plan) -> None:
    """Kill -9 of one of two workers at random moments; it is started again."""
    for _ in range(plan.kills):
        await asyncio.sleep(stage.random.uniform(0.05, plan.life))
        name = stage.random.choice(WORKERS)
        process = stage.workers[name]
        process.kill()
        await asyncio.to_thread(process.wait, PATIENCE)
        stage.fault_ended()
        await stage.start_worker(name)


async def stopped(stage: EventStage, plan: Plan) -> None:
    """SIGTERM of one worker after the other, as in a deployment."""
    for number in range(max(2, plan.kills // 10)):
        await asyncio.sleep(stage.random.uniform(0.05, plan.life))
        name = WORKERS[number % 2]
        process = stage.workers[name]
        process.send_signal(signal.SIGTERM)
        code = await asyncio.to_thread(process.wait, PATIENCE)
        if code != 0:
            raise RuntimeError(f"ended with {code} after SIGTERM: {stage.log(name)}")
        stage.fault_ended()
        await stage.start_worker(name)


async def frozen(stage: EventStage, plan: Plan) -> None:
    """A worker stands still for two leases and goes on."""
    for number in range(max(1, plan.times // 10)):
        await asyncio.sleep(stage.random.uniform(0.5, plan.life))
        process = stage.workers[WORKERS[number % 2]]
        process.send_signal(signal.SIGSTOP)
        await asyncio.sleep(2 * stage.options.lease)
        process.send_signal(signal.SIGCONT)
        stage.fault_ended()


def away(server: Server, *, frozen: bool) -> Fault:
    """A server is killed, or answers nothing, for a while."""

    async def fault(stage: EventStage, plan: Plan) -> None:
        process = getattr(stage, server)
        # The search server of the tests forgets at a kill what it has confirmed.
        end = process.stop if server == "search" else process.kill
        await asyncio.to_thread(process.pause if frozen else end)
        await asyncio.sleep(plan.outage)
        await asyncio.to_thread(process.resume if frozen else process.start)
        stage.fault_ended()

    return fault


SCENARIOS: dict[str, Fault] = {
    **{f"events_{fault.__name__}": fault for fault in (killed, stopped, frozen)},
    "events_mongo_away": away("mongo", frozen=False),
    "events_mongo_frozen": away("mongo", frozen=True),
    "events_redis_away": away("redis", frozen=False),
    "events_redis_frozen": away("redis", frozen=True),
    "events_search_away": away("search", frozen=False),
    "events_search_frozen": away("search", frozen=True),
}


async def played(name: str, plan: Plan, options: StageOptions, folder: Path) -> dict[str, Any]:
    """The row of one scenario."""
    options = msgspec.structs.replace(options, rate=min(options.rate, 20))
    async with EventStage(folder, options) as stage:
        await stage.load(SCENARIOS[name](stage, plan), min(30, plan.outage))
        without_mongo = "mongo" in name
        timeout = EventSettings().accept_timeout if without_mongo else 0
        # What a frozen worker had in hand has waited for too long when it goes on.
        may = without_mongo or name in ("events_stopped", "events_frozen")
        row = {
            "scenario": name,
            "faults": len(stage.ends_us),
            "posted": stage.posted,
            "refused": len(stage.refused),
            "wrongly": wrongly(stage.refused, may=may, accept_timeout=timeout),
            "market_ms": stage.market_ms(),
            **await stage.settled(),
        }
        named = ("wrongly", "lost", "twice", "unindexed", "dead")
        broken = [f"{row[each]} {each}" for each in named if row[each]]
        if row["recovery_s"] is None:
            broken.append("no event ended after a fault")
        if broken:
            broken += [f"{worker} logged {stage.log(worker)}" for worker in WORKERS]
    return row | {"broken": ", ".join(broken)}
