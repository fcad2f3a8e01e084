"""How far back what a lane remembers reaches, and where a restart looks for it."""

from __future__ import annotations

import msgspec

from enricher.analytics.percentile import LEAST_DAYS, LOOK_BACK_DAYS
from enricher.clock import MINUTE, SECOND
from enricher.messages.models import Number

_DAY_MINUTES = 1440


class Spans(msgspec.Struct, frozen=True, kw_only=True):
    """How far back state reaches: bar windows in minutes, history in days, the rest in microseconds.

    ``time_field`` is what stored messages are found by: "timestamp", a date, or "event_us".
    """

    windows: tuple[int, ...]
    lateness_us: int
    quote_us: int
    buildup_us: int
    look_back: int = LOOK_BACK_DAYS
    least_days: int = LEAST_DAYS
    svi_us: int = 30 * SECOND
    expiry_us: int = 60 * SECOND
    cumulative: bool = False
    time_field: str = "timestamp"

    @property
    def retention_us(self) -> int:
        """Ticks older than the newest by more than this fold into nothing."""
        return max(max(self.windows) * MINUTE, self.lateness_us)

    @property
    def reload_us(self) -> int:
        """How far before the newest tick the ticks of a bar that can still change may lie."""
        longest = max(self.windows)
        # A bar of a day is an hour longer where clocks are set back.
        return self.retention_us + (longest + (60 if longest >= _DAY_MINUTES else 0)) * MINUTE


class Checkpoint(msgspec.Struct, frozen=True, gc=False):
    """Where to look for what a product's state is made of: the newest tick, and the newest quote or chain.

    They are apart because a replay of old ticks beside newer chains must find its ticks again. Microseconds;
    0 is none. Where volumes are cumulative, ``volume`` is the highest that ticks of its day said before
    ``volume_us``, from which on they are read back.
    """

    revision: int = 0
    ticks_us: int = 0
    options_us: int = 0
    volume_us: int = 0
    volume: Number | None = None
