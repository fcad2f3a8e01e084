"""Why something in a chain is null: a reason in ``flags`` for everything that has none beside it.

A null has its reason in one of these places, looked for in this order:

- beside it: ``reason`` or ``NAME_reason`` of its own object, or ``reasons`` of it by name;
- ``flags`` under its path (``exposure.delta.calls``; the places of a list are left out) or under that of an
  object it is in (``expected_move``);
- in the columns of ``analytics.calls`` and ``analytics.puts``: ``analytics.reasons``, by strike.

Legs are shown as they were sent, their nulls too. Reasons are made only where there is a null: what has none
costs a look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from enricher.analytics.columns import Columns
from enricher.analytics.position_buildup import Buildup
from enricher.analytics.staleness import ChainAges
from enricher.messages.leg_checks import few
from enricher.messages.models import Number
from enricher.messages.schema import flag

Flags = dict[str, str]

AHEAD: Final = "ahead of the clock: it moves neither windows nor what is newest"
BEYOND: Final = "numbers beyond what can be computed with"
_NO_VOLUME: Final = "no leg has a known volume"
_CONVENTIONS: Final = {
    "currency": "not named in the product's terms",
    "dividend_yield": "the underlying cannot be held, so spot is no forward",
    "vendor_iv": "nothing sent that tells percent from decimals",
}


def explain_chain(fields: Mapping[str, Any], flags: Flags, cells: Columns) -> None:
    """Adds the reasons of what is null in the contract's fields and was not explained where it was found."""
    call_changes, put_changes = cells.calls.oi_change, cells.puts.oi_change
    if fields["pcr_oi_change"] is None:
        flags["pcr_oi_change"] = _no_gain(call_changes, put_changes)
    elif None in call_changes or None in put_changes:
        every = [*fields["calls"], *fields["puts"]]
        _partly(flags, "pcr_oi_change", [*call_changes, *put_changes], every)
    for name, volumes, legs in (
        ("total_call_volume", cells.calls.volume, fields["calls"]),
        ("total_put_volume", cells.puts.volume, fields["puts"]),
    ):
        if fields[name] is None:
            flags[name] = _NO_VOLUME
        elif None in volumes:
            _partly(flags, name, volumes, legs)
    if fields["max_pain_value"] is None:
        flags["max_pain_distance_pct"] = flags["max_pain_value"] = flags["max_pain_strike"]
    elif fields["max_pain_distance_pct"] is None:
        flags.setdefault("max_pain_distance_pct", BEYOND)
    for name in ("pcr_oi", "pcr_volume"):
        if fields[name] is None and name not in flags:
            flags[name] = BEYOND


def explain_times(flags: Flags, ages: ChainAges) -> None:
    """Says which legs carry a time that tells nothing of their age."""
    for side, leg_times in (("calls", ages.calls), ("puts", ages.puts)):
        told: dict[tuple[str, str], list[Number]] = {}
        for name, what, strike in leg_times.odd:
            told.setdefault((name, what), []).append(strike)
        for (name, what), strikes in told.items():
            flag(flags, f"{side}.{name}", f"{what} at {few(strikes)}")


def explain_buildup(flags: Flags, path: str, change: Buildup, strikes: int) -> None:
    """Adds the reasons of what is null in a build-up that is shown under ``path`` beside so many strikes."""
    for side, known, amount in (
        ("call", change.calls, change.call_oi_change),
        ("put", change.puts, change.put_oi_change),
    ):
        if amount is None:
            flags[f"{path}.{side}_oi_change"] = "no leg with open interest known then and now"
        if len(known) < strikes or None in known.values():
            few = strikes - sum(label is not None for label in known.values())
            why = f"no price or open interest, then or now, at {few} of {strikes} strikes"
            flags[f"{path}.strikes.{side}"] = why


def explain_range(fields: Mapping[str, Any], flags: Flags, spot: Number | None) -> None:
    """Adds the reason of what is null in the range between the walls."""
    between = fields["trading_range"]
    if between is not None:
        if None in between.values():
            flags["trading_range.position"] = "support and resistance are one strike"
    elif spot is None:
        flags["trading_range"] = flags["resistance_losses"] = flags["support_losses"] = flags["spot_price"]
    else:
        missing = " and no ".join(side for side in ("support", "resistance") if not fields[side])
        flags["trading_range"] = f"no {missing}" if missing else BEYOND


def explain_analysis(fields: Mapping[str, Any], flags: Flags) -> None:
    """Adds the reasons of what is null in the fields of an analysis and has none beside it."""
    if fields["forward"]["price"] is None:
        flags.setdefault("forward", BEYOND)
    if fields["atm_forward_strike"] is None:
        flags["atm_forward_strike"] = flags.get("forward", BEYOND)
    _explain_exposure(fields["exposure"], flags)
    gex = fields["gex"]
    if gex["call_wall"] is None:
        flags["gex.call_wall"] = "no strike with positive exposure"
    if gex["put_wall"] is None:
        flags["gex.put_wall"] = "no strike with negative exposure"
    if gex["reason"] is None:
        _explain(flags, "gex", gex, BEYOND)
    columns = fields["analytics"]
    _explain_column(flags, "analytics.gex", columns["gex"], "no leg with gamma and open interest")
    for name in ("vanna", "charm", "volga") if "second_order" in fields else ():
        exposed = fields["second_order"][name]
        why = f"no leg with {name} and open interest"
        _explain_column(flags, f"second_order.{name}.by_strike", exposed["by_strike"], why)
        if exposed["reason"] is None:
            _explain(flags, f"second_order.{name}", exposed, BEYOND)
    unit = fields["conventions"]["vendor_iv"]
    why = _CONVENTIONS["vendor_iv"] if unit is None else "no usable volatility sent"
    _explain_column(flags, "analytics.calls.feed_iv", columns["calls"]["feed_iv"], why)
    _explain_column(flags, "analytics.puts.feed_iv", columns["puts"]["feed_iv"], why)
    if None in fields["conventions"].values():
        for name, value in fields["conventions"].items():
            if value is None:
                flags[f"conventions.{name}"] = _CONVENTIONS[name]


def explain_ratios(flags: Flags, ratios: Sequence[float | None], everywhere: Mapping[str, Any]) -> None:
    """Adds the reasons of what is null among put-call ratios, by strike and over all expiries."""
    _explain_column(flags, "analytics.pcr", ratios, "open interest unknown, or 0 of the call,")
    for name, what in (("pcr_oi", "open interest"), ("pcr_volume", "volume")):
        if everywhere[name] is None:
            flags[f"all_expiries.{name}"] = f"no {what} of calls or of puts known today, or 0"


def _partly(flags: Flags, path: str, column: Sequence[Number | None], legs: Sequence[object]) -> None:
    """Says of a sum at how many of the legs its column is unknown; a leg that is missing has a flag."""
    if unknown := len(legs) - len(column) + column.count(None):
        flags[path] = f"unknown at {unknown} of {len(legs)} legs"


def _no_gain(calls: Sequence[Number | None], puts: Sequence[Number | None]) -> str:
    for side, changes in (("calls", calls), ("puts", puts)):
        if changes.count(None) == len(changes):
            return f"no known change of open interest of the {side}"
    return "open interest does not grow on both sides"


def _explain_exposure(exposure: Mapping[str, Any], flags: Flags) -> None:
    for name in ("delta", "vega", "premium"):
        fields = exposure[name]
        if None in fields.values():
            of = f"with {'price' if name == 'premium' else name} and open interest"
            if not fields["legs"]:
                flags[f"exposure.{name}"] = f"no leg {of}"
            else:
                _explain(flags, f"exposure.{name}", fields, f"no leg {of} on this side")
    for name, weight in (("oi_weighted_iv", "open interest"), ("vega_weighted_iv", "vega")):
        if exposure[name] is None:
            flags[f"exposure.{name}"] = f"no leg with volatility and {weight}"


def _explain(flags: Flags, path: str, fields: Mapping[str, Any], why: str) -> None:
    for name, value in fields.items():
        if value is None and name != "reason":
            flags.setdefault(f"{path}.{name}", why)


def _explain_column(flags: Flags, path: str, column: Sequence[float | None], why: str) -> None:
    if None in column:
        flags[path] = f"{why} at {column.count(None)} of {len(column)} strikes"
