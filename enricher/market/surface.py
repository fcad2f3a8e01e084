"""The volatility surface as vendors quote it: newest implied volatilities by expiry and strike.

Volatilities are as sent, neither converted between percent and decimals nor computed here. Of two
messages about one option the later event time counts, at equal times the larger digest, so the
order of arrival never shows. What is 5 to 60 s ahead of the clock is not for folding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, tzinfo
from math import fsum
from typing import Any, Final

import msgspec

from enricher.market.clock import MINUTE, to_date
from enricher.market.models import Chain, Number, OptionType, Quote
from enricher.market.wire import LARGEST

FRESH_US: Final = 5 * MINUTE

OptionKey = tuple[str, Number, OptionType]  # (expiry, strike, option type)
Expired = Callable[[str], bool]


class Member(msgspec.Struct, frozen=True, gc=False):
    """One member of the sorted set ``iv_surface:{product}``: its JSON text, scored by strike."""

    text: str
    score: Number


class MemberChange(msgspec.Struct, frozen=True):
    """What to do to the sorted set: these texts out first, then this member in."""

    remove: tuple[str, ...] = ()
    add: Member | None = None


class _Latest(msgspec.Struct, frozen=True, gc=False):
    event_us: int
    digest: str
    iv: Number | None
    member: Member | None


class _LatestChain(msgspec.Struct, frozen=True):
    event_us: int
    digest: str
    ivs: dict[tuple[Number, OptionType], Number]


class QuoteSurface:
    """The newest quote of every option and the newest chain of every expiry, of one product."""

    __slots__ = ("_chains", "_fresh_us", "_newest_chain_us", "_quotes", "newest_us")

    def __init__(self, fresh_us: int = FRESH_US) -> None:
        self._fresh_us = fresh_us
        self.newest_us: int | None = None
        self._newest_chain_us: int | None = None
        self._quotes: dict[OptionKey, _Latest] = {}
        self._chains: dict[str, _LatestChain] = {}

    def __len__(self) -> int:
        return len(self._quotes)

    def fold_quote(self, quote: Quote, digest: str) -> MemberChange:
        """Takes a quote in and says what that changes in the sorted set.

        Nothing for a quote that is not newer. One without a usable volatility takes its option's
        member out. A text that the other option type of the strike still stands for stays.
        """
        key: OptionKey = (quote.expiry, quote.strike, quote.option_type)
        before = self._quotes.get(key)
        if before and (quote.event_us, digest) <= (before.event_us, before.digest):
            return MemberChange()
        iv = quote.iv if _usable(quote.iv) else None
        member = None if iv is None else _member(quote.strike, iv, quote.expiry)
        self._quotes[key] = _Latest(quote.event_us, digest, iv, member)
        self._seen(quote.event_us)
        old = before.member if before else None
        if old == member:
            return MemberChange()
        gone = (old.text,) if old and not self._stands(old.text, key) else ()
        return MemberChange(gone, member)

    def fold_chain(self, chain: Chain, digest: str) -> bool:
        """Takes the volatilities of a chain's legs in; False for a chain that is not newer."""
        before = self._chains.get(chain.expiry)
        if before and (chain.event_us, digest) <= (before.event_us, before.digest):
            return False
        ivs: dict[tuple[Number, OptionType], Number] = {}
        for strike, leg in chain.call_at.items():
            if leg.iv is not None and _usable(leg.iv):
                ivs[strike, "CALL"] = leg.iv
        for strike, leg in chain.put_at.items():
            if leg.iv is not None and _usable(leg.iv):
                ivs[strike, "PUT"] = leg.iv
        self._chains[chain.expiry] = _LatestChain(chain.event_us, digest, ivs)
        if self._newest_chain_us is None or chain.event_us > self._newest_chain_us:
            self._newest_chain_us = chain.event_us
        self._seen(chain.event_us)
        return True

    def drop_expired(self, expired: Expired) -> MemberChange:
        """Forgets what has expired and says which members that takes out of the sorted set."""
        over = {expiry for expiry in self._expiries() if expired(expiry)}
        if not over:
            return MemberChange()
        gone: dict[str, None] = {}
        for key in [key for key in self._quotes if key[0] in over]:
            if member := self._quotes.pop(key).member:
                gone[member.text] = None
        for expiry in over:
            self._chains.pop(expiry, None)
        return MemberChange(tuple(gone))

    def members(self) -> dict[str, Number]:
        """The whole sorted set as {text: score}, for writing it anew after a restart."""
        latest = self._quotes.values()
        return {quote.member.text: quote.member.score for quote in latest if quote.member}

    def standing(self) -> Iterator[tuple[OptionKey, str, int]]:
        """Of every option its member's text (empty without a usable volatility) and event time."""
        for key, quote in self._quotes.items():
            yield key, quote.member.text if quote.member else "", quote.event_us

    def volatilities(self, expired: Expired) -> dict[str, dict[Number, dict[OptionType, Number]]]:
        """The usable volatilities by expiry, strike and option type.

        Quotes count for ``fresh_us`` (5 minutes) of event time before the product's newest message; so do
        the chains of other expiries, while the newest chain counts whatever its age. Of quote and
        leg the later speaks, at equal times the leg.
        """
        if self.newest_us is None:
            return {}
        found: dict[str, dict[Number, dict[OptionType, Number]]] = {}
        since = self.newest_us - self._fresh_us
        spoke: dict[OptionKey, int] = {}
        for expiry, chain in self._chains.items():
            if expired(expiry) or (chain.event_us <= since and not self._is_newest(chain)):
                continue
            for (strike, option_type), iv in chain.ivs.items():
                found.setdefault(expiry, {}).setdefault(strike, {})[option_type] = iv
                spoke[expiry, strike, option_type] = chain.event_us
        for key, quote in self._quotes.items():
            if quote.iv is None or quote.event_us <= since or expired(key[0]):
                continue
            if quote.event_us > spoke.get(key, since):
                expiry, strike, option_type = key
                found.setdefault(expiry, {}).setdefault(strike, {})[option_type] = quote.iv
        return found

    def _is_newest(self, chain: _LatestChain) -> bool:
        return chain.event_us == self._newest_chain_us

    def _seen(self, event_us: int) -> None:
        if self.newest_us is None or event_us > self.newest_us:
            self.newest_us = event_us

    def _stands(self, text: str, key: OptionKey) -> bool:
        """Whether the option on the other side of this strike has the very same member."""
        other: OptionType = "PUT" if key[2] == "CALL" else "CALL"
        latest = self._quotes.get((key[0], key[1], other))
        return latest is not None and latest.member is not None and latest.member.text == text

    def _expiries(self) -> Iterator[str]:
        yield from {key[0] for key in self._quotes}
        yield from self._chains


def volatility_surface(
    surface: QuoteSurface, product: str, timestamp: str, spot: Number | None, expired: Expired
) -> dict[str, Any]:
    """The payload of ``volatility_surface:{product}``: expiries and their strikes ascending.

    One volatility a strike: of call and put the one out of the money (the call above ``spot``,
    the put below), for it is the one people trade; their mean on the spot itself or when spot is
    unknown; the only one when there is one. ``avg_iv`` is the plain mean over the strikes to 6
    decimals, not the volatility at the money.
    """
    expiries = []
    for expiry, strikes in sorted(surface.volatilities(expired).items()):
        ascending = sorted(strikes)
        ivs = [_one(strike, strikes[strike], spot) for strike in ascending]
        average = round(fsum(iv / len(ivs) for iv in ivs), 6)
        expiries.append({"expiry": expiry, "strikes": ascending, "ivs": ivs, "avg_iv": average})
    return {"product": product, "timestamp": timestamp, "expiries": expiries}


def expired_by(moment_us: int, zone: tzinfo = UTC) -> Expired:
    """Says of an expiry date whether it lies before the local day of a moment."""
    today = to_date(moment_us).astimezone(zone).date().isoformat()
    return lambda expiry: expiry < today


def _usable(iv: Number | None) -> bool:
    return iv is not None and 0 < iv <= LARGEST


def _member(strike: Number, iv: Number, expiry: str) -> Member:
    fields = {"strike": strike, "iv": iv, "expiry": expiry}
    return Member(msgspec.json.encode(fields).decode(), strike)


def _one(strike: Number, sides: dict[OptionType, Number], spot: Number | None) -> Number:
    call, put = sides.get("CALL"), sides.get("PUT")
    if call is None or put is None:
        return next(iter(sides.values()))
    if spot is None or strike == spot:
        return call / 2 + put / 2
    return call if strike > spot else put
