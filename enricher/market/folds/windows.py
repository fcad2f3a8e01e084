"""The rolling windows and latest price of a product: ``ohlc:{product}:{n}m``, ``latest:underlying:*``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enricher.clock import MINUTE, render, to_date
from enricher.engine.effects import SetKey
from enricher.market.bars.rolling_windows import TickWindow
from enricher.market.documents import encode
from enricher.market.folds.fold import Fold, Product, TickChange
from enricher.market.folds.gaps import GAP
from enricher.messages.models import Tick


class Windows(Fold):
    """The ticks of the longest window. ``changed`` says that something is to be shown; ``latest`` is the last
    tick, None while it is one that was read back; ``naive`` whether times are shown without an offset."""

    __slots__ = ("changed", "latest", "naive", "ticks")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self.ticks = TickWindow(product.settings.retention_us)
        self.changed = False
        self.latest: Tick | None = None
        self.naive = False

    def fold_tick(self, tick: TickChange) -> str | None:
        ticks, at_us, sent = self.ticks, tick.event_us, tick.sent
        newest = ticks.newest
        if not ticks.add(at_us, tick.price, tick.order, tick.identity, sent is not None):
            return "late"
        if newest is None or at_us > newest or ticks.is_last(at_us, tick.identity):
            self.latest, self.naive = sent, tick.naive
        if sent is not None:
            self.changed = True
        return None

    def fold_run(self, ticks: Sequence[TickChange]) -> None:
        """Take ticks in whose event times ascend, the first of them newer than all before."""
        self.ticks.add_run(
            [tick.event_us for tick in ticks],
            [tick.price + 0.0 for tick in ticks],
            [tick.order for tick in ticks],
            [tick.identity for tick in ticks],
        )
        self.latest, self.naive, self.changed = ticks[-1].sent, ticks[-1].naive, True

    def show_tick(self, tick: Tick, identity: int) -> None:
        """Have the windows shown, and this tick if it is the last of those folded."""
        self.changed = True
        if self.ticks.is_last(tick.event_us, identity):
            self.latest, self.naive = tick, tick.naive

    def show(self, now_us: int) -> list[SetKey]:
        if not self.changed:
            return []
        self.changed = False
        name, zone, gaps = self.product.product, self.product.zone, self.product.gaps
        latest, newest, effects = self.latest, self.ticks.newest or 0, []
        missing = gaps.open_us is not None or gaps.spans
        if latest is not None and latest.event_us == newest:
            tick = {"price": latest.price, "timestamp": latest.timestamp}
            effects.append(SetKey(f"latest:underlying:{name}", encode(tick), self.product.cache_ms, newest))
        for minutes in self.product.settings.windows:
            window = self.ticks.window(minutes * MINUTE)
            if window is None:
                continue
            value: dict[str, Any] = {
                "product": name,
                "window_minutes": minutes,
                "open": window.open,
                "high": window.high,
                "low": window.low,
                "close": window.close,
                "start_time": render(window.start_us, self.naive, zone),
                "end_time": render(window.end_us, self.naive, zone),
                "num_ticks": window.count,
            }
            if missing and gaps.touch(newest - minutes * MINUTE, newest + 1):
                value["flags"] = {"gap": GAP}
            effects.append(SetKey(f"ohlc:{name}:{minutes}m", encode(value), minutes * 60_000, newest))
        return effects

    def show_again(self) -> None:
        newest = self.ticks.newest
        window = self.ticks.window(self.product.settings.windows[0] * MINUTE)
        if newest is None or window is None:
            return
        self.changed = True
        self.latest = Tick(
            product=self.product.product,
            timestamp=render(newest, self.naive, self.product.zone),
            event_us=newest,
            moment=to_date(newest),
            naive=self.naive,
            ahead_us=0,
            price=window.close,
        )
