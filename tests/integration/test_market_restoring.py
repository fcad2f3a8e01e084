"""What a start finds stored: all of it works again, at a cost that is in proportion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from enricher.engine.ports import Delivery
from enricher.market import reload
from enricher.market.spans import Spans
from tests.integration.test_market_contract import MINUTE, SECOND, quote, tick
from tests.integration.test_market_restarts import hand_in, rig_over
from tests.integration.worker import QUOTES, TICKS
from tests.rig import Rig, until

HOUR = 60 * MINUTE
SPANS = Spans(windows=(1, 5, 15), lateness_us=0, quote_us=5 * MINUTE, buildup_us=0)


async def test_all_that_has_a_checkpoint_is_restored_however_long_ago_it_was_heard() -> None:
    before = rig_over()
    async with before.engine:
        hand_in(before, TICKS, tick(100.0, before.clock.now_us))
        await before.drained()
    assert not before.stored.collections.get("ohlc_bars")
    after = rig_over(before)
    after.clock.advance(3 * 24 * 3600)
    async with after.engine as engine:
        await engine.wait_ready()
        assert engine.pool.lanes == 1
        after.clock.advance(60)
        # Bars that were open on Friday are final without another tick.
        await until(lambda: len(after.stored.collections.get("ohlc_bars", {})) == 3)
    assert all(bar["final"] for bar in after.stored.collections["ohlc_bars"].values())


async def test_a_member_from_before_what_is_read_back_leaves_the_sorted_set_as_any_other() -> None:
    before = rig_over()
    at = before.clock.now_us - HOUR
    async with before.engine:
        for moment, strike in ((at, 21000), (at + HOUR - MINUTE, 21500)):
            hand_in(before, QUOTES, quote(strike, "CALL", moment, iv=0.2, expiry="2099-06-26"))
            await before.drained()
    after = rig_over(before)
    async with after.engine:
        hand_in(after, QUOTES, quote(21000, "CALL", at + HOUR, iv=None, expiry="2099-06-26"))
        await after.drained()
        assert [score for _, score in after.shown.sorted_set("iv_surface:NIFTY")] == [21500.0]


class Counted:
    """Reads from the stored documents of a rig, and counts what a server without limits goes through."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.gone_through = 0

    async def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        self.gone_through += len(await self._rig.stored.find(collection, query))
        return await self._rig.stored.find(collection, query, sort=sort, limit=limit)


async def test_reading_back_is_linear_also_for_what_came_after_the_checkpoint() -> None:
    rig = rig_over()
    at, documents = rig.clock.now_us, 4000
    async with rig.engine:
        for n in range(documents):
            # The only checkpoint is that of the first message, as in a run of less than a minute.
            hand_in(rig, QUOTES, quote(20000 + n % 50, "CALL", at - 40 * SECOND + n * 10_000, iv=0.2))
        await rig.drained()
    reader = Counted(rig)
    states = await reload.load(reader, {"NIFTY": Delivery("", b"", at)}, SPANS)
    assert len(states["NIFTY"].surface) == 50
    assert reader.gone_through < 4 * documents
