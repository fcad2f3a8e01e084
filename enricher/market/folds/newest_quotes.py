"""The newest volatilities of a product, and the sorted set of them: ``iv_surface:{product}``.

What a vendor says of its options by quotes and by the legs of chains is one surface, whichever came later;
so both are folded here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from enricher.clock import span_us
from enricher.engine.effects import DropMembers, Effect, SetMember
from enricher.market.folds.fold import ChainChange, Fold, Product, QuoteChange
from enricher.market.surface.expiry_surface import Latest
from enricher.market.surface.surface import OptionKey, QuoteSurface
from enricher.messages.models import Number

_NOTHING: tuple[Effect, ...] = ()


class NewestQuotes(Fold):
    """``naive`` says whether quotes and chains write their times without an offset, as ticks need not."""

    __slots__ = ("_dropped_before", "_moved", "naive", "surface")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self.surface = QuoteSurface(span_us(product.settings.quote_window))
        self.naive = False
        self._moved: dict[OptionKey, Latest] = {}
        self._dropped_before = ""  # the date up to which the sorted set was told what has expired

    def fold_quote(self, change: QuoteChange) -> None:
        quote, product, surface = change.quote, self.product, self.surface
        if not change.restored:
            self.naive = quote.naive
            if product.surface.wanted is not None:
                # The surface is as of the last chain: what comes after it in the same turn is not in it.
                product.surface.draw()
        latest, moved = surface.fold_quote(quote, change.identity)
        if moved:
            self._moved[quote.expiry, quote.strike, quote.option_type] = latest
        if not change.restored:
            product.identities.recent_quotes[quote.symbol] = latest
        newest = surface.newest_us
        if newest is not None and newest >= product.expiries.cutoff.until_us and not change.restored:
            product.expiries.pass_by_quote(quote.naive)

    def fold_chain(self, change: ChainChange) -> str | None:
        """`late` when its expiry has a newer one: then the folds after this one do not get it."""
        newer = self.surface.fold_chain(change.chain, change.identity)
        if not change.restored:
            self.naive = change.chain.naive
            if not newer:  # the folds that come after this one do not get it
                self.product.expiries.pass_time()
        return None if newer else "late"

    def show(self, now_us: int) -> Sequence[Effect]:
        newest, expiries = self.surface.newest_us, self.product.expiries
        if newest is None:
            return _NOTHING
        if newest >= expiries.cutoff.until_us:
            expiries.pass_time()  # nothing may have come since the state was restored
        if newest != expiries.newest_us:
            expiries.hear(newest, now_us)
        before = expiries.cutoff.before
        if before == self._dropped_before and not self._moved:
            return _NOTHING
        key, effects = f"iv_surface:{self.product.product}", list[Effect]()
        if before != self._dropped_before:
            # Whether or not a member moves: the sorted set may hold what an earlier process put there.
            self._dropped_before = before
            effects.append(DropMembers(key, before))
        for (expiry, strike, option_type), quote in self._moved.items():
            if expiries.cutoff.expired(expiry):
                continue
            where = f"{expiry}|{strike_text(strike)}"
            field, twin = f"{where}|CALL", f"{where}|PUT"
            if option_type == "PUT":
                field, twin = twin, field
            effects.append(SetMember(key, field, twin, quote.member(expiry), float(strike), quote.event_us))
        self._moved.clear()
        return effects

    def restored(self, received_us: int) -> None:
        # Documents of quotes and chains do not say how their times were written.
        self.naive = self.naive or self.product.windows.naive
        # Some of these may never have reached the sorted set, and would not as long as they do not move.
        self._moved.update(self.surface.standing())


@lru_cache(maxsize=1024)
def strike_text(strike: Number) -> str:
    """One text for one strike: 21000 for 21000 and 21000.0, else the shortest that reads back."""
    return repr(float(strike) + 0.0).removesuffix(".0")
