"""What readers of the old worker compute, with `market.unknown = "zero"`, over a restart."""

from __future__ import annotations

from typing import Any

import pytest

from enricher.market.zeros import OPTION_FIELDS
from tests.integration.test_market_contract import AT, MINUTE, NOW, SECOND, chain, leg, quote, tick
from tests.integration.worker import CHAINS, QUOTES, TICKS, Worker, running
from tests.rig import Clock

BARE = {"strike": 21500.0, "option_type": "PUT"}
ZERO = {"market.unknown": "zero"}


async def take(worker: Worker, at_us: int) -> None:
    """A chain whose puts tell nothing, one of no open interest at all, a bare quote, a tick without an id."""
    await worker.send(TICKS, tick(21537, at_us, None))
    bare = dict.fromkeys(("bid", "ask", "last", "volume", "open_interest", "iv", "delta"))
    await worker.send(QUOTES, quote(21500, at_us=at_us, **bare))
    await worker.send(CHAINS, chain(at_us, strikes=[21000, 21500, 22000], puts=[BARE]))
    nothing = [leg(21000, "CALL", 0, 0, 560.25), {"strike": 22000, "open_interest": None}]
    await worker.take(CHAINS, chain(at_us, expiry="2025-07-31", calls=nothing, puts=[BARE]))


def compute(document: dict[str, Any]) -> None:
    """Sums, differences and means over every old number of a chain."""
    spot = document["spot_price"]
    assert (document["max_pain_strike"] - spot) / spot * 100 < 100
    for name in ("pcr_oi", "pcr_volume", "atm_straddle_price", "total_call_oi", "total_put_oi"):
        assert round(document[name], 4) >= 0
    assert document["call_buildup_otm"] + document["put_buildup_otm"] >= 0
    for legs in (document["calls"], document["puts"]):
        for name in OPTION_FIELDS:
            assert sum(leg[name] for leg in legs if leg["strike"] > 0) >= 0


@pytest.mark.parametrize("unknown", ["zero", "null"])
async def test_old_readers_can_compute_with_everything_and_a_restart_takes_no_zero_for_a_value(
    redis_url: str, mongo_database_url: str, unknown: str
) -> None:
    for number in range(2):
        at_us = AT + number * 4 * MINUTE
        clock = Clock(at_us + SECOND)
        # The second process reads zeros back, and says itself what `unknown` wants.
        settings = ZERO if number == 0 else {"market.unknown": unknown}
        async with running(redis_url, mongo_database_url, settings, clock=clock) as worker:
            await take(worker, at_us)
            assert await worker.letters() == []
            (stored,) = worker.stored("option_chains", event_us=at_us, expiry="2025-06-26")
            (nothing,) = worker.stored("option_chains", event_us=at_us, expiry="2025-07-31")
            cached = await worker.cached("latest:chain:NIFTY:2025-06-26")
            ratios = await worker.cached("latest:pcr:NIFTY:2025-06-26")
            (quoted,) = worker.stored("option_quotes", event_us=at_us)
            (ticked,) = worker.stored("underlying_ticks", event_us=at_us)
            shown = [*worker.published("option_chain"), cached, stored, nothing]
        zero = 0 if settings == ZERO else None
        assert ticked["tick_id"] == ratios["pcr_oi"] == nothing["max_pain_strike"] == zero
        assert quoted["iv"] == quoted["open_interest"] == stored["total_put_oi"] == zero
        assert stored["flags"]["total_put_oi"] == "no leg has a known open interest"
        assert ratios["flags"]["pcr_oi"] == "no known open interest of the puts"
        # Nothing of ours took a 0 for a number.
        assert stored["all_expiries"]["pcr_oi"] is None
        assert stored["analytics"]["pcr"] == [None, None, None]
        if number:
            assert stored["buildup"]["since_us"] == AT
            assert stored["buildup"]["put_oi_change"] is None
            assert [row["put"] for row in stored["buildup"]["strikes"]] == [None, None, None]
        if settings == ZERO:
            for document in shown:
                compute(document)


async def test_a_tick_without_an_id_is_known_again_after_a_restart(
    redis_url: str, mongo_database_url: str
) -> None:
    sent = [tick(21500, AT, None), tick(21501, AT, 0)]
    for _ in range(2):
        async with running(redis_url, mongo_database_url, ZERO, clock=Clock(NOW)) as worker:
            await worker.take(TICKS, *sent)
            assert (await worker.cached("ohlc:NIFTY:1m"))["num_ticks"] == 2
            assert [document["tick_id"] for document in worker.stored("underlying_ticks")] == [0, 0]
            duplicates = worker.count(TICKS, "duplicate")
    assert duplicates == 2
