"""Where a restart looks for what a product's state is made of: its document in `enricher_state`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from enricher.clock import SECOND, span_us
from enricher.engine.effects import Effect, Upsert
from enricher.market.documents import STATE
from enricher.market.folds.fold import ChainChange, Fold, Product
from enricher.market.state.recent import Recent
from enricher.messages.models import Number

CHECKPOINT_US: Final = 60 * SECOND
"""How far event time moves before a product's checkpoint is written again: it only bounds a range."""


class Bounds(msgspec.Struct, frozen=True, gc=False):
    """The newest tick, and the newest quote or chain.

    They are apart because a replay of old ticks beside newer chains must find its ticks again. Microseconds;
    0 is none. Where volumes are cumulative, ``volume`` is the highest that ticks of its day said before
    ``volume_us``, from which on they are read back.
    """

    revision: int = 0
    ticks_us: int = 0
    options_us: int = 0
    volume_us: int = 0
    volume: Number | None = None


_NOWHERE: Final = Bounds()


class Checkpoint(Fold):
    """``last`` are the bounds that were written last; ``wanted`` says that new ones are, however near."""

    __slots__ = ("_quote_us", "last", "wanted")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self._quote_us = span_us(product.settings.quote_window)
        self.last = _NOWHERE
        self.wanted = False

    def cover(self, event_us: int) -> None:
        """A chain that lies before what a restart reads anyway would be lost without a new checkpoint."""
        read_us = self.last.options_us - self._quote_us
        if event_us < read_us or event_us < self.product.chains.newest_us - CHECKPOINT_US:
            self.wanted = True

    def fold_chain(self, change: ChainChange) -> None:
        if change.event_us < self.last.options_us:
            self.wanted = True

    def restored(self, received_us: int) -> None:
        self.wanted = False

    def show(self, now_us: int) -> Sequence[Effect]:
        product, last = self.product, self.last
        ticks_us = product.windows.ticks.newest or 0
        options_us = product.quotes.surface.newest_us or 0
        moved = ticks_us - last.ticks_us >= CHECKPOINT_US or options_us - last.options_us >= CHECKPOINT_US
        if not (moved or self.wanted):
            return ()
        self.wanted = False
        product.recent = Recent()  # by now it was asked for, or never is
        self.last = Bounds(last.revision + 1, ticks_us, options_us)
        if product.settings.volume == "cumulative" and ticks_us:
            bound = product.bars.begin(ticks_us)
            volume = product.bars.bars.traded(product.day_start(bound), bound)
            self.last = Bounds(last.revision + 1, ticks_us, options_us, bound, volume)
        return [Upsert(STATE, self._document(now_us), "revision"), *product.history.changed_days(now_us)]

    def _document(self, now_us: int) -> dict[str, Any]:
        product = self.product
        bases, firsts = product.baselines.identities()
        for expiry, timeline in product.as_of.by_expiry.items():
            named = [known.identity for known in timeline.standing()]
            bases[expiry] = list(dict.fromkeys(bases[expiry] + named))
        return {
            "_id": product.product,
            **{name: value for name, value in msgspec.structs.asdict(self.last).items() if value is not None},
            "heard_us": now_us,
            "naive": product.quotes.naive or product.windows.naive,
            "chains": dict(product.chains.document_ids),
            "bases": bases,
            "firsts": firsts,
            "gaps": [list(span) for span in product.gaps.spans],
            "volumes": product.bars.volumes.kept(),
        }

    def restore(self, document: Mapping[str, Any]) -> set[str]:
        """Take a stored checkpoint back; the ``_id`` of the chains that count, however old they are."""
        names = ("revision", "ticks_us", "options_us", "volume_us")
        numbers = {name: int(document.get(name, 0)) for name in names}
        self.last = Bounds(**numbers, volume=document.get("volume"))
        self.product.gaps.spans = [(int(low), int(high)) for low, high in document.get("gaps", ())]
        self.product.quotes.naive = bool(document.get("naive"))
        if volumes := document.get("volumes"):
            self.product.bars.volumes.restore(volumes)
        # The last of each expiry, the first of its day, and those that build-up is compared with.
        named = {*document.get("chains", {}).values(), *document.get("firsts", {}).values()}
        return named.union(*document.get("bases", {}).values())
