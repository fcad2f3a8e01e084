"""Curves are fitted a little at a time, the newest smile of each expiry, and never in the way of a chain."""

from __future__ import annotations

from datetime import UTC
from itertools import count
from math import inf, sqrt
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.position_buildup import snapshot
from enricher.analytics.raw_svi import Svi, fit
from enricher.analytics.steps import at_once
from enricher.analytics.volatility_smile import Smile
from enricher.clock import SECOND
from enricher.market.chain_enrichment import enriching
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import ProductState
from enricher.market.surface.svi_scheduler import SviScheduler, fit_fields
from tests.chains import made_chain
from tests.unit.test_market_state import fold_chain

YEARS = 0.1
NEAR, FAR = "2025-10-30", "2025-11-27"
INTERVAL = 30 * SECOND
CURVE = Svi(0.001, 0.02, -0.4, 0.01, 0.1)


def smile(level: float = 1.0, nodes: int = 21) -> Smile:
    ks = [0.02 * (at - nodes // 2) for at in range(nodes)]
    ws = [level * CURVE.total_variance(k) for k in ks]
    return bent(ks, ws)


def bent(ks: list[float], ws: list[float]) -> Smile:
    ivs = [sqrt(abs(w) / YEARS) for w in ws]
    return Smile(100.0, YEARS, [100.0 + at for at in range(len(ks))], ks, ws, ivs, {}, None)


def uninterrupted() -> SviScheduler:
    """SviScheduler that are never interrupted: no time passes while they work."""
    return SviScheduler(INTERVAL, timer=lambda: 0.0)


def step_by_step() -> SviScheduler:
    """SviScheduler whose every slice is over after one step or two."""
    ticks = count()
    return SviScheduler(INTERVAL, timer=lambda: 0.0006 * next(ticks))


def finished(fits: SviScheduler, now_us: int = 0) -> list[str]:
    """Works until there is nothing to do; the expiries in the order in which they were done."""
    order: list[str] = []
    for _ in range(10_000):
        due = fits.due()
        if due is None or due > now_us:
            return order
        before = dict(fits.done)
        fits.work(now_us)
        order += [expiry for expiry, found in fits.done.items() if before.get(expiry) is not found]
    raise AssertionError("the fits never end")


def test_a_smile_that_is_wanted_is_fitted_as_it_would_be_by_itself() -> None:
    fits, wanted = uninterrupted(), smile()
    fits.want(NEAR, 7, wanted)
    assert fits.due() is not None
    assert fits.work(0)
    assert fits.done == {NEAR: fit_fields(fit(wanted.k, wanted.w, wanted.years), 7)}
    assert fits.due() is None
    assert not fits.work(0)


def test_a_fit_in_slices_gives_the_same_curve_and_says_once_that_it_is_done() -> None:
    fits, whole = step_by_step(), uninterrupted()
    for one in (fits, whole):
        one.want(NEAR, 7, smile())
    said = []
    while fits.due() is not None:
        assert len(said) < 1000
        said.append(fits.work(0))
    assert whole.work(0)
    assert fits.done == whole.done
    assert len(said) > 3
    assert said == [False] * (len(said) - 1) + [True]


def test_of_the_smiles_that_came_while_one_was_fitted_only_the_last_is_fitted_next() -> None:
    fits = step_by_step()
    fits.want(NEAR, 1, smile(1.0))
    fits.work(0)
    for event_us, level in ((2, 1.1), (3, 1.2), (4, 1.3)):
        fits.want(NEAR, event_us, smile(level))
    assert finished(fits) == [NEAR]
    assert fits.done[NEAR]["as_of_us"] == 1
    assert fits.due() == INTERVAL
    assert finished(fits, INTERVAL) == [NEAR]
    assert fits.done[NEAR]["as_of_us"] == 4


def test_an_expiry_is_fitted_at_most_once_an_interval() -> None:
    fits = uninterrupted()
    fits.want(NEAR, 1, smile())
    assert fits.work(5)
    fits.want(NEAR, 2, smile())
    assert not fits.work(5 + INTERVAL - 1)
    assert fits.work(5 + INTERVAL)


def test_expiries_take_turns_though_one_has_chains_all_the_time() -> None:
    fits, order, now = uninterrupted(), [], 0
    for event_us in range(6):
        for expiry in (NEAR, FAR):
            fits.want(expiry, event_us, smile())
        now += INTERVAL // 2
        order += finished(fits, now)
    assert order.count(NEAR) == order.count(FAR) == 3


def test_chains_that_come_faster_than_fits_end_do_not_keep_any_from_ending() -> None:
    fits = step_by_step()
    for event_us in range(400):
        fits.want(NEAR, event_us, smile(1 + event_us / 1000))
        fits.work(event_us)
    assert fits.done[NEAR]["a"] is not None


def test_an_expiry_that_is_forgotten_while_it_is_fitted_does_not_come_back() -> None:
    fits = step_by_step()
    fits.want(NEAR, 1, smile())
    fits.want(FAR, 1, smile())
    assert not fits.work(0)
    fits.forget(NEAR)
    assert finished(fits) == [FAR]
    assert set(fits.done) == {FAR}
    fits.forget(FAR)
    assert fits.done == {}
    assert fits.due() is None


def test_what_nobody_knows_can_be_forgotten() -> None:
    fits = uninterrupted()
    fits.want(NEAR, 1, smile())
    fits.forget(FAR)
    assert finished(fits) == [NEAR]


def folded(state: ProductState, expiry: str, moment: str) -> None:
    legs = [{"strike": strike, "bid": 4.0, "ask": 4.1} for strike in (90, 100, 110)]
    chain = made_chain("N", expiry, 100, moment, legs, legs, strikes=[90, 100, 110])
    taken = snapshot(chain)
    _, known = at_once(enriching(state, chain, taken, MarketSettings(), UTC))
    fold_chain(state, chain, moment, taken, known)


def test_a_product_forgets_the_fit_under_way_of_an_expiry_that_has_passed() -> None:
    state = ProductState("N", MarketSettings(windows=(1,), lateness=0.0, quote_window=1.0))
    state.surface.svi = SviScheduler(INTERVAL, timer=count().__next__)  # no slice gets anywhere
    folded(state, NEAR, f"{NEAR}T09:00:00Z")
    assert not state.surface.svi.work(0)
    assert state.surface.svi.due() == 0
    folded(state, FAR, "2025-11-03T09:00:00Z")
    state.surface.svi.forget(FAR)
    assert state.surface.svi.due() is None
    assert state.surface.svi.done == {}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (bent([0.0, 0.0, 0.1, 0.2, 0.3], [0.01] * 5), "ascend"),
        (bent([-0.2, -0.1, 0.0, 0.1, 0.2], [0.01, 0.01, inf, 0.01, 0.01]), "positive"),
        (bent([-0.2, -0.1, 0.0, 0.1, 0.2], [0.01, -0.01, 0.01, 0.01, 0.01]), "positive"),
    ],
)
def test_a_smile_that_cannot_be_fitted_says_so_and_holds_up_nobody(bad: Smile, reason: str) -> None:
    fits = uninterrupted()
    fits.want(NEAR, 1, bad)
    fits.want(FAR, 1, smile())
    assert finished(fits) == [NEAR, FAR]
    assert reason in fits.done[NEAR]["reason"]
    assert set(fits.done[NEAR]) == set(fits.done[FAR])
    assert fits.done[NEAR]["a"] is None
    assert fits.done[FAR]["reason"] is None


def test_too_few_nodes_are_no_curve_and_give_the_reason() -> None:
    fits = uninterrupted()
    fits.want(NEAR, 1, smile(nodes=3))
    assert finished(fits) == [NEAR]
    assert (fits.done[NEAR]["a"], fits.done[NEAR]["reason"]) == (None, "too_few_nodes")


numbers = st.floats(allow_nan=True, allow_infinity=True)
columns = st.lists(st.tuples(numbers, numbers), max_size=12)
tiny = st.lists(st.tuples(st.floats(-1e-300, 1e-300), st.floats(5e-324, 1e-300)), max_size=8)
huge = st.lists(st.tuples(st.floats(-1e308, 1e308), st.floats(1e-3, 1e308)), max_size=8)


@given(st.one_of(columns, tiny, huge), st.booleans())
def test_whatever_a_smile_is_made_of_its_fit_ends_with_a_curve_or_a_reason(
    rows: list[tuple[float, float]], ascending: bool
) -> None:
    if ascending:
        rows = sorted(rows)
    fits = uninterrupted()
    ks, ws = [k for k, _ in rows], [w for _, w in rows]
    fits.want(NEAR, 1, Smile(1.0, YEARS, [], ks, ws, [], {}, None))
    assert finished(fits) == [NEAR]
    found: dict[str, Any] = fits.done[NEAR]
    assert (found["a"] is None) <= (found["reason"] is not None)


def test_no_fits_are_wanted_with_an_interval_of_zero() -> None:
    fits = SviScheduler(0)
    fits.want(NEAR, 1, smile())
    assert fits.due() is None
    assert not fits.work(10**18)


def test_a_clock_that_was_set_back_does_not_put_fits_off() -> None:
    fits = uninterrupted()
    fits.want(NEAR, 1, smile())
    assert fits.work(3600 * SECOND)
    fits.want(NEAR, 2, smile())
    assert fits.work(10 * SECOND)
    assert fits.done[NEAR]["as_of_us"] == 2
