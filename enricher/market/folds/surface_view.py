"""The volatility surface of a product as it is shown and stored, with the SVI curves fitted to its smiles.

It is as of the last chain: what vendors quote is drawn before anything later moves it, what is computed from
chains when it is shown. Curves are fitted by the clock, a little at a time; the surface is shown again when
one is done.
"""

from __future__ import annotations

from statistics import median
from typing import Any

from enricher.clock import SECOND, render, to_date, to_millis
from enricher.engine.effects import Effect, Insert, SetKey
from enricher.market.documents import SURFACES, encode_large
from enricher.market.folds.fold import ChainChange, Fold, Product
from enricher.market.surface.cross_expiry import CrossExpiry
from enricher.market.surface.expiry_snapshot import ExpirySnapshot
from enricher.market.surface.surface import volatility_surface
from enricher.market.surface.svi_scheduler import SviScheduler, curve


class SurfaceView(Fold):
    """``wanted`` says that it is to be drawn: its time as text (empty where it was read back), in which style
    that is written, and its time. ``svi`` fits the curves, ``cross_expiry`` compares expiries."""

    __slots__ = ("_drawn", "_interval_us", "_stored", "_undisplayed", "cross_expiry", "svi", "wanted")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        settings = product.settings
        self.wanted: tuple[str, bool, int] | None = None
        self.cross_expiry = CrossExpiry()
        self.svi = SviScheduler(int(settings.svi_interval * SECOND) if settings.analytics else 0)
        self._interval_us = int(settings.surface_interval * SECOND)
        # The surface as it was shown last, for a curve that is done later; what is drawn of the next one.
        self._drawn: dict[str, Any] | None = None
        self._undisplayed: tuple[int, dict[str, Any]] | None = None
        self._stored = -1  # the last interval of which a surface was stored

    def fold_chain(self, change: ChainChange) -> None:
        """An older chain of another expiry belongs to the surface too, which is as of the newest still."""
        if change.known is not None:
            self.svi.want(change.chain.expiry, change.known.event_us, change.known.smile)
            self.due_us = self.svi.due()
        chains = self.product.chains
        self.wanted = (chains.newest_text, change.chain.naive, chains.newest_us)

    def want(self, naive: bool) -> None:
        """Have the surface drawn, as of the newest chain."""
        chains = self.product.chains
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

    def show(self, now_us: int) -> list[Effect]:
        if self.wanted is not None:
            self.draw()
        if self._undisplayed is None:
            return []
        event_us, payload = self._undisplayed
        self._undisplayed = None
        if self.product.settings.analytics:
            payload |= self.cross_expiry.fields(self._shown_chains(), self.svi.done, event_us)
            self._drawn = payload
        return [self._key(encode_large(payload), event_us), *self._document(event_us, now_us)]

    def _document(self, event_us: int, now_us: int) -> list[Insert]:
        """The first surface of every interval of event time is stored; doing it twice is harmless."""
        if not self._interval_us or self._drawn is None:
            return []
        interval = event_us // self._interval_us
        if interval <= self._stored:
            return []
        self._stored = interval
        document = {
            **self._drawn,
            "_id": f"{interval * self._interval_us}:{self.product.product}",
            "timestamp": to_date(event_us),
            "event_us": event_us,
            "processed_at": to_date(to_millis(now_us)),
        }
        return [Insert(SURFACES, document)]

    def on_time(self, now_us: int) -> list[Effect]:
        """Fit a little further; the surface is as of the last chain, only its curves are new."""
        completed = self.svi.work(now_us)
        self.due_us = self.svi.due()
        if not completed or self._drawn is None:
            return []
        bare = [
            {name: row[name] for name in row if not name.startswith("svi")} for row in self._drawn["smiles"]
        ]
        smiles = [{**row, **curve(self.svi.done, row["expiry"])} for row in bare]
        self._drawn = {**self._drawn, "smiles": smiles}
        return [self._key(encode_large(self._drawn), self.product.chains.newest_us)]

    def _key(self, payload: bytes, event_us: int) -> SetKey:
        key = f"volatility_surface:{self.product.product}"
        return SetKey(key, payload, self.product.cache_ms, event_us)

    def clock_set(self, step_us: int) -> None:
        """Curves mind a clock that was set themselves."""

    def restored(self, received_us: int) -> None:
        self.wanted = None

    def show_again(self) -> None:
        if self.product.chains.newest_us:
            self.want(self.product.quotes.naive)
