"""The prices of a chain in currency, the forward they name, and whether they agree with each other.

Options priced in the underlying (Deribit, OKX) are worth their price times the forward of their own expiry,
and never times the index: what is paid at expiry is bought and sold at that forward.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, log
from typing import Final

import msgspec

from enricher.analytics import american, prices
from enricher.analytics.columns import Side
from enricher.analytics.contracts import Contract, years
from enricher.analytics.dividend_lattice import Dividends, present_value
from enricher.analytics.forward_price import Forward, forward
from enricher.analytics.staleness import Fresh
from enricher.messages import doubts
from enricher.messages.models import Chain, Number

Prices = list[float | None]
Chosen = tuple[Prices, list[prices.Source | None], dict[int, str]]

_A_YEAR: Final = 0.5  # of which spot and forward may differ besides, for rates and yields nobody named
_FAR: Final = 3.0  # times the highest strike, or a part of the lowest
_VOTES: Final = 3  # strikes that outvote a price


class ChainPrices(msgspec.Struct, frozen=True):
    """What a chain is computed with.

    ``cells`` are its columns, ``calls`` and ``puts`` the price chosen for every leg, in currency: as sent
    times ``scale``, which is None where nothing tells it. ``mids`` are those of calls and puts, ``narrow``
    those that speak of the forward, without ``wide`` quotes; ``tick`` is the least price step in currency.
    ``spot`` is None where it is not known, ``no_spot`` says why one that was sent does not count. ``flags``
    are {field: reason}; ``dividends`` are those in cash until expiry: (years, amount).
    """

    years: float
    discount: float
    scale: float | None
    tick: float
    cells: Fresh
    calls: Chosen
    puts: Chosen
    mids: tuple[Prices, Prices]
    narrow: tuple[Prices, Prices]
    wide: bool
    forward: Forward
    spot: Number | None
    no_spot: str | None
    flags: dict[str, str]
    dividends: Dividends = ()


def chain_prices(chain: Chain, cells: Fresh, contract: Contract) -> ChainPrices:
    """The prices of a chain whose ``cells`` have them as sent, without stale ones.

    Where spot, future and the forward of the options differ by more than ``contract.spot_apart`` the options
    count, for they are many.
    """
    apart, expires = contract.spot_apart, contract.expiry_us(chain.expiry)
    t = years(expires, chain.event_us)
    cash = contract.cash_dividends(chain.event_us, expires) if contract.dividends else ()
    paid = present_value(cash, contract.rate) if cash else 0.0
    discount = exp(-contract.rate * max(t, 0.0))
    flags: dict[str, str] = {}
    calls, puts = _choose(cells.calls, contract.tick_size), _choose(cells.puts, contract.tick_size)
    mids = _mids(calls), _mids(puts)
    narrow, wide = _narrow(mids, calls[2], puts[2])
    in_underlying = contract.price_unit == "underlying"
    spot: Number | None = chain.spot
    no_spot: str | None = None
    if spot is not None and (ends := _far(spot, cells.strikes)) is not None:
        spot, no_spot = None, doubts.SPOT_OUTSIDE.of(spot=spot, low=ends[0], high=ends[1])
    ahead = forward(
        cells.strikes,
        *narrow,
        spot=spot or 0.0,
        years=t,
        rate=contract.rate,
        dividend_yield=contract.dividend_yield,
        dividends=paid,
        in_underlying=in_underlying,
    )
    if contract.exercise == "american" and not in_underlying:
        ahead = american.parity_forward(ahead, cells.strikes, *narrow, spot or 0.0, t, contract.rate, cash)
    voted = ahead.value is not None and ahead.source == "parity" and len(ahead.strikes) >= _VOTES
    if chain.future_price is not None:
        against = ahead if voted else None
        if _counts(chain.future_price, cells.strikes, against, apart, flags):
            ahead, voted = Forward(chain.future_price, "future"), True
    if spot is not None and spot > paid and contract.dividend_yield is not None and voted and ahead.value:
        carried = (spot - paid) * exp((contract.rate - contract.dividend_yield) * max(t, 0.0))
        off = ahead.value / carried - 1.0
        if abs(log(ahead.value / carried)) > apart + _A_YEAR * max(t, 0.0):
            no_spot = doubts.SPOT_APART.of(spot=spot, percent=round(100 * off, 1), forward=ahead.value)
            spot = None
    scale: float | None = 1.0
    if in_underlying:
        scale = ahead.value
        if ahead.source == "carry":
            doubts.COIN_BY_SPOT.put(flags)
        elif scale is None:
            doubts.COIN_UNKNOWN.put(flags)
        cells = in_currency(cells, scale)
        calls, puts = _times(calls, scale), _times(puts, scale)
        mids = _mids(calls), _mids(puts)
        narrow = _scaled(narrow[0], scale), _scaled(narrow[1], scale)
    tick = contract.tick_size * (scale or 0.0)
    return ChainPrices(
        t, discount, scale, tick, cells, calls, puts, mids, narrow, wide, ahead, spot, no_spot, flags, cash
    )


def in_currency(cells: Fresh, scale: float | None) -> Fresh:
    """The columns with prices times ``scale``; without prices where that is None."""
    if scale == 1.0:
        return cells
    return Fresh(cells.strikes, _side(cells.calls, scale), _side(cells.puts, scale), cells.ages)


def _mids(chosen: Chosen) -> Prices:
    values, sources, _ = chosen
    return [value if source == "mid" else None for value, source in zip(values, sources, strict=True)]


def _far(price: float, strikes: Sequence[Number]) -> tuple[Number, Number] | None:
    """The lowest and the highest strike if a price of the underlying is far from them all."""
    low, high = strikes[0], strikes[-1]
    return (low, high) if price > _FAR * high or price * _FAR < low else None


def _counts(
    future: float, strikes: Sequence[Number], against: Forward | None, apart: float, flags: dict[str, str]
) -> bool:
    """Whether a future's price is the forward; else ``flags`` say why not."""
    if (ends := _far(future, strikes)) is not None:
        doubts.FUTURE_OUTSIDE.put(flags, low=ends[0], high=ends[1])
        return False
    if against is not None and against.value and abs(log(future / against.value)) > apart:
        percent = round(100 * (future / against.value - 1.0), 1)
        doubts.FUTURE_APART.put(flags, percent=percent, forward=against.value)
        return False
    return True


def _choose(side: Side, tick: float) -> Chosen:
    stale = side.stale_quotes | side.stale_trades
    chosen = prices.choose(side.bid, side.ask, side.last, tick, stale)
    for at, (bid, ask) in enumerate(zip(side.bid, side.ask, strict=True)):
        if bid is not None and bid == ask and bid > 0:
            # Nothing is wrong with such a price, but a book where bid meets ask is worth knowing of.
            chosen[2].setdefault(at, "locked")
    return chosen


def _narrow(
    mids: tuple[Prices, Prices], call_flags: dict[int, str], put_flags: dict[int, str]
) -> tuple[tuple[Prices, Prices], bool]:
    """The mids that speak of the forward, and whether those of wide quotes were left out.

    They are not unless a pair is left. The mids of two stub quotes differ by nothing, so parity would take
    their strike for the forward.
    """
    wide = {at for flags in (call_flags, put_flags) for at, reason in flags.items() if reason == "wide"}
    if wide:
        few_calls = [None if at in wide else mid for at, mid in enumerate(mids[0])]
        few_puts = [None if at in wide else mid for at, mid in enumerate(mids[1])]
        for call, put in zip(few_calls, few_puts, strict=True):
            if call is not None and put is not None:
                return (few_calls, few_puts), True
    return mids, False


def _scaled(values: Sequence[Number | None], scale: float | None) -> list[float | None]:
    return [None if value is None or scale is None else value * scale for value in values]


def _times(chosen: Chosen, scale: float | None) -> Chosen:
    values, sources, flags = chosen
    if scale is None:
        return [None] * len(values), [None] * len(values), flags
    return _scaled(values, scale), sources, flags


def _side(side: Side, scale: float | None) -> Side:
    return msgspec.structs.replace(
        side, bid=_scaled(side.bid, scale), ask=_scaled(side.ask, scale), last=_scaled(side.last, scale)
    )
