"""The volatility surface as vendors quote it: newest implied volatilities by expiry and strike.

Volatilities are as sent, and not computed here; only those of one expiry that come in two units are shown in
one. Of two messages about one option the later event time counts, at equal times the larger digest, so the
order of arrival never shows. What is 5 to 60 s ahead of the clock is not for folding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, KeysView
from datetime import date, timedelta
from math import fsum
from typing import Any, Final

import msgspec

from enricher.analytics.contracts import Contract
from enricher.clock import MINUTE
from enricher.market.surface.expiry_surface import ExpirySurface, Latest, LatestChain
from enricher.messages.doubts import SURFACE_UNITS
from enricher.messages.leg_checks import few
from enricher.messages.models import Chain, Number, OptionType, Quote
from enricher.messages.schema import MOST_IV

FRESH_US: Final = 5 * MINUTE
_LAPSES_WITHIN_US: Final = 60 * MINUTE  # no state is kept for longer, and the next message will say it

_APART: Final = 30.0  # times the typical one, no decimal is; a percentage is a hundred times

OptionKey = tuple[str, Number, OptionType]  # (expiry, strike, option type)
Expired = Callable[[str], bool]
Typical = Callable[[str], float | None]


def unknown(expiry: str) -> None:
    """No volatility of our own is known of any expiry."""


class Cutoff(msgspec.Struct, frozen=True, gc=False):
    """Which expiry dates (YYYY-MM-DD) have expired, which are of the past, and until when that holds.

    Those before ``before`` have expired; those before ``today``, the day at the exchange, are of the past.
    Dates are compared as text, so that of a date no moment is asked that a clock cannot show (9999-12-31).
    """

    before: str = ""
    today: str = ""
    until_us: int = -(2**63)

    def expired(self, expiry: str) -> bool:
        """Whether this expiry's instant has come."""
        return expiry < self.before

    def past(self, expiry: str) -> bool:
        """Whether the day of this expiry is over."""
        return expiry < self.today

    @property
    def near_us(self) -> int:
        """From when on it is waited for by the clock, should no message say that it has come."""
        return self.until_us - _LAPSES_WITHIN_US


def cutoff(contract: Contract, moment_us: int) -> Cutoff:
    """The cutoff at a moment: an option has expired from its contract's expiry instant on."""
    session = contract.session(moment_us)
    today = first = date.fromordinal(session.day)
    while (instant := contract.expiry_us(first.isoformat())) <= moment_us:
        first += timedelta(days=1)
    return Cutoff(first.isoformat(), today.isoformat(), min(instant, session.end_us))


class QuoteSurface:
    """The newest quote of every option and the newest chain of every expiry, of one product.

    It is ``partial`` where older quotes were stored than were read back.
    """

    __slots__ = ("_expiries", "_fresh_us", "newest_chain_us", "newest_us", "partial")

    def __init__(self, fresh_us: int = FRESH_US) -> None:
        self._fresh_us = fresh_us
        self.partial = False
        self.newest_us: int | None = None
        self.newest_chain_us: int | None = None
        self._expiries: dict[str, ExpirySurface] = {}

    def __len__(self) -> int:
        return sum(len(expiry.calls) + len(expiry.puts) for expiry in self._expiries.values())

    def fold_quote(self, quote: Quote, digest: str) -> tuple[Latest, bool]:
        """Takes a quote in; True beside it where its option has another member in the sorted set from now on.

        That is not so for a quote that is not newer, or that says the same.
        """
        expiry, option_type = self._expiries.get(quote.expiry) or self._new(quote.expiry), quote.option_type
        strike, iv, event_us = quote.strike, quote.iv, quote.event_us
        quotes = expiry.calls if option_type == "CALL" else expiry.puts
        before = quotes.get(strike)
        if iv is not None and not 0 < iv <= MOST_IV:
            iv = None
        if before is not None and type(before.strike) is type(strike):
            strike = before.strike  # one number is enough for all quotes of an option
        latest = Latest(event_us, digest, iv, strike)
        if before is not None and (event_us, digest) <= (before.event_us, before.digest):
            if digest != before.digest:
                expiry.take_earlier(option_type, latest)
            return latest, False
        expiry.take_quote(option_type, latest, before)
        if self.newest_us is None or event_us > self.newest_us:
            self.newest_us = event_us
        if before is None:
            # Of one that has none, and had none that is known, nothing is said unless it may have had one.
            return latest, iv is not None or self.partial
        return latest, not latest.says_as(before)

    def fold_chain(self, chain: Chain, digest: str) -> bool:
        """Takes the volatilities of a chain's legs in; False for a chain that is not newer."""
        expiry = self._expiries.get(chain.expiry) or self._new(chain.expiry)
        before = expiry.chain
        if before and (chain.event_us, digest) <= (before.event_us, before.digest):
            return False
        ivs: dict[OptionType, dict[Number, Number]] = {
            "CALL": {strike: leg.iv for strike, leg in chain.call_at.items() if leg.iv and leg.iv <= MOST_IV},
            "PUT": {strike: leg.iv for strike, leg in chain.put_at.items() if leg.iv and leg.iv <= MOST_IV},
        }
        expiry.take_chain(LatestChain(chain.event_us, digest, ivs))
        if self.newest_chain_us is None or chain.event_us > self.newest_chain_us:
            self.newest_chain_us = chain.event_us
        if self.newest_us is None or chain.event_us > self.newest_us:
            self.newest_us = chain.event_us
        return True

    @property
    def expiries(self) -> KeysView[str]:
        """The expiries that anything is known of."""
        return self._expiries.keys()

    def drop_expired(self, expired: Expired) -> None:
        for expiry in [name for name in self._expiries if expired(name)]:
            del self._expiries[expiry]

    def standing(self) -> Iterator[tuple[OptionKey, Latest]]:
        """The newest quote of every option."""
        for name, expiry in self._expiries.items():
            for strike, quote in expiry.calls.items():
                yield (name, strike, "CALL"), quote
            for strike, quote in expiry.puts.items():
                yield (name, strike, "PUT"), quote

    def rows(
        self, spot: Number | None, expired: Expired, moment_us: int | None = None
    ) -> list[dict[str, Any]]:
        """A row per expiry that has usable volatilities: expiry, strikes ascending, ivs, avg_iv.

        Quotes count for ``fresh_us`` (5 minutes) of event time before ``moment_us`` (default: that of the
        product's newest message) and none that is later; so do the chains of other expiries, while the newest
        chain counts whatever its age. Of quote and leg the later counts, at equal times the leg.
        """
        if self.newest_us is None:
            return []
        until = self.newest_us if moment_us is None else moment_us
        since, by_expiry = until - self._fresh_us, []
        for name in sorted(self._expiries):
            if expired(name):
                continue
            expiry = self._expiries[name]
            counts = self.counts(expiry.chain.event_us if expiry.chain else None, until)
            row = expiry.row(since, until, counts, spot, self.newest_us > until)
            if row is not None:
                by_expiry.append({"expiry": name, **row})
        return by_expiry

    def counts(self, chain_us: int | None, until_us: int) -> bool:
        """Whether a chain of this moment counts in a surface of that one."""
        if chain_us is None:
            return False
        return until_us - self._fresh_us < chain_us <= until_us or chain_us == self.newest_chain_us

    def _new(self, expiry: str) -> ExpirySurface:
        surface = self._expiries[expiry] = ExpirySurface()
        return surface


def volatility_surface(
    surface: QuoteSurface,
    product: str,
    timestamp: str,
    spot: Number | None,
    expired: Expired,
    moment_us: int | None = None,
    typical: Typical = unknown,
) -> dict[str, Any]:
    """The payload of ``volatility_surface:{product}``: expiries and their strikes ascending.

    One volatility a strike: of call and put the one out of the money (the call above ``spot``,
    the put below), for it is the one people trade; their mean on the spot itself or when spot is
    unknown; the only one when there is one. ``avg_iv`` is the plain mean over the strikes to 6
    decimals, not the volatility at the money. ``typical`` gives a volatility computed here, a decimal, of an
    expiry: it tells percent from decimals where that has both.
    """
    rows = surface.rows(spot, expired, moment_us)
    expiries = [in_one_unit(row, typical) for row in rows]
    return {"product": product, "timestamp": timestamp, "expiries": expiries}


def in_one_unit(row: dict[str, Any], typical: Typical) -> dict[str, Any]:
    """The row of an expiry with the few volatilities in the unit of the many, which ``flags`` say."""
    ivs: list[Number] = row["ivs"]
    usual = typical(row["expiry"]) if max(ivs) >= _APART * min(ivs) else None
    if not usual:
        return row
    percent = [iv > _APART * usual for iv in ivs]
    most = 2 * sum(percent) > len(ivs)
    odd = [strike for strike, each in zip(row["strikes"], percent, strict=True) if each != most]
    if not odd:
        return row
    times = 100.0 if most else 0.01
    even = [iv if each == most else round(iv * times, 8) for iv, each in zip(ivs, percent, strict=True)]
    flags: dict[str, str] = {}
    SURFACE_UNITS.put(flags, unit="percent" if most else "decimals", strikes=few(odd))
    return {**row, "ivs": even, "avg_iv": round(fsum(even) / len(even), 6), "flags": flags}
