"""Which messages have been folded already, as far as it is known without asking the database."""

from __future__ import annotations

from enricher.engine.ports import Folded
from enricher.market.bars.rolling_windows import identity_key
from enricher.market.folds.fold import ChainChange, Fold, Product
from enricher.market.surface.expiry_surface import Latest
from enricher.messages.models import Chain, Quote, Tick, digest

_ASIDE_KEPT = 1000


class Identities(Fold):
    """The last quote of each symbol and the last chain of each expiry, for most duplicates come at once.

    Ticks are remembered by the rolling windows. ``aside`` are the messages that moved nothing, such as
    those ahead of the clock: when they come again, and their time has come meanwhile, they must move nothing
    still, or a restart would change the numbers. ``restored_chains`` are those folded before a restart.
    """

    __slots__ = ("aside", "recent_chains", "recent_quotes", "restored_chains")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self.recent_quotes: dict[str, Latest] = {}  # as `NewestQuotes` takes them in
        self.recent_chains: dict[str, tuple[int, str]] = {}
        self.restored_chains: dict[int, set[str]] = {}
        self.aside: dict[tuple[int, int | str], None] = {}

    def fold_chain(self, change: ChainChange) -> None:
        if not change.restored:
            self.recent_chains[change.chain.expiry] = (change.event_us, change.identity)

    def set_aside(self, event_us: int, identity: int | str) -> None:
        """Remember a message that was stored and published but moves nothing."""
        self.aside[event_us, identity] = None
        if len(self.aside) > _ASIDE_KEPT:
            del self.aside[next(iter(self.aside))]

    def seen_option(self, event: Quote | Chain, body: bytes) -> Folded | None:
        """Whether this quote or chain was folded."""
        at_us = event.event_us
        if self.aside and (at_us, digest(body)) in self.aside:
            return Folded.RESTORED
        if isinstance(event, Quote):
            quote = self.recent_quotes.get(event.symbol)
            here = quote is not None and quote.event_us == at_us and quote.digest == digest(body)
            return Folded.HERE if here else None
        chain = self.recent_chains.get(event.expiry)
        if chain is not None and chain[0] == at_us and chain[1] == digest(body):
            return Folded.HERE
        restored = self.restored_chains.get(at_us)
        return Folded.RESTORED if restored and digest(body) in restored else None

    def seen_tick(self, tick: Tick, body: bytes) -> Folded | None:
        """Whether this tick was folded; one that was before a restart is shown once more."""
        windows, at_us = self.product.windows, tick.event_us
        newest = windows.ticks.newest
        if not self.aside and (newest is None or at_us > newest):
            return None
        identity = identity_key(tick.tick_id, digest(body) if tick.tick_id is None else "")
        if (at_us, identity) in self.aside:
            return Folded.RESTORED
        folded = windows.ticks.seen(at_us, identity)
        if folded is Folded.RESTORED:
            # The crash may have come after it was stored and before it was shown.
            windows.show_tick(tick, identity)
        return folded

    def forget(self, oldest_us: int) -> None:
        """Let go of quotes and restored chains from before a moment."""
        for symbol in [name for name, last in self.recent_quotes.items() if last.event_us < oldest_us]:
            del self.recent_quotes[symbol]
        for event_us in [event_us for event_us in self.restored_chains if event_us < oldest_us]:
            del self.restored_chains[event_us]
