"""One chain enriched: everything that is stored and published of it, times apart.

A plain function of the chain and of what the product's lane remembers. With ``analytics`` off it is the
contract's fields and no more.
"""

from __future__ import annotations

from collections.abc import Generator
from decimal import Decimal
from functools import lru_cache, partial
from typing import Any

from enricher.analytics.chain_doubts import chain_doubts
from enricher.analytics.chain_numbers import ChainNumbers, chain_numbers, pain_curve, pcr_by_strike
from enricher.analytics.chain_prices import ChainPrices, chain_prices
from enricher.analytics.columns import Columns, columns
from enricher.analytics.contracts import Contract
from enricher.analytics.oi_walls import losses, trading_range
from enricher.analytics.percentile import Standing
from enricher.analytics.position_buildup import Snapshot, buildup, since_open
from enricher.analytics.price_analysis import analysis_steps
from enricher.analytics.rounding import rounded_all
from enricher.analytics.staleness import NO_AGES, Fresh, fresh, leg_ages, reader
from enricher.clock import SECOND
from enricher.market.documents import buildup_fields, chain_fields, wall_fields
from enricher.market.quality.earlier_chains import flag_scale, unit_changed
from enricher.market.reasons import (
    AHEAD,
    BEYOND,
    explain_buildup,
    explain_chain,
    explain_range,
    explain_ratios,
    explain_times,
)
from enricher.market.serialisation import Fields, analysis_fields, rounded
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import ProductState
from enricher.market.surface.expiry_snapshot import ExpirySnapshot, expiry_snapshot
from enricher.market.surface.snapshot_at import front, snapshot_at, together
from enricher.messages.models import Chain, Number

_NO_EARLIER = "no earlier snapshot to compare with"
_CENT = 0.01
_FINEST = 8

Enriched = tuple[Fields, ExpirySnapshot | None]
Steps = Generator[None, None, Enriched]


def enriching(
    state: ProductState, chain: Chain, taken: Snapshot, settings: MarketSettings, zone: Any
) -> Steps:
    """The fields of a chain, and what is remembered of it; ``zone`` is that of times without an offset.

    It yields where others may have a turn: no step of a chain of 200 strikes takes a millisecond.
    """
    half_tick = least_move(settings, state.contract)
    before = state.baselines.before(chain.expiry, chain.event_us)
    change = None if before is None else buildup(taken, before, half_tick)
    age = state.baselines.least_us / SECOND
    no_change = f"no snapshot at least {age:g} s older to compare with" if age else _NO_EARLIER
    ages, max_age = leg_ages(chain, reader(zone)), settings.price_max_age
    cells = fresh(columns(chain), ages, max_age)
    contract = state.contract.as_of(chain.event_us).in_units(chain.oi_unit, chain.price_unit)
    priced = _priced(chain, cells, contract) if settings.analytics else None
    numbers = chain_numbers(chain, cells, None if priced is None else priced.no_spot)
    totals = (numbers.total_call_oi, numbers.total_put_oi)
    if (jump := unit_changed(change, chain, contract, totals)) is not None:
        change, no_change = None, jump
    fields = chain_fields(chain, numbers, change, no_change, partial(shown_price, state.contract))
    explain_chain(fields, fields["flags"], cells)
    if ages is not NO_AGES:
        explain_times(fields["flags"], ages)
    if change is not None:
        explain_buildup(fields["flags"], "buildup", change, len(chain.strikes))
    if chain.future:
        fields["flags"]["timestamp"] = AHEAD
    if priced is None:
        if settings.analytics:
            fields["flags"] = {**fields["flags"], "analytics": BEYOND}
        return fields, None
    yield
    try:
        unit_before = state.history.units.at(chain.event_us)
        analysis = yield from analysis_steps(
            chain, priced, contract, settings.vendor_iv, unit_before, settings.extras
        )
        yield
        more = analysis_fields(analysis, cells.strikes, contract, chain.expiry, max_age)
    except (ArithmeticError, ValueError):
        fields["flags"] = {**fields["flags"], "analytics": BEYOND}
        return fields, None
    yield
    odd = chain_doubts(chain, cells, contract)
    known_before = state.chains.known.get(chain.expiry)
    flag_scale(chain, None if known_before is None else known_before.quotes.strikes, odd)
    flags = {**fields["flags"], **odd, **priced.flags, **more.pop("flags")}
    fields |= more
    fields["analytics"]["pcr"] = rounded_all(pcr_by_strike(cells.calls.oi, cells.puts.oi), 4)
    _more_of_walls(fields, numbers, cells, priced.spot)
    explain_range(fields, flags, priced.spot)
    if settings.max_pain_curve:
        curve = pain_curve(cells.strikes, cells.calls.oi, cells.puts.oi)
        fields["max_pain_curve"] = None if curve is None else rounded_all(curve, 2)
        if curve is None:
            flags["max_pain_curve"] = flags["max_pain_strike"]
    first = state.baselines.first_of_day(chain.expiry, chain.event_us)
    since = since_open(taken, first, cells, half_tick)
    if since is None:
        fields["buildup_day"], flags["buildup_day"] = None, "the first chain of the day"
    elif (jump := unit_changed(since, chain, contract, totals)) is not None:
        fields["buildup_day"], flags["buildup_day"] = None, jump
    else:
        fields["buildup_day"] = buildup_fields(chain, since)
        explain_buildup(flags, "buildup_day", since, len(chain.strikes))
    fields["flags"] = flags
    fields["conventions"]["feed_zone"] = str(zone)
    fields["conventions"]["price_scale"] = priced.scale
    yield
    known = expiry_snapshot(chain, fields, contract, priced.cells)
    if known is None:  # what was just written can be read
        raise LookupError("an analysed chain that cannot be remembered")
    _together(state, fields, known)
    explain_ratios(flags, fields["analytics"]["pcr"], fields["all_expiries"])
    return fields, known


def _priced(chain: Chain, cells: Fresh, contract: Contract) -> ChainPrices | None:
    """The prices of a chain; None where numbers are beyond what doubles hold."""
    try:
        return chain_prices(chain, cells, contract)
    except (ArithmeticError, ValueError):
        return None


def least_move(settings: MarketSettings, contract: Contract) -> float:
    """The least change of an option's price that is a move, in the unit of the prices as sent."""
    return contract.tick_size / 2 if settings.half_tick is None else settings.half_tick


def shown_price(contract: Contract, price: float) -> float:
    """The price of an option or a straddle as it is shown: to 2 decimals, or half the tick if that is finer.

    Below one tick, and below 1 where the terms name no currency, the tick cannot be right: then to 8.
    """
    if price < (contract.tick_size if contract.currency is not None else 1):
        return round(price, _FINEST)
    return round(price, _decimals(contract.tick_size))


@lru_cache(maxsize=256)
def _decimals(tick_size: float) -> int:
    exponent = Decimal(repr(tick_size)).as_tuple().exponent
    return 2 if tick_size >= _CENT or not isinstance(exponent, int) else min(1 - exponent, _FINEST)


def _more_of_walls(fields: Fields, numbers: ChainNumbers, cells: Columns, spot: Number | None) -> None:
    between = trading_range(numbers.support, numbers.resistance, spot)
    fields["trading_range"] = None if between is None else {
        "support": between.support,
        "resistance": between.resistance,
        "width_pct": round(between.width_pct, 2),
        "position": rounded(between.position, 4),
        "balance": round(between.balance, 4),
    }
    fields["resistance_losses"] = wall_fields(
        losses(cells.strikes, cells.calls.oi_change, spot, "resistance")
    )
    fields["support_losses"] = wall_fields(losses(cells.strikes, cells.puts.oi_change, spot, "support"))


def _together(state: ProductState, fields: Fields, known: ExpirySnapshot) -> None:
    """Adds what all expiries say together and where that stands in its own past."""
    event = known.event_us
    session = state.session(event)
    now, today = state.as_of.beside(known, event, session)
    rows = [snapshot_at(snapshot, event) for snapshot in now]
    expected = state.as_of.expected(known, event, now)
    fields["all_expiries"] = everywhere = together(rows, today, event, expected)
    expiry, atm_iv = front(rows) or (None, None)
    values = {
        "atm_iv": atm_iv,
        "iv_30d": everywhere["iv_30d"],
        "pcr_oi": everywhere["pcr_oi"],
        "pcr_volume": everywhere["pcr_volume"],
    }
    fields["standing"] = {
        name: _standing(value, state.history.series[name].standing(session.day, value))
        for name, value in values.items()
    }
    fields["standing"]["atm_iv"]["expiry"] = expiry
    known.measures.update(values)


def _standing(value: float | None, standing: Standing) -> Fields:
    return {
        "value": value,
        "percentile": rounded(standing.percentile, 2),
        "rank": rounded(standing.rank, 2),
        "days": standing.days,
        "low": standing.low,
        "high": standing.high,
        "reason": standing.reason,
    }
