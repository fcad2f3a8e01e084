"""Volatility: the smiles with their SVI curves, the surface, what expiries say, and percentiles."""

from __future__ import annotations

from itertools import pairwise
from math import log
from typing import Any

import msgspec

from enricher.analytics.raw_svi import Svi
from enricher.clock import SECOND
from enricher.market.web.chains import Chains, Head, OfExpiry
from enricher.market.web.reading import Document, Reading
from enricher.web.views import Asked

DRAWN = 6
"""Smiles that are drawn: more cannot be told apart."""
_POINTS = 48
_COLUMNS = 13
_STEPS = (0.0025, 0.005, 0.01, 0.02, 0.025, 0.05, 0.1, 0.2, 0.5)
_DAY_US = 86_400 * SECOND


Point = tuple[float, float]
"""A strike and a volatility, a decimal."""


class Smile(msgspec.Struct, frozen=True):
    """One expiry: volatilities of the market by strike, the curve through them, and what they measure.

    ``svi_age`` is how many seconds the curve is older than the volatilities.
    """

    expiry: str
    days: float
    forward: float | None
    nodes: list[Point]
    curve: list[Point]
    atm_iv: float | None
    risk_reversal: float | None
    butterfly: float | None
    variance_swap: float | None
    svi: Any
    svi_reason: str | None
    svi_age: float | None
    arbitrage: int


class SurfaceRow(msgspec.Struct, frozen=True):
    """Volatilities of an expiry by moneyness; None beyond what is traded."""

    expiry: str
    days: float
    ivs: list[float | None]


class Standing(msgspec.Struct, frozen=True):
    """Where a figure stands among those of the last days; percentile and rank are percents."""

    name: str
    value: float | None
    percentile: float | None
    rank: float | None
    low: float | None
    high: float | None
    days: int
    reason: str | None


class Volatility(msgspec.Struct, frozen=True):
    """The smiles, the surface over ``moneyness`` (strike by forward less 1), and percentiles."""

    head: Head
    smiles: list[Smile]
    moneyness: list[float]
    surface: list[SurfaceRow]
    lowest: float
    highest: float
    standing: list[Standing]
    violations: int


class VolatilityViews:
    """The view of a product's volatility."""

    def __init__(self, reading: Reading, chains: Chains) -> None:
        self._reading = reading
        self._chains = chains

    async def volatility(self, asked: Asked[OfExpiry]) -> Volatility:
        """Smiles, surface and percentiles."""
        product = asked.path["product"]
        head, chain = await self._chains.head(product, asked.parameters.expiry)
        drawn = await self._reading.surface(product)
        smiles = [self._smile(product, row) for row in drawn.get("smiles", ())]
        smiles = [smile for smile in smiles if smile.nodes]
        moneyness, rows = surface_of(smiles)
        known = [iv for row in rows for iv in row.ivs if iv is not None]
        calendar = drawn.get("calendar") or {}
        return Volatility(
            head=head,
            smiles=smiles,
            moneyness=moneyness,
            surface=rows,
            lowest=min(known, default=0.0),
            highest=max(known, default=0.0),
            standing=_standing(chain or {}),
            violations=int(calendar.get("violation_count") or 0),
        )

    def _smile(self, product: str, row: Document) -> Smile:
        smile, forward = row.get("smile") or {}, row.get("forward")
        pairs = zip(smile.get("strikes") or (), smile.get("ivs") or (), strict=False)
        nodes = [(float(strike), float(iv)) for strike, iv in pairs if iv is not None]
        years, svi = row.get("years") or 0.0, row.get("svi")
        left_us = self._reading.contracts.of(product).expiry_us(row["expiry"]) - row["as_of_us"]
        return Smile(
            expiry=row["expiry"],
            days=max(left_us / _DAY_US, 0.0),
            forward=forward,
            nodes=nodes,
            curve=curve_of(svi, forward, years, nodes),
            atm_iv=smile.get("atm_iv"),
            risk_reversal=smile.get("risk_reversal"),
            butterfly=smile.get("butterfly"),
            variance_swap=row.get("variance_swap"),
            svi=svi,
            svi_age=(row["as_of_us"] - svi["as_of_us"]) / SECOND if svi else None,
            svi_reason=row.get("svi_reason") or (svi or {}).get("reason"),
            arbitrage=int((row.get("arbitrage") or {}).get("count") or 0),
        )


def curve_of(svi: Document | None, forward: float | None, years: float, nodes: list[Point]) -> list[Point]:
    """The volatilities of a fitted curve from the lowest node to the highest; empty without a curve."""
    if not svi or svi.get("a") is None or not forward or len(nodes) < 2 or years <= 0:
        return []
    fitted = Svi(*(svi[name] for name in ("a", "b", "rho", "m", "sigma")))
    low, high = nodes[0][0], nodes[-1][0]
    strikes = [low + (high - low) * at / (_POINTS - 1) for at in range(_POINTS)]
    ivs = [(strike, fitted.volatility(log(strike / forward), years)) for strike in strikes if strike > 0]
    return [(strike, iv) for strike, iv in ivs if iv is not None]


def surface_of(smiles: list[Smile]) -> tuple[list[float], list[SurfaceRow]]:
    """The surface on a grid that all expiries share, read off the market's volatilities between strikes."""
    forwards = [(smile, smile.forward) for smile in smiles if smile.forward]
    if not forwards:
        return [], []
    low = min(smile.nodes[0][0] / ahead - 1 for smile, ahead in forwards)
    high = max(smile.nodes[-1][0] / ahead - 1 for smile, ahead in forwards)
    half = _COLUMNS // 2
    step = next((step for step in _STEPS if max(-low, high) <= step * (half + 0.5)), _STEPS[-1])
    grid = [at * step for at in range(-half, half + 1) if low <= at * step <= high]
    rows = [
        SurfaceRow(smile.expiry, smile.days, [_between(smile.nodes, ahead * (1 + away)) for away in grid])
        for smile, ahead in forwards
    ]
    return grid, rows


def _between(nodes: list[Point], strike: float) -> float | None:
    """The volatility at a strike, on the straight line between its neighbours; None beyond the last."""
    for (left, iv), (right, next_iv) in pairwise(nodes):
        if left <= strike <= right:
            return iv + (next_iv - iv) * (strike - left) / (right - left)
    return None


def _standing(chain: Document) -> list[Standing]:
    rows = (chain.get("standing") or {}).items()
    names = ("value", "percentile", "rank", "low", "high")
    return [
        Standing(
            name=name,
            **{each: row.get(each) for each in names},
            days=int(row.get("days") or 0),
            reason=row.get("reason"),
        )
        for name, row in rows
    ]
