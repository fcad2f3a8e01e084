"""An expiry leaves the sorted set and the surface at its contract's instant, restarts or none."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from enricher import load
from enricher.assembly import planned
from enricher.clock import event_us
from enricher.engine.ports import Delivery
from tests.integration.test_market_contract import SECOND, chain, leg, quote
from tests.integration.worker import CHAINS, QUOTES, encoded
from tests.rig import Rig

TODAY, NEXT = "2025-06-12", "2025-06-19"
INSTANT = event_us("2025-06-12T15:30:00+05:30")[0]
BEFORE, STEP = 4, 20 * SECOND


def sent() -> list[tuple[str, dict[str, Any]]]:
    """Quotes of both expiries, then a chain of each, every 20 seconds across the instant."""
    messages = []
    for n in range(4 * BEFORE + 4):
        at = INSTANT + (n // 2 - 2 * BEFORE) * STEP
        expiry = (TODAY, NEXT)[n % 2]
        if n % 4 < 2:
            messages.append((QUOTES, quote(21500, "CALL", at, iv=0.2 + n / 100, expiry=expiry)))
        else:
            legs = [leg(k, "CALL", 100, 5, 22000.0 - k, iv=0.15 + n / 100) for k in (21000, 21500)]
            messages.append((CHAINS, chain(at, expiry=expiry, calls=legs)))
    return messages


def over(before: Rig | None) -> Rig:
    rig = Rig(*planned(load(overrides={"market.svi_interval": 0}))[0].routes)
    rig.clock.now_us = INSTANT + 600 * SECOND
    if before is not None:
        rig.stored.collections = before.stored.collections
        rig.shown.keys, rig.shown.versions = before.shown.keys, before.shown.versions
        rig.shown.members, rig.shown.member_claims = before.shown.members, before.shown.member_claims
    return rig


async def after(*pieces: list[tuple[str, dict[str, Any]]]) -> tuple[set[str], list[str], list[str]]:
    """The expiries in the sorted set, on the surface in the cache, and on the one stored last."""
    rig: Rig | None = None
    for piece in pieces:
        rig = over(rig)
        async with rig.engine:
            for channel, message in piece:
                rig.engine.pool.offer(Delivery(channel, encoded(message), rig.clock()))
                await rig.drained()
    assert rig is not None
    members = {orjson.loads(member)["expiry"] for member, _ in rig.shown.sorted_set("iv_surface:NIFTY")}
    cached = orjson.loads(rig.shown.keys["volatility_surface:NIFTY"])
    stored = max(rig.stored.collections["volatility_surfaces"].values(), key=lambda d: d["event_us"])
    return members, *([row["expiry"] for row in one["expiries"]] for one in (cached, stored))


@pytest.mark.parametrize("cut", range(1, 4 * BEFORE + 4))
async def test_an_expiry_leaves_at_its_instant_wherever_the_worker_was_restarted(cut: int) -> None:
    messages = sent()
    members, cached, stored = await after(messages[:cut], messages[cut:])
    assert (members, cached) == ({NEXT}, [NEXT])
    assert stored == [NEXT]


@pytest.mark.parametrize("cut", [1, 9, 4 * BEFORE - 1])
async def test_an_expiry_is_there_to_its_last_second(cut: int) -> None:
    messages = sent()[: 4 * BEFORE]
    members, cached, stored = await after(messages[:cut], messages[cut:])
    assert (members, cached) == ({TODAY, NEXT}, [TODAY, NEXT])
    assert stored == [TODAY, NEXT]


async def test_the_first_quote_of_the_instant_takes_the_expiry_from_both_after_a_restart_too() -> None:
    messages = sent()
    pieces = messages[: 4 * BEFORE], messages[4 * BEFORE + 1 : 4 * BEFORE + 2]
    members, cached, stored = await after(*pieces)
    assert (members, cached, stored) == ({NEXT}, [NEXT], [TODAY, NEXT])
