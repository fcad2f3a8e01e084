"""When to raise the alarm about the number of dead letters."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable

import msgspec

from enricher.errors import ConfigError
from enricher.log import log

QUIET = 60.0


class LengthAlert(msgspec.Struct, frozen=True):
    """There are more dead letters in ``store`` than ``threshold``: ``length``."""

    store: str
    length: int
    threshold: int


AlertHook = Callable[[LengthAlert], None]
"""Called in the event loop, so it must not block; what it raises is logged."""


def log_alert(alert: LengthAlert) -> None:
    """The hook that is there by default: an error in the log."""
    log.error("dead_letters_above_threshold", **msgspec.structs.asdict(alert))


class DepthAlarm:
    """Calls ``hook`` when the number of dead letters passes ``threshold`` (0: never).

    Several workers that fill one store share no memory, and need none: who adds the letter that passes the
    threshold sees the length before and after. At most one call in ``quiet`` seconds (of ``clock``); what
    falls into that time is made up for by the next letter, if there are still too many.
    """

    def __init__(
        self,
        threshold: int,
        hook: AlertHook = log_alert,
        *,
        quiet: float = QUIET,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if inspect.iscoroutinefunction(hook):
            expected = "a plain function, which may start a task: it is not waited for"
            raise ConfigError("dead letters", "hook", hook.__name__, expected)
        self.threshold = threshold
        self._hook = hook
        self._quiet = quiet
        self._clock = clock
        self._last: float | None = None
        self._owed = False

    def saw(self, store: str, before: int, after: int) -> bool:
        """Told of lengths before and after a letter was added; whether the hook was called."""
        if not self.threshold or after <= self.threshold:
            self._owed = False
            return False
        if before > self.threshold and not self._owed:
            return False
        now = self._clock()
        if self._last is not None and now - self._last < self._quiet:
            self._owed = True
            return False
        self._last, self._owed = now, False
        try:
            self._hook(LengthAlert(store, after, self.threshold))
        except Exception as error:  # noqa: BLE001  an alarm that fails must not stop the letters
            log.warning("alert_hook_failed", store=store, error=f"{type(error).__name__}: {error}")
        return True
