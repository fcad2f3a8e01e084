"""The newest volatilities of one expiry as vendors quote them, and the row of the surface drawn of them.

A row is kept as it was drawn; only strikes at which something has changed are looked at again: a new quote or
chain, a quote that has grown too old, spot gone past.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from math import fsum
from typing import Any, Final

import msgspec

from enricher.messages.models import Number, OptionType

_NEVER: Final = 2**63


class Latest(msgspec.Struct, frozen=True, gc=False):
    """The newest quote of an option: ``strike`` as it was sent, ``iv`` None unless usable."""

    event_us: int
    digest: str
    iv: Number | None
    strike: Number

    def member(self, expiry: str) -> bytes:
        """Its text in the sorted set ``iv_surface:{product}``, empty for none."""
        if self.iv is None:
            return b""
        return msgspec.json.encode({"strike": self.strike, "iv": self.iv, "expiry": expiry})

    def says_as(self, other: Latest) -> bool:
        """Whether its member is that of another quote of its option: of 1 and 1.0 each has its own text."""
        return (
            self.iv == other.iv
            and type(self.iv) is type(other.iv)
            and (self.iv is None or type(self.strike) is type(other.strike))
        )


class LatestChain(msgspec.Struct, frozen=True):
    """The volatilities of the newest chain, by option type and strike; only those above 0."""

    event_us: int
    digest: str
    ivs: dict[OptionType, dict[Number, Number]]


_NO_LEGS: Final = LatestChain(-_NEVER, "", {"CALL": {}, "PUT": {}})


class ExpirySurface:
    """The quotes and the chain of one expiry; ``calls`` and ``puts`` are the newest quotes by strike."""

    __slots__ = ("_before", "_changed", "_counts", "_ivs", "_oldest_us", "_row", "_since_us", "_spot",
                 "_strikes", "calls", "chain", "puts")  # fmt: skip

    def __init__(self) -> None:
        self.calls: dict[Number, Latest] = {}
        self.puts: dict[Number, Latest] = {}
        # The quotes before those, for a surface of a moment that lies between the two.
        self._before: dict[tuple[Number, OptionType], Latest] = {}
        self.chain: LatestChain | None = None
        self._strikes: list[Number] = []
        self._ivs: list[Number] = []
        self._changed: dict[Number, None] = {}  # a set that is empty takes three times the memory
        # No quote that counts is older than the one, and none was when the row was drawn than the other.
        self._oldest_us = _NEVER
        self._since_us = -_NEVER
        self._counts = False  # whether the chain did when the row was drawn
        self._spot: Number | None = None
        self._row: dict[str, Any] | None = None

    def take_quote(self, option_type: OptionType, latest: Latest, before: Latest | None) -> None:
        """Put the newer quote of an option in the place of the one before."""
        strike = latest.strike
        if before is not None and self.chain is not None:
            self._before[strike, option_type] = before
        (self.calls if option_type == "CALL" else self.puts)[strike] = latest
        self._changed[strike] = None
        if latest.event_us < self._oldest_us and latest.iv is not None:
            self._oldest_us = latest.event_us

    def take_earlier(self, option_type: OptionType, late: Latest) -> None:
        """Take in a quote that is older than the last one of its option."""
        key = late.strike, option_type
        before = self._before.get(key)
        if before is None or (before.event_us, before.digest) < (late.event_us, late.digest):
            self._before[key] = late
            self._changed[late.strike] = None

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
        if since_us >= self._oldest_us:
            self._age(since_us)
        self._since_us = since_us
        if spot != self._spot:
            self._changed |= dict.fromkeys(self._passed(spot))
            self._spot = spot
        if self._changed:
            legs = self.chain if self._counts and self.chain is not None else _NO_LEGS
            for strike in self._changed:
                self._choose(strike, legs, since_us, until_us)
            if not later:  # else it is looked at again: something may have been too new
                self._changed.clear()
                self._before.clear()
            self._row = self._drawn()
        return self._row

    def _touch(self, chain: LatestChain) -> None:
        for ivs in chain.ivs.values():
            self._changed |= dict.fromkeys(ivs)

    def _age(self, since_us: int) -> None:
        """Look again at the strikes that have a quote which is too old now and was not."""
        self._oldest_us = _NEVER
        for quotes in (self.calls, self.puts):
            for strike, quote in quotes.items():
                if quote.iv is None:
                    continue
                if quote.event_us > since_us:
                    self._oldest_us = min(self._oldest_us, quote.event_us)
                elif quote.event_us > self._since_us:
                    self._changed[strike] = None

    def _passed(self, spot: Number | None) -> Iterable[Number]:
        """The strikes that lie on another side of spot than before."""
        before = self._spot
        if before is None or spot is None:
            return list(self._strikes)
        low, high = (before, spot) if before < spot else (spot, before)
        return self._strikes[bisect_left(self._strikes, low) : bisect_right(self._strikes, high)]

    def _choose(self, strike: Number, legs: LatestChain, since_us: int, until_us: int) -> None:
        call, put = legs.ivs["CALL"].get(strike), legs.ivs["PUT"].get(strike)
        # Of quote and leg the later counts, at equal times the leg.
        quote = self.calls.get(strike)
        if quote is not None and (call is None or quote.event_us > legs.event_us):
            call = self._quoted(quote, "CALL", call, legs, since_us, until_us)
        quote = self.puts.get(strike)
        if quote is not None and (put is None or quote.event_us > legs.event_us):
            put = self._quoted(quote, "PUT", put, legs, since_us, until_us)
        spot = self._spot
        if call is None or put is None:
            iv = put if call is None else call
        elif spot is None or strike == spot:
            iv = call / 2 + put / 2
        else:
            iv = call if strike > spot else put
        at = bisect_left(self._strikes, strike)
        known = at < len(self._strikes) and self._strikes[at] == strike
        if iv is None:
            if known:
                del self._strikes[at], self._ivs[at]
        elif known:
            self._ivs[at] = iv
        else:
            self._strikes.insert(at, strike)
            self._ivs.insert(at, iv)

    def _quoted(
        self,
        newest: Latest,
        option_type: OptionType,
        leg: Number | None,
        legs: LatestChain,
        since_us: int,
        until_us: int,
    ) -> Number | None:
        """The volatility of an option whose ``newest`` quote is later than its leg, or has none beside it."""
        quote: Latest | None = newest
        if newest.event_us > until_us:
            quote = self._before.get((newest.strike, option_type))
        if quote is None or quote.iv is None or not since_us < quote.event_us <= until_us:
            return leg
        return quote.iv if leg is None or quote.event_us > legs.event_us else leg

    def _drawn(self) -> dict[str, Any] | None:
        if not self._strikes:
            return None
        ivs, count = self._ivs[:], len(self._ivs)
        return {"strikes": self._strikes[:], "ivs": ivs, "avg_iv": round(fsum([iv / count for iv in ivs]), 6)}
