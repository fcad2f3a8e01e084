"""Bars after a restart say what they would have said without one."""

from __future__ import annotations

from typing import Any

import pytest

from enricher.clock import event_us
from tests.integration.test_market_contract import MINUTE, SECOND, tick
from tests.integration.worker import TICKS, running
from tests.rig import Clock

OPEN = event_us("2025-06-16T09:15:00+05:30")[0]
SETTINGS = {"market.volume": "cumulative", "market.lateness": 0, "market.windows": (1,)}


async def volumes(
    redis_url: str, mongo_database_url: str, parts: list[list[tuple[int, dict[str, Any]]]]
) -> dict[int, Any]:
    """Volumes of the bars by minute, after ticks that come at a time of the clock, run by run."""
    clock = Clock(OPEN)
    for part in parts:
        async with running(redis_url, mongo_database_url, SETTINGS, clock=clock) as worker:
            for now_us, message in part:
                clock.now_us = now_us
                await worker.take(TICKS, message)
            rows = worker.documents["ohlc_bars"].find()
            found = {int(row["start"].timestamp()) * SECOND: row["volume"] for row in rows}
    return {(start - OPEN) // MINUTE: volume for start, volume in sorted(found.items())}


@pytest.mark.parametrize("restart", [False, True])
async def test_a_restart_counts_from_the_highest_volume_of_the_day(
    redis_url: str, mongo_database_url: str, restart: bool
) -> None:
    """Also when it fell since, when many ticks had none, and whatever a tick ahead of the clock says."""
    first = [(OPEN, tick(100.0, OPEN, 0, volume=100)), (OPEN, tick(100.0, OPEN + SECOND, 1, volume=900))]
    at = OPEN + 2 * SECOND
    first += [(at, tick(100.0, at, 2, volume=300)), (at, tick(100.0, at + 30 * SECOND, 3, volume=50_000))]
    first += [(at, tick(100.0, at, 10 + n)) for n in range(60)]
    then = [OPEN + n * MINUTE for n in (4, 5, 6, 7)]
    told = zip(then, (350, 950, 980, 990), strict=True)
    late = [(us, tick(100.0, us, n, volume=volume)) for n, (us, volume) in enumerate(told)]
    parts = [first + late[:1], late[1:]] if restart else [first + late]
    assert await volumes(redis_url, mongo_database_url, parts) == {0: 900, 4: 0, 5: 50, 6: 30}


async def test_ticks_of_one_moment_without_an_id_stand_as_they_came_also_after_a_restart(
    redis_url: str, mongo_database_url: str
) -> None:
    settings = {"market.windows": (1,), "market.lateness": 0}
    clock = Clock(OPEN)
    sent = [3.0, 1.0, 4.0, 2.0]
    async with running(redis_url, mongo_database_url, settings, clock=clock) as worker:
        for price in sent:
            clock.advance(0.25)
            await worker.take(TICKS, tick(price, OPEN, None))
    async with running(redis_url, mongo_database_url, settings, clock=clock) as worker:
        clock.advance(60)
        await worker.take(TICKS, tick(9.0, OPEN + MINUTE, 1))
        (bar,) = worker.stored("ohlc_bars")
        assert (bar["open"], bar["close"], bar["num_ticks"], bar["revision"]) == (3.0, 2.0, 4, 0)
