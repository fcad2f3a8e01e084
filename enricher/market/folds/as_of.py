"""What the chains of each expiry said up to any moment that is still asked for.

A chain is compared with those of other expiries as of its own moment, so that a replay of the past beside the
live feed gives the numbers of the past.
"""

from __future__ import annotations

from collections.abc import Sequence

from enricher.analytics.as_of import Timeline
from enricher.analytics.contracts import Session
from enricher.clock import span_us
from enricher.market.folds.fold import ChainChange, Fold, Product
from enricher.market.surface.expiry_snapshot import ExpirySnapshot, to_join

_CHAINS_KEPT = 32


class AsOf(Fold):
    """A timeline of analysed chains for each expiry."""

    __slots__ = ("_quote_us", "_window_us", "by_expiry")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self.by_expiry: dict[str, Timeline[ExpirySnapshot]] = {}
        self._window_us = span_us(product.settings.expiry_window)
        self._quote_us = span_us(product.settings.quote_window)

    def fold_chain(self, change: ChainChange) -> None:
        if change.known is None:
            return
        timeline = self.by_expiry.get(change.chain.expiry)
        if timeline is None:
            timeline = Timeline(self._window_us, self._window_us, _CHAINS_KEPT)
            self.by_expiry[change.chain.expiry] = timeline
        timeline.add(change.event_us, to_join(change.known, change.document_id), change.identity)

    def beside(
        self, chain: ExpirySnapshot, event_us: int, session: Session
    ) -> tuple[list[ExpirySnapshot], list[ExpirySnapshot]]:
        """This chain and the last ones of other expiries up to its moment, by expiry: of now, and of the day.

        Those of now are as young as the surface's quotes and not expired.
        """
        every = {chain.expiry: chain}
        for expiry, timeline in self.by_expiry.items():
            if expiry != chain.expiry and (last := timeline.at(event_us)) is not None:
                every[expiry] = last
        ordered = [every[expiry] for expiry in sorted(every)]
        since, contract = event_us - self._quote_us, self.product.contract
        now = [
            row for row in ordered if row.event_us > since and contract.expiry_us(row.expiry) > event_us
        ]
        return now, [row for row in ordered if row.event_us >= session.start_us]

    def expected(self, chain: ExpirySnapshot, event_us: int, now: Sequence[ExpirySnapshot]) -> int:
        """How many live expiries are known of at the moment of this chain: those of ``now``, and those heard
        of since the chain of this expiry before, or shortly before that.
        """
        timeline = self.by_expiry.get(chain.expiry)
        last = None if timeline is None else timeline.before(event_us)
        since = (event_us if last is None else last.event_us) - self._window_us
        count, contract = len(now), self.product.contract
        for expiry in self.by_expiry.keys() - {row.expiry for row in now}:
            row = self.by_expiry[expiry].at(event_us)
            if row is not None and row.event_us > since and contract.expiry_us(expiry) > event_us:
                count += 1
        return count
