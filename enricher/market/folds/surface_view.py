"""The volatility surface of a product as it is shown and stored, with the SVI curves fitted to its smiles.

It is as of the last chain: what vendors quote is drawn before anything later moves it, what is computed from
chains when it is shown. That is at once, unless it was shown a moment ago: chains of many expiries come
together. Curves are fitted by the clock, a little at a time; the surface is shown again when one is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, Final

from enricher.clock import SECOND, render, span_us, to_date, to_millis
from enricher.engine.effects import Effect, Insert, SetKey
from enricher.market.documents import SURFACES, encode_large
from enricher.market.folds.fold import ChainChange, Fold, Product
from enricher.market.surface.cross_expiry import CrossExpiry
from enricher.market.surface.expiry_snapshot import ExpirySnapshot
from enricher.market.surface.surface import volatility_surface
from enricher.market.surface.svi_scheduler import SviScheduler

SHOW_EVERY_US: Final = SECOND // 10
"""By the clock, of one product."""


class SurfaceView(Fold):
    """``wanted`` says that it is to be drawn: its time as text (empty where it was read back), in which style
    that is written, and its time. ``svi`` fits the curves, ``cross_expiry`` compares expiries."""

    __slots__ = ("_displayed", "_interval_us", "_shown_us", "_stored", "_undisplayed", "cross_expiry", "svi",
                 "wanted")  # fmt: skip

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        settings = product.settings
        self.wanted: tuple[str, bool, int] | None = None
        self.cross_expiry = CrossExpiry()
        self.svi = SviScheduler(span_us(settings.svi_interval) if settings.analytics else 0)
        self._interval_us = span_us(settings.surface_interval)
        # What vendors quote, and as of when: what is to be shown; what was, for a curve that is done later.
        self._undisplayed: tuple[int, dict[str, Any]] | None = None
        self._displayed: tuple[int, dict[str, Any]] | None = None
        self._shown_us = -SHOW_EVERY_US  # when it was, by the clock
        self._stored = -1  # the last interval of which a surface was stored

    def fold_chain(self, change: ChainChange) -> None:
        """An older chain of another expiry belongs to the surface too, which is as of the newest still."""
        if change.known is not None:
            self.svi.want(change.chain.expiry, change.known.event_us, change.known.smile)
            self.due_us = self.svi.due()
        chains = self.product.chains
        self.wanted = (chains.newest_text, change.chain.naive, chains.newest_us)

    def want(self, naive: bool) -> None:
        """Have the surface drawn, as of the newest chain, and shown at once."""
        chains, self._shown_us = self.product.chains, -SHOW_EVERY_US
        self.wanted = (chains.newest_text, naive, chains.newest_us)

    def draw(self) -> None:
        """Draw what vendors quote of the surface that is wanted, before anything else moves it."""
        if self.wanted is None:
            return
        text, naive, event_us = self.wanted
        self.wanted, product = None, self.product
        text = text or render(event_us, naive, product.zone)
        payload = volatility_surface(
            product.quotes.surface, product.product, text, product.chains.spot,
            product.expiries.cutoff.expired, event_us, self._typical,
        )  # fmt: skip
        self._undisplayed = (event_us, payload)

    def _typical(self, expiry: str) -> float | None:
        known = self.product.chains.known.get(expiry)
        return median(known.smile.iv) if known is not None and known.smile.iv else None

    def _shown_chains(self) -> list[ExpirySnapshot]:
        """The last chains that the surface shows the smiles of, by expiry."""
        chains, counts = self.product.chains, self.product.quotes.surface.counts
        expired = self.product.expiries.cutoff.expired
        return [
            known
            for expiry, known in sorted(chains.known.items())
            if counts(known.event_us, chains.newest_us) and not expired(expiry)
        ]

    def show(self, now_us: int) -> Sequence[Effect]:
        """At once if none was lately, or if it is the first of an interval that is stored; else when due."""
        if self.wanted is None and self._undisplayed is None:
            return ()
        event_us = self.product.chains.newest_us
        self.due_us = due_us = self.svi.due()
        if not 0 <= now_us - self._shown_us < SHOW_EVERY_US or self._to_store(event_us):
            return self.show_now(now_us)
        shown_us = self._shown_us + SHOW_EVERY_US
        self.due_us = shown_us if due_us is None else min(due_us, shown_us)
        return ()

    def show_now(self, now_us: int) -> Sequence[Effect]:
        """The surface that is to be shown, if there is one, however soon after the last."""
        if self.wanted is not None:
            self.draw()
        if self._undisplayed is None:
            return ()
        event_us, payload = self._displayed = self._undisplayed
        self._undisplayed, self._shown_us = None, now_us
        if self.product.settings.analytics:
            payload = payload | self.cross_expiry.fields(self._shown_chains(), self.svi.done, event_us)
        key = f"volatility_surface:{self.product.product}"
        shown = SetKey(key, encode_large(payload), self.product.cache_ms, event_us)
        return [shown, *self._document(payload, event_us, now_us)]

    def _to_store(self, event_us: int) -> bool:
        """Whether a surface of this time is the first of its interval of event time."""
        stored = self._interval_us and self.product.settings.analytics
        return bool(stored) and event_us // self._interval_us > self._stored

    def _document(self, payload: dict[str, Any], event_us: int, now_us: int) -> list[Insert]:
        """The first surface of every interval of event time is stored; doing it twice is harmless."""
        if not self._to_store(event_us):
            return []
        self._stored = interval = event_us // self._interval_us
        document = {
            **payload,
            "_id": f"{interval * self._interval_us}:{self.product.product}",
            "timestamp": to_date(event_us),
            "event_us": event_us,
            "processed_at": to_date(to_millis(now_us)),
        }
        return [Insert(SURFACES, document)]

    def on_time(self, now_us: int) -> Sequence[Effect]:
        """Fit a little further; a surface whose curves alone are new is as of the last chain still."""
        if self.svi.work(now_us):
            self._undisplayed, self._shown_us = self._undisplayed or self._displayed, -SHOW_EVERY_US
        self.due_us = self.svi.due()
        return self.show(now_us)

    def clock_set(self, step_us: int) -> None:
        super().clock_set(step_us)
        self._shown_us += step_us
        self.svi.clock_set(step_us)

    def restored(self, received_us: int) -> None:
        self.wanted = None

    def show_again(self) -> None:
        if self.product.chains.newest_us:
            self.want(self.product.quotes.naive)
