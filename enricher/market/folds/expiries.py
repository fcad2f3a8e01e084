"""Which expiries have expired by the newest quote or chain, or by the clock; then all folds forget them."""

from __future__ import annotations

from collections.abc import Sequence

from enricher.clock import span_us
from enricher.engine.effects import Effect
from enricher.market.folds.fold import ChainChange, Fold, Product
from enricher.market.surface.surface import Cutoff, cutoff


class Expiries(Fold):
    """``due_us`` is when the next expiry has come though no message says so; None while that is far off."""

    __slots__ = ("_heard_us", "_quote_us", "cutoff", "newest_us")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self._quote_us = span_us(product.settings.quote_window)
        self.cutoff = Cutoff()
        # The time of the newest quote or chain, and when it had been received, by the clock.
        self.newest_us = self._heard_us = 0

    def fold_chain(self, change: ChainChange) -> None:
        if change.event_us >= self.cutoff.until_us and not change.restored and self.pass_time():
            self.product.surface.want(change.chain.naive)

    def pass_by_quote(self, naive: bool) -> None:
        """Let expire what has by a quote, which came after the last chain."""
        if self.pass_time() and self.product.chains.newest_us:
            # What was shown as of the last chain holds an expiry that the sorted set is about to lose.
            self.product.surface.want(naive)

    def hear(self, newest_us: int, now_us: int) -> None:
        """The newest quote or chain is of ``newest_us``, and was received by ``now_us``.

        Events are no nearer to one another than their receipts, unless a feed hangs: a replay is faster than
        its market was. So what would come after them has come, on the clock, by then.
        """
        self.newest_us, self._heard_us = newest_us, now_us
        left = self.cutoff.until_us - newest_us
        self.due_us = now_us + left if newest_us >= self.cutoff.near_us else None

    def on_time(self, now_us: int) -> Sequence[Effect]:
        self.due_us, product = None, self.product
        shown = now_us - self._heard_us <= product.cache_ms * 1000
        if self.pass_time(self.cutoff.until_us) and product.chains.newest_us and shown:
            product.surface.want(product.quotes.naive)
        return [*product.quotes.show(now_us), *product.surface.show(now_us)]

    def clock_set(self, step_us: int) -> None:
        super().clock_set(step_us)
        self._heard_us += step_us

    def pass_time(self, moment_us: int | None = None) -> bool:
        """Let expire what has by the newest quote or chain; True if the surface loses an expiry by it.

        ``moment_us`` is a later moment that has come though none of them says so.
        """
        surface = self.product.quotes.surface
        newest = surface.newest_us
        if newest is None:
            return False
        moment = newest if moment_us is None else moment_us
        if moment < self.cutoff.until_us:
            return False
        before, self.cutoff = self.cutoff, cutoff(self.product.contract, moment)
        shown = surface.expiries | self.product.chains.known.keys()
        lost = any(self.cutoff.expired(expiry) and not before.expired(expiry) for expiry in shown)
        self._prune(newest)
        return lost

    def _prune(self, newest: int) -> None:
        """Forget what has expired, and identities from before the quote window.

        Without it a product would grow with every symbol and every expiry there ever was. What chains say
        is kept through the day of their expiry, for some come after its instant.
        """
        product, chains = self.product, self.product.chains
        product.quotes.surface.drop_expired(self.cutoff.expired)
        kept = (product.identities.recent_chains, chains.document_ids, chains.known)
        for expiry in {expiry for by_expiry in kept for expiry in by_expiry if self.cutoff.past(expiry)}:
            product.identities.recent_chains.pop(expiry, None)
            chains.document_ids.pop(expiry, None)
            chains.forget(expiry)
        product.baselines.prune(newest, self.cutoff.past)
        product.identities.forget(newest - self._quote_us)
