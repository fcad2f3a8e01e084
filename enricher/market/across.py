"""What a volatility surface says beyond the vendor's volatilities: smiles, term structure, calendar.

The smile of every expiry is that of its last chain; what two neighbouring expiries say of each other is kept
until one of them has a newer chain.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import sqrt
from typing import Any

from enricher.market import arbitrage, term
from enricher.market.remembered import Remembered
from enricher.market.report import rounded, rounded_all

Pair = tuple[str, str]
Rows = list[dict[str, Any]]

_CAP = 10


class Across:
    """The comparison of neighbouring expiries of one product, kept pair by pair."""

    __slots__ = ("_pairs",)

    def __init__(self) -> None:
        self._pairs: dict[Pair, tuple[Remembered, Remembered, Rows, Rows]] = {}

    def fields(self, known: Sequence[Remembered], fits: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
        """The part of a surface that is computed from prices; ``known`` ascend by expiry."""
        years, ws = term.at_moneyness(one.smile for one in known if one.smile.reason is None)
        falls, findings = self._compared(known)
        return {
            "smiles": [{"expiry": one.expiry, **one.row, "svi": fits.get(one.expiry)} for one in known],
            "term": {
                "years": rounded_all(years, 10),
                "ivs": rounded_all([sqrt(w / t) for t, w in zip(years, ws, strict=True)]),
                "maturities": [
                    {"days": found.days, "iv": rounded(found.iv), "reason": found.reason}
                    for found in (term.constant_maturity(years, ws, days) for days in term.DAYS)
                ],
                "forwards": [
                    {
                        "near": rounded(found.near_years, 10),
                        "far": rounded(found.far_years, 10),
                        "variance": rounded(found.variance, 8),
                        "volatility": rounded(found.volatility),
                        "reason": found.reason,
                    }
                    for found in term.forward_variances(years, ws)
                ],
            },
            "calendar": {
                "violations": falls[:_CAP],
                "violation_count": len(falls),
                "executable": findings[:_CAP],
                "executable_count": len(findings),
            },
        }

    def _compared(
        self, known: Sequence[Remembered]
    ) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        pairs = {}
        falls: list[dict[str, Any]] = []
        findings: list[dict[str, Any]] = []
        for near, far in pairwise(known):
            key = (near.expiry, far.expiry)
            held = self._pairs.get(key)
            # By identity: a chain that is corrected keeps its time and says something else.
            if held is None or held[0] is not near or held[1] is not far:
                held = (near, far, _falls(near, far), _executable(near, far))
            pairs[key] = held
            falls += held[2]
            findings += held[3]
        self._pairs = pairs
        falls.sort(key=lambda row: -row["amount"])
        findings.sort(key=lambda row: -row["amount"])
        return falls, findings


def _falls(near: Remembered, far: Remembered) -> list[dict[str, Any]]:
    """Where total variance falls from one expiry to the next, by the mids that the smiles are made of."""
    return [
        {"near": near.expiry, "far": far.expiry, "k": rounded(found.k), "amount": rounded(found.amount, 8)}
        for found in term.calendar_violations((near.smile, far.smile))
    ]


def _executable(near: Remembered, far: Remembered) -> list[dict[str, Any]]:
    """What of it can be traded on at the quoted prices."""
    if not near.forward or not far.forward or near.smile.years <= 0:
        return []
    found = arbitrage.calendar(
        near.quotes, near.forward, near.discount, far.quotes, far.forward, far.discount, cap=_CAP
    )
    return [
        {
            "near": near.expiry,
            "far": far.expiry,
            "option": one.option,
            "strikes": list(one.strikes),
            "amount": rounded(one.amount, 4),
        }
        for one in found.found
    ]
