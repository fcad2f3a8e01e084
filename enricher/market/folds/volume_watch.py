"""Whether the volumes of a product's ticks are what `market.volume` says of them."""

from __future__ import annotations

from typing import Final

from enricher.market.folds.fold import Fold, Product, TickChange
from enricher.messages.doubts import LIMITS, VOLUME_CUMULATIVE, VOLUME_FELL
from enricher.messages.models import Number

_RISES: Final = 2
_A_FALL_IN: Final = 50  # rises: more often sizes of trades fall, and less often a counter is corrected
_SETTLED: Final = 20  # falls
_KEPT: Final = 1000
_FALLS_KEPT: Final = 64


class VolumeWatch(Fold):
    """Volumes that only rise are those of the day so far, and not of trades; those of a day do not fall.

    Ticks that come late are passed over. It is a doubt and no number: after a restart it counts anew.
    """

    __slots__ = ("_cumulative", "_end_us", "_falls", "_fell", "_newest_us", "_rose", "_settled_us", "_volume")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self._cumulative = product.settings.volume == "cumulative"
        self._newest_us = self._end_us = self._settled_us = -(2**63)
        self._volume: Number = 0
        self._rose = self._fell = 0
        self._falls: list[tuple[int, Number, Number]] = []  # event time, from, to

    def fold_tick(self, tick: TickChange) -> None:
        event_us, volume = tick.event_us, tick.volume
        if volume is None or event_us < self._settled_us or event_us < self._newest_us:
            return
        if event_us >= self._end_us:
            self._end_us = self.product.session(event_us).end_us
        elif volume > self._volume:
            self._rose += 1
        elif volume < self._volume:
            self._fall(event_us, volume)
        self._newest_us, self._volume = event_us, volume

    def _fall(self, event_us: int, volume: Number) -> None:
        if volume < 0 or self._volume in LIMITS or event_us == self._newest_us:
            return  # of no value, from none, or of one moment, which has no order
        self._fell += 1
        if self._cumulative:
            self._falls.append((event_us, self._volume, volume))
            del self._falls[:-_FALLS_KEPT]
        elif self._fell > _SETTLED and self._fell * _A_FALL_IN > self._rose * 2:
            self._settled_us = self._end_us  # they are sizes of trades
        if self._rose > _KEPT:
            self._rose, self._fell = self._rose // 2, self._fell // 2

    def doubt(self, start_us: int, end_us: int) -> str | None:
        """What is doubtful about the volume of a bar."""
        if not self._cumulative:
            rises = self._rose >= _RISES and self._fell * _A_FALL_IN <= self._rose
            return VOLUME_CUMULATIVE.says if rises else None
        for event_us, before, volume in reversed(self._falls):
            if start_us <= event_us < end_us:
                return VOLUME_FELL.of(before=before, volume=volume)
        return None
