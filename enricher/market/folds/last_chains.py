"""The last chain of each expiry, and the newest of all.

A chain that its expiry has a newer one of is not given to it, see `NewestQuotes.fold_chain`.
"""

from __future__ import annotations

from enricher.market.folds.fold import ChainChange, Fold, Product
from enricher.market.surface.expiry_snapshot import ExpirySnapshot
from enricher.messages.models import Number

_EXPIRIES_KEPT = 200


class LastChains(Fold):
    """``document_ids`` are those of the last chains, ``known`` what is remembered of them where analysed.

    Of the newest: ``newest_us``, ``newest_text`` (its time as sent, empty when it was read back), ``spot``
    (None where it is not known).
    """

    __slots__ = ("document_ids", "known", "newest_text", "newest_us", "spot")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self.document_ids: dict[str, str] = {}
        self.known: dict[str, ExpirySnapshot] = {}
        self.newest_us = 0
        self.newest_text = ""
        self.spot: Number | None = None

    def fold_chain(self, change: ChainChange) -> None:
        chain, expiry, product = change.chain, change.chain.expiry, self.product
        self.document_ids.pop(expiry, None)
        self.document_ids[expiry] = change.document_id
        if len(self.document_ids) > _EXPIRIES_KEPT:
            first = next(iter(self.document_ids))
            del self.document_ids[first]
            product.as_of.by_expiry.pop(first, None)
            product.baselines.firsts.pop(first, None)
            self.forget(first)
        if change.known is None:
            self.known.pop(expiry, None)
        else:
            self.known[expiry] = change.known
        if chain.event_us >= self.newest_us:
            self.newest_us = chain.event_us
            self.newest_text = chain.timestamp
            self.spot = chain.spot if change.known is None else change.known.spot

    def forget(self, expiry: str) -> None:
        """Let go of what was analysed of an expiry."""
        self.known.pop(expiry, None)
        self.product.surface.svi.forget(expiry)
