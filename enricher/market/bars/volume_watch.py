"""Whether the volumes of a product's ticks are what `market.volume` says of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from enricher.analytics.contracts import Session
from enricher.messages.doubts import LIMITS, VOLUME_CUMULATIVE, VOLUME_FELL
from enricher.messages.models import Number

_RISES: Final = 2
_A_FALL_IN: Final = 50  # rises: more often sizes of trades fall, and less often a counter is corrected
_CLEAR: Final = 16  # sizes of trades do not rise so often without a fall
_SETTLED: Final = 20  # falls
_KEPT: Final = 1000
_FALLS_KEPT: Final = 64


class VolumeWatch:
    """Volumes that only rise are those of the day so far, and not of trades; those of a day do not fall.

    What is before ``since_us`` says no more: ticks that come late, and once it is clear which volumes they
    are, all others of the day.
    """

    __slots__ = ("_cumulative", "_end_us", "_falls", "_fell", "_rose", "_session", "_volume", "since_us")

    def __init__(self, session: Callable[[int], Session], cumulative: bool) -> None:
        self._session = session
        self._cumulative = cumulative
        self.since_us = self._end_us = -(2**63)
        self._volume: Number = 0
        self._rose = self._fell = 0
        self._falls: list[tuple[int, Number, Number]] = []  # event time, from, to

    def take(self, event_us: int, volume: Number) -> None:
        """Take in the volume of a tick that is not before ``since_us``."""
        if event_us >= self._end_us:
            self._end_us = self._session(event_us).end_us
        elif volume != self._volume and self._is_clear(event_us, volume):
            self.since_us = self._end_us
            return
        self.since_us, self._volume = event_us, volume

    def _is_clear(self, event_us: int, volume: Number) -> bool:
        """Count a volume that is another than that before; whether the rest of the day can say no more."""
        if volume > self._volume:
            self._rose += 1
            return self._rose >= _CLEAR and not (self._fell or self._cumulative)
        if volume < 0 or self._volume in LIMITS or event_us == self.since_us:
            return False  # of no value, from none, or of one moment, which has no order
        self._fell += 1
        if self._cumulative:
            self._falls.append((event_us, self._volume, volume))
            del self._falls[:-_FALLS_KEPT]
        if self._rose > _KEPT:
            self._rose, self._fell = self._rose // 2, self._fell // 2
        return not self._cumulative and self._fell > _SETTLED and self._fell * _A_FALL_IN > self._rose * 2

    def doubt(self, start_us: int, end_us: int) -> str | None:
        """What is doubtful about the volume of a bar."""
        if not self._cumulative:
            rises = self._rose >= _RISES and self._fell * _A_FALL_IN <= self._rose
            return VOLUME_CUMULATIVE.says if rises else None
        for event_us, before, volume in reversed(self._falls):
            if start_us <= event_us < end_us:
                return VOLUME_FELL.of(before=before, volume=volume)
        return None

    def kept(self) -> list[Any]:
        """What a restart needs of it; ticks before ``since_us`` change nothing when they come again."""
        falls = [list(fall) for fall in self._falls]
        return [self.since_us, self._end_us, self._volume, self._rose, self._fell, falls]

    def restore(self, kept: Sequence[Any]) -> None:
        """Go on from what was `kept`."""
        self.since_us, self._end_us, self._volume, self._rose, self._fell, falls = kept
        self._falls = [(event_us, before, volume) for event_us, before, volume in falls]
