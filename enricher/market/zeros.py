"""Zeros in place of nulls, for readers that compute with whatever a field holds: ``market.unknown``.

The readers of the old worker add and divide its fields without a look, and a null ends their request. Only
those fields get a 0, and only in what is stored, cached and published: nothing is computed from one. What
holds a 0 that nobody knows says so under ``zeroed``: {"fields": [name], "calls": {name: [strike]}, "puts":
...}. `with_nulls` goes by that when a document is read back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Final

from enricher.messages.leg_checks import few
from enricher.messages.schema import flag

Fields = dict[str, Any]

ZEROED: Final = "zeroed"
TICK_FIELDS: Final = ("tick_id",)
CHAIN_FIELDS: Final = (
    "pcr_oi", "pcr_volume", "atm_strike", "atm_straddle_price", "max_pain_strike", "total_call_oi",
    "total_put_oi", "call_buildup_otm", "put_buildup_otm",
)  # fmt: skip
OPTION_FIELDS: Final = (
    "bid", "ask", "last", "volume", "open_interest", "delta", "gamma", "vega", "theta", "iv"
)  # fmt: skip
"""Of a quote, and of each leg of a chain."""


def zeroed(document: Fields, names: Sequence[str]) -> Fields:
    """The document with 0 for whichever of these fields is missing, null or no number."""
    unknown = _unknown(document, names)
    return {**document, **dict.fromkeys(unknown, 0), ZEROED: {"fields": unknown}} if unknown else document


def zeroed_chain(fields: Fields) -> Fields:
    """The fields of an enriched chain with 0 for what is unknown of the old ones and of its legs."""
    chain = zeroed(fields, CHAIN_FIELDS)
    for side in ("calls", "puts"):
        marks: dict[str, list[Any]] = {}
        legs = []
        for leg in fields[side]:
            unknown = _unknown(leg, OPTION_FIELDS)
            for name in unknown:
                marks.setdefault(name, []).append(leg["strike"])
            legs.append({**leg, **dict.fromkeys(unknown, 0)} if unknown else leg)
        if marks:
            flags = dict(chain["flags"])
            for name, strikes in marks.items():
                flag(flags, f"{side}.{name}", f"unknown and written as 0 at {few(strikes)}")
            held = chain.get(ZEROED, {"fields": []})
            chain = {**chain, side: legs, "flags": flags, ZEROED: {**held, side: marks}}
    return chain


def with_nulls(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """A stored document as it would be without zeros for what is unknown."""
    marks = document.get(ZEROED)
    if marks is None:
        return document
    restored = {**document, **dict.fromkeys(marks["fields"])}
    for side in ("calls", "puts"):
        if side in marks:
            at: dict[Any, list[str]] = {}
            for name, strikes in marks[side].items():
                for strike in strikes:
                    at.setdefault(strike, []).append(name)
            restored[side] = [{**leg, **dict.fromkeys(at.get(leg["strike"], ()))} for leg in document[side]]
    return restored


def is_zeroed(fields: Mapping[str, Any], name: str) -> bool:
    """Whether this field of a document or message holds a 0 that nobody knows."""
    return ZEROED in fields and name in fields[ZEROED]["fields"]


def _unknown(document: Fields, names: Sequence[str]) -> list[str]:
    values = ((name, document.get(name)) for name in names)
    return [n for n, value in values if value is None or (isinstance(value, float) and not isfinite(value))]
