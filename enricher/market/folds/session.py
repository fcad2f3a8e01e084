"""High, low and range of a product's session: ``latest:session:{product}``. See docs/folds.md."""

from collections.abc import Sequence
from datetime import date

from enricher.analytics.contracts import Session
from enricher.engine.effects import Effect, SetKey
from enricher.market.documents import encode
from enricher.market.folds.fold import Fold, TickChange
from enricher.market.serialisation import rounded


class SessionRange(Fold):
    """Of all ticks of the product's local day, in whatever order they come."""

    session: Session | None = None
    high = low = 0.0
    changed = False

    def read_from(self, newest_us: int) -> int:
        return self.product.session(newest_us).start_us

    def fold_tick(self, tick: TickChange) -> None:
        price = float(tick.price)
        if self.session is None or tick.event_us >= self.session.end_us:
            self.session, self.high, self.low = self.product.session(tick.event_us), price, price
        elif tick.event_us >= self.session.start_us:  # not a late one of the session before
            self.high, self.low = max(self.high, price), min(self.low, price)
        self.changed = True

    def show(self, now_us: int) -> Sequence[Effect]:
        if not self.changed or self.session is None:
            return ()
        self.changed, name = False, self.product.product
        day, width = date.fromordinal(self.session.day).isoformat(), rounded(self.high - self.low, 8)
        value = {"product": name, "session": day, "high": self.high, "low": self.low, "range": width}
        newest_us = self.product.windows.ticks.newest
        return [SetKey(f"latest:session:{name}", encode(value), self.product.cache_ms, newest_us)]
