"""Raw SVI: the published example, the fit against scipy's, and butterflies against the density of prices."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import pairwise
from math import exp, pi, sqrt

import numpy as np
import pytest
import QuantLib as ql  # noqa: N813  as its own documentation writes it
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares, minimize_scalar

from enricher.analytics.raw_svi import STEEPEST_WING, Svi, SviFit, butterfly, fit, fit_steps, g

# Axel Vogt's example: Gatheral and Jacquier, Arbitrage-free SVI volatility surfaces, 2012, section 3.
VOGT = Svi(a=-0.0410, b=0.1331, rho=0.3060, m=0.3586, sigma=0.4153)
QUARTER = 0.25


def nodes(svi: Svi, low: float, high: float, count: int) -> tuple[list[float], list[float]]:
    ks = [low + (high - low) * at / (count - 1) for at in range(count)]
    return ks, [svi.total_variance(k) for k in ks]


def noisy(seed: int, count: int, noise: float) -> tuple[list[float], list[float]]:
    """Nodes of some plausible smile, each off by a share of itself."""
    rng = random.Random(seed)
    sigma, rho, m = rng.uniform(0.02, 0.6), rng.uniform(-0.9, 0.6), rng.uniform(-0.2, 0.2)
    b = rng.uniform(0.02, 0.6)
    a = rng.uniform(0.0005, 0.05) - b * sigma * sqrt(1 - rho * rho)
    span = rng.uniform(0.1, 1.2)
    low = -span * rng.uniform(0.3, 0.7)
    ks, ws = nodes(Svi(a, b, rho, m, sigma), low, low + span, count)
    return ks, [w * (1 + rng.gauss(0, noise)) for w in ws]


def solved(found: SviFit) -> tuple[Svi, float]:
    assert found.svi is not None
    assert found.rmse is not None
    return found.svi, found.rmse


smiles = st.lists(
    st.tuples(st.floats(-1, 1).map(lambda k: round(k, 3)), st.floats(1e-4, 1.0)),
    min_size=5,
    max_size=25,
    unique_by=lambda node: node[0],
).map(sorted)


def test_the_published_example_has_its_published_variances() -> None:
    # SVI-JW at T = 1 in the paper: variance at the money v and least variance v~.
    assert VOGT.total_variance(0) == pytest.approx(0.01742625, abs=1e-7)
    least = minimize_scalar(VOGT.total_variance, bounds=(-1, 1), method="bounded", options={"xatol": 1e-10})
    assert least.fun == pytest.approx(0.0116249, abs=1e-6)


def test_the_published_example_lets_a_butterfly_be_bought_for_less_than_nothing() -> None:
    found = butterfly(VOGT, -1.5, 1.5)
    assert not found.free
    worst = minimize_scalar(lambda k: g(VOGT, k), bounds=(0.5, 1.3), method="bounded")
    assert found.worst_k == pytest.approx(worst.x, abs=1e-4)
    assert found.worst_g == pytest.approx(worst.fun, rel=1e-6)
    assert butterfly(VOGT, -1.5, 0.5).free


@pytest.mark.parametrize("k", [-1.2, -0.4, -0.1, 0.0, 0.2, 0.5, 0.9, 1.3])
def test_g_is_the_density_that_prices_imply(k: float) -> None:
    def call(strike: float) -> float:
        total = sqrt(VOGT.total_variance(float(np.log(strike))))
        payoff = ql.PlainVanillaPayoff(ql.Option.Call, strike)
        return float(ql.BlackCalculator(payoff, 1.0, total, 1.0).value())

    strike, gap = exp(k), 1e-3
    bend = (call(strike + gap) - 2 * call(strike) + call(strike - gap)) / (gap * gap)
    root = sqrt(VOGT.total_variance(k))
    d2 = -k / root - root / 2
    normal = exp(-d2 * d2 / 2) / sqrt(2 * pi) / (root * strike)
    assert g(VOGT, k) == pytest.approx(bend / normal, rel=1e-3, abs=1e-5)


def test_an_arbitrage_hidden_between_coarse_strikes_is_found() -> None:
    sharp = Svi(a=0.01, b=0.5, rho=-0.6, m=0.0304, sigma=0.002)
    found = butterfly(sharp, -1, 1)
    fine = min(g(sharp, k) for k in np.linspace(-0.1, 0.1, 20_001))
    assert found.worst_g == pytest.approx(min(fine, g(sharp, -1), g(sharp, 1)), rel=1e-4)


@pytest.mark.parametrize(
    "narrow",
    [
        Svi(-3.9164991e-07, 0.00020883334, 0.0, 0.91138138, 0.0023802464),
        Svi(-0.0038335993640405777, 0.0026307062217612006, -0.5150306948213459, 0.0012373588, 1.7003373),
        Svi(-1.806386630052034e-05, 0.07580191291893579, 0.999, -0.07801469531438301, 0.005404658834047372),
    ],
    ids=str,
)
def test_g_is_least_where_it_dips_narrowly_beside_the_bottom_of_the_smile(narrow: Svi) -> None:
    low, high = -1.8, 1.8
    found = butterfly(narrow, low, high)
    ks = np.linspace(low, high, 400_001)
    x = ks - narrow.m
    root = np.hypot(x, narrow.sigma)
    w = narrow.a + narrow.b * (narrow.rho * x + root)
    rise = narrow.b * (narrow.rho + x / root)
    bend = narrow.b * narrow.sigma**2 / root**3
    every = (1 - ks * rise / (2 * w)) ** 2 - rise**2 / 4 * (1 / w + 0.25) + bend / 2
    assert found.worst_g <= every.min() + 1e-9
    assert found.worst_g == pytest.approx(g(narrow, found.worst_k), rel=1e-12)


def test_a_variance_that_is_not_positive_is_the_worst_arbitrage() -> None:
    assert butterfly(Svi(-0.1, 0.1, 0, 0, 0.1), -1, 1).worst_g == -1e300
    assert Svi(-0.1, 0.1, 0, 0, 0.1).volatility(0, 1) is None


@pytest.mark.parametrize("count", [9, 21, 200])
@pytest.mark.parametrize(
    "truth", [VOGT, Svi(0.002, 0.05, -0.7, 0.02, 0.08), Svi(0.04, 0.4, -0.3, -0.1, 0.3)], ids=str
)
def test_the_parameters_that_made_the_nodes_are_found_again(truth: Svi, count: int) -> None:
    found, error = solved(fit(*nodes(truth, -0.6, 0.7, count), QUARTER))
    assert error < 1e-6
    assert (found.a, found.b, found.rho, found.m, found.sigma) == pytest.approx(
        (truth.a, truth.b, truth.rho, truth.m, truth.sigma), abs=1e-6
    )


@pytest.mark.parametrize(("count", "noise"), [(21, 0.003), (21, 0.02), (60, 0.01)])
@pytest.mark.parametrize("seed", range(3))
def test_scipy_finds_no_better_smile(seed: int, count: int, noise: float) -> None:
    ks, ws = noisy(seed, count, noise)
    weights = [1.0] * count
    _, error = solved(fit(ks, ws, QUARTER, weights))
    k, iv, span = np.array(ks), np.sqrt(np.array(ws) / QUARTER), ks[-1] - ks[0]

    def errors(p: np.ndarray) -> np.ndarray:
        w = p[0] + p[1] * (p[2] * (k - p[3]) + np.hypot(k - p[3], p[4]))
        return np.sqrt(np.maximum(w, 1e-12) / QUARTER) - iv

    bounds = ([-5, 0, -1, ks[0] - span, 1e-3 * span], [5, 1, 1, ks[-1] + span, 10 * span])
    best = 1.0
    for m, sigma in ((0.2, 0.4), (0.5, 0.05), (0.5, 0.4), (0.8, 0.4)):
        start = [min(ws) / 2, 0.1, 0.0, ks[0] + m * span, sigma * span]
        best = min(best, least_squares(errors, start, bounds=bounds, max_nfev=100).cost)
    # Ours is least in the error of w, which is that of volatility to first order only.
    assert error <= 100 * sqrt(2 * best / count) * (1 + noise) + 1e-9


@settings(max_examples=60)
@given(smiles)
def test_whatever_the_nodes_the_fit_is_a_smile_with_bounded_wings_and_positive_variance(
    found: list[tuple[float, float]],
) -> None:
    ks, ws = [k for k, _ in found], [w for _, w in found]
    svi, _ = solved(fit(ks, ws, QUARTER, [1.0] * len(ks)))
    assert svi.b >= 0
    assert -1 <= svi.rho <= 1
    assert svi.sigma > 0
    assert svi.b * (1 + abs(svi.rho)) <= STEEPEST_WING * (1 + 1e-9)
    assert svi.a + svi.b * svi.sigma * sqrt(1 - svi.rho * svi.rho) > 0
    # What is least is the sum of (error of w)^2 / w, and no flat smile has less of it.
    fitted, given_w = np.array([svi.total_variance(k) for k in ks]), np.array(ws)
    flat = np.average(given_w, weights=1 / given_w)
    assert np.sum((fitted - given_w) ** 2 / given_w) <= np.sum((flat - given_w) ** 2 / given_w) * (1 + 1e-9)


def test_the_errors_are_those_at_the_nodes_in_volatility_points() -> None:
    ks, ws = noisy(4, 21, 0.05)
    found = fit(ks, ws, QUARTER)
    svi, error = solved(found)
    fitted = [svi.volatility(k, QUARTER) or 0 for k in ks]
    misses = 100 * (np.array(fitted) - np.sqrt(np.array(ws) / QUARTER))
    assert error == pytest.approx(np.sqrt(np.mean(misses**2)))
    assert found.worst == pytest.approx(np.abs(misses).max())
    assert found.nodes == 21


def test_a_node_of_little_weight_hardly_counts() -> None:
    ks, ws = nodes(VOGT, -0.5, 0.5, 15)
    ws[3] *= 1.5
    trusting, _ = solved(fit(ks, ws, QUARTER, [1.0] * 15))
    doubting, _ = solved(fit(ks, ws, QUARTER, [1.0] * 3 + [1e-12] + [1.0] * 11))
    truth = VOGT.total_variance(ks[3])
    assert abs(doubting.total_variance(ks[3]) - truth) < 1e-6
    assert abs(trusting.total_variance(ks[3]) - truth) > 1e-4


def test_only_the_ratios_of_weights_count() -> None:
    ks, ws = noisy(1, 15, 0.02)
    some = [1.0 + at % 3 for at in range(15)]
    one, _ = solved(fit(ks, ws, QUARTER, some))
    other, _ = solved(fit(ks, ws, QUARTER, [weight * 1024 for weight in some]))
    assert one.total_variance(0.05) == pytest.approx(other.total_variance(0.05), rel=1e-6)


def test_fewer_than_five_nodes_are_not_fitted() -> None:
    assert fit(*nodes(VOGT, -1, 1, 4), QUARTER) == SviFit(None, 4, reason="too_few_nodes")
    assert fit([], [], QUARTER).reason == "too_few_nodes"


def test_what_has_expired_is_not_fitted() -> None:
    assert fit(*nodes(VOGT, -1, 1, 9), 0.0).reason == "expired"


@pytest.mark.parametrize(
    ("at", "k", "w"), [(2, float("nan"), 0.1), (2, 0.0, 0.0), (2, 0.0, float("inf")), (3, -5.0, 0.1)]
)
def test_a_node_that_is_none_is_refused(at: int, k: float, w: float) -> None:
    ks, ws = nodes(VOGT, -1, 1, 9)
    ks[at], ws[at] = k, w
    with pytest.raises(ValueError, match=r"positive|ascend"):
        fit(ks, ws, QUARTER)


def test_columns_of_unequal_length_are_refused() -> None:
    ks, ws = nodes(VOGT, -1, 1, 9)
    with pytest.raises(ValueError, match="shorter"):
        fit(ks, ws[:-1], QUARTER)


def test_the_fit_in_steps_gives_many_turns_and_the_same_smile() -> None:
    ks, ws = noisy(2, 200, 0.01)
    found: list[SviFit] = []

    def kept() -> Iterator[None]:
        found.append((yield from fit_steps(ks, ws, QUARTER)))

    assert sum(1 for _ in kept()) >= 5
    assert found == [fit(ks, ws, QUARTER)]


def test_the_wings_of_a_fit_do_not_fall_away_from_its_bottom() -> None:
    svi, _ = solved(fit(*noisy(3, 21, 0.02), QUARTER))
    bottom = svi.m - svi.rho * svi.sigma / sqrt(1 - svi.rho**2)
    right = [svi.total_variance(bottom + 0.1 * at) for at in range(50)]
    left = [svi.total_variance(bottom - 0.1 * at) for at in range(50)]
    assert all(near <= far for side in (left, right) for near, far in pairwise(side))
