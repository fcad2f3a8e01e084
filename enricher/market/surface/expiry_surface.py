"""The newest volatilities of one expiry as vendors quote them, and the row of the surface drawn of them.

A row is kept as it was drawn; only strikes at which something has changed are looked at again: a new quote or
chain, a quote that has grown too old, spot gone past.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from heapq import heappop, heappush
from math import fsum
from typing import Any

import msgspec

from enricher.messages.models import Number, OptionType


class Latest(msgspec.Struct, frozen=True, gc=False):
    """The newest quote of an option: ``iv`` is None unless usable, ``member`` its text in the sorted set
    ``iv_surface:{product}``, "" for none."""

    event_us: int
    digest: str
    iv: Number | None
    member: str


class LatestChain(msgspec.Struct, frozen=True):
    """The volatilities of the newest chain, by option type and strike; only those above 0."""

    event_us: int
    digest: str
    ivs: dict[OptionType, dict[Number, Number]]


class ExpirySurface:
    """The quotes and the chain of one expiry."""

    __slots__ = ("_aging", "_before", "_changed", "_chosen", "_counts", "_row", "_spot", "_strikes",
                 "_watched", "chain", "quotes")  # fmt: skip

    def __init__(self) -> None:
        self.quotes: dict[tuple[Number, OptionType], Latest] = {}
        # The quotes before those, for a surface of a moment that lies between the two.
        self._before: dict[tuple[Number, OptionType], Latest] = {}
        self.chain: LatestChain | None = None
        self._chosen: dict[Number, Number] = {}
        self._strikes: list[Number] = []
        self._changed: dict[Number, None] = {}  # a set that is empty takes three times the memory
        # One alarm a strike: when the oldest of its quotes that count grows too old.
        self._aging: list[tuple[int, Number]] = []
        self._watched: dict[Number, int] = {}
        self._counts = False  # whether the chain did when the row was drawn
        self._spot: Number | None = None
        self._row: dict[str, Any] | None = None

    def take_quote(self, strike: Number, option_type: OptionType, latest: Latest) -> None:
        """Put the newer quote of an option in the place of its last one."""
        key = strike, option_type
        if self.chain is not None and key in self.quotes:
            self._before[key] = self.quotes[key]
        self.quotes[key] = latest
        self._changed[strike] = None
        if latest.iv is not None:
            held = self._watched.get(strike)
            if held is None or latest.event_us < held:
                self._watch(strike, latest.event_us)

    def take_earlier(self, strike: Number, option_type: OptionType, late: Latest) -> None:
        """Take in a quote that is older than the last one of its option."""
        before = self._before.get((strike, option_type))
        if before is None or (before.event_us, before.digest) < (late.event_us, late.digest):
            self._before[strike, option_type] = late
            self._changed[strike] = None

    def take_chain(self, chain: LatestChain) -> None:
        """Put a newer chain in the place of the last one."""
        before, self.chain = self.chain, chain
        for newest in (before, chain):
            if newest is not None:
                self._touch(newest)

    def row(
        self, since_us: int, until_us: int, counts: bool, spot: Number | None, later: bool = False
    ) -> dict[str, Any] | None:
        """Strikes ascending, volatilities and their mean; None without any.

        Quotes count that are newer than ``since_us`` and no newer than ``until_us``, and the chain if it
        ``counts``. ``later`` says that some quotes may be newer than that.
        """
        if counts != self._counts:
            self._counts = counts
            if self.chain is not None:
                self._touch(self.chain)
        self._age(since_us)
        if spot != self._spot:
            self._changed |= dict.fromkeys(self._passed(spot))
            self._spot = spot
        if self._changed:
            for strike in self._changed:
                self._choose(strike, since_us, until_us)
            if not later:  # else it is looked at again: something may have been too new
                self._changed.clear()
                self._before.clear()
            self._row = self._drawn()
        return self._row

    def _touch(self, chain: LatestChain) -> None:
        for ivs in chain.ivs.values():
            self._changed |= dict.fromkeys(ivs)

    def _watch(self, strike: Number, event_us: int) -> None:
        self._watched[strike] = event_us
        heappush(self._aging, (event_us, strike))

    def _age(self, since_us: int) -> None:
        aging = self._aging
        while aging and aging[0][0] <= since_us:
            event_us, strike = heappop(aging)
            if self._watched.get(strike) != event_us:
                continue
            del self._watched[strike]
            self._changed[strike] = None
            young = [
                quote.event_us
                for quote in self._quotes_at(strike)
                if quote.iv is not None and quote.event_us > since_us
            ]
            if young:
                self._watch(strike, min(young))

    def _quotes_at(self, strike: Number) -> Iterator[Latest]:
        for option_type in ("CALL", "PUT"):
            quote = self.quotes.get((strike, option_type))
            if quote is not None:
                yield quote

    def _passed(self, spot: Number | None) -> Iterable[Number]:
        """The strikes that lie on another side of spot than before."""
        before = self._spot
        if before is None or spot is None:
            return list(self._strikes)
        low, high = (before, spot) if before < spot else (spot, before)
        return self._strikes[bisect_left(self._strikes, low) : bisect_right(self._strikes, high)]

    def _choose(self, strike: Number, since_us: int, until_us: int) -> None:
        call = self._of(strike, "CALL", since_us, until_us)
        put = self._of(strike, "PUT", since_us, until_us)
        spot = self._spot
        if call is None or put is None:
            iv = put if call is None else call
        elif spot is None or strike == spot:
            iv = call / 2 + put / 2
        else:
            iv = call if strike > spot else put
        known = strike in self._chosen
        if iv is not None:
            self._chosen[strike] = iv
            if not known:
                insort(self._strikes, strike)
        elif known:
            del self._chosen[strike]
            del self._strikes[bisect_left(self._strikes, strike)]

    def _of(self, strike: Number, option_type: OptionType, since_us: int, until_us: int) -> Number | None:
        """Of quote and leg the later counts, at equal times the leg."""
        leg, chain = None, self.chain
        if chain is not None and self._counts:
            leg = chain.ivs[option_type].get(strike)
        quote = self.quotes.get((strike, option_type))
        if quote is not None and quote.event_us > until_us:
            quote = self._before.get((strike, option_type))
            if quote is not None and quote.event_us > until_us:
                quote = None
        if quote is None or quote.iv is None or quote.event_us <= since_us:
            return leg
        if leg is None or chain is None or quote.event_us > chain.event_us:
            return quote.iv
        return leg

    def _drawn(self) -> dict[str, Any] | None:
        strikes = self._strikes
        if not strikes:
            return None
        ivs = [self._chosen[strike] for strike in strikes]
        count = len(ivs)
        return {"strikes": strikes[:], "ivs": ivs, "avg_iv": round(fsum([iv / count for iv in ivs]), 6)}
