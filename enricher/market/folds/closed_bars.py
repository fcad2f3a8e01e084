"""The bars of a product, stored when they are final: by their event time, or when nothing is heard."""

from __future__ import annotations

from collections.abc import Sequence
from zoneinfo import ZoneInfo

from enricher.analytics.bar_boundaries import Opening
from enricher.analytics.contracts import Contract
from enricher.clock import span_us, to_date, to_millis
from enricher.engine.effects import Effect, Insert, Upsert
from enricher.market.bars.bars import Bar, Bars
from enricher.market.bars.volume_watch import VolumeWatch
from enricher.market.documents import BARS, bar_document
from enricher.market.folds.fold import Fold, Product, TickChange
from enricher.market.folds.gaps import GAP


class ClosedBars(Fold):
    """``heard_us`` is when the last tick was received, by the clock; None when no bar is open.

    It comes before the windows, for a tick that is too late for everything was heard all the same.
    """

    __slots__ = ("_clock_set_us", "_idle_us", "bars", "heard_us", "volumes")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        settings = product.settings
        self._idle_us = span_us(settings.idle_close)
        self.bars = Bars(
            settings.windows,
            span_us(settings.lateness),
            settings.retention_us,
            bar_session(product.contract),
            product.day_start if settings.volume == "cumulative" else None,
        )
        self.volumes = VolumeWatch(product.session, settings.volume == "cumulative")
        self.heard_us: int | None = None
        # Where the clock was set while bars were open: what to add for the one that they were begun by.
        self._clock_set_us = 0

    def fold_tick(self, tick: TickChange) -> None:
        self.heard_us = heard_us = tick.received_us
        self.due_us = heard_us + self._idle_us
        event_us, volume = tick.event_us, tick.volume
        if volume is not None and event_us >= self.volumes.since_us:
            self.volumes.take(event_us, volume)
        self.bars.fold(event_us, tick.price, tick.order, volume)

    def fold_run(self, ticks: Sequence[TickChange]) -> None:
        """Take ticks in whose event times ascend, the first of them newer than all before."""
        self.heard_us = heard_us = ticks[-1].received_us
        self.due_us = heard_us + self._idle_us
        events = [tick.event_us for tick in ticks]
        prices = [tick.price + 0.0 for tick in ticks]
        orders = [tick.order for tick in ticks]
        volumes = [tick.volume for tick in ticks]
        if events[-1] >= self.volumes.since_us:
            for event_us, volume in zip(events, volumes, strict=True):
                if volume is not None and event_us >= self.volumes.since_us:
                    self.volumes.take(event_us, volume)
        self.bars.fold_run(events, prices, orders, volumes)

    def begin(self, newest_us: int) -> int:
        """Where the earliest bar begins that a tick may still fold into as long as none is newer."""
        return self.bars.begin(newest_us - self.bars.retention_us)

    def show(self, now_us: int) -> Sequence[Effect]:
        if not self.product.windows.changed or not self.bars.due():
            return ()
        return self._stored(self.bars.close(), now_us)

    def on_time(self, now_us: int) -> Sequence[Effect]:
        self.product.gaps.begin()
        effects = self._stored(self.bars.idle_close(now_us + self._set_since()), now_us)
        # Bars that reach into the future of the clock need another look.
        self._hear(now_us if self.bars.open_bars else None)
        return effects

    def restored(self, received_us: int) -> None:
        # Should no further tick come, the open bars are closed when it has been idle for long enough.
        self._hear(received_us if self.bars.open_bars else None)

    def clock_set(self, step_us: int) -> None:
        if self.heard_us is not None:
            self._clock_set_us -= step_us
            self._hear(self.heard_us + step_us)

    def _hear(self, at_us: int | None) -> None:
        self.heard_us = at_us
        self.due_us = None if at_us is None else at_us + self._idle_us
        if at_us is None:
            self._clock_set_us = 0

    def _set_since(self) -> int:
        """What makes the clock agree with the newest tick again: a clock that was set may be wrong."""
        newest, heard, was = self.product.windows.ticks.newest, self.heard_us, self._clock_set_us
        if not was or newest is None or heard is None:
            return 0
        return was if abs(heard + was - newest) < abs(heard - newest) else 0

    def _stored(self, bars: Sequence[Bar], now_us: int) -> list[Effect]:
        effects: list[Effect] = []
        for bar in bars:
            document = bar_document(self.product.product, bar)
            if self.product.gaps.touch(bar.start_us, bar.end_us):
                document["flags"] = {**document.get("flags", {}), "gap": GAP}
            if (doubt := self.volumes.doubt(bar.start_us, bar.end_us)) is not None:
                document.setdefault("flags", {}).setdefault("volume", doubt)
            document["processed_at"] = to_date(to_millis(now_us))
            # A first revision is a plain insert, many times cheaper than an upsert.
            first = bar.revision == 0
            effects.append(Insert(BARS, document) if first else Upsert(BARS, document, "revision"))
        return effects


def bar_session(contract: Contract) -> Opening | None:
    """Where long bars start counting: when the market opens."""
    if contract.session_open is None:
        return None
    hours, minutes = contract.session_open.split(":")
    return Opening(ZoneInfo(contract.zone), (int(hours) * 60 + int(minutes)) * 60)
