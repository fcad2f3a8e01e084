"""The watch over one product's feed as the product's lane keeps it: what is shown, what is logged, and when.

``feed:health:{product}`` is shown at most every five seconds while ticks come, at once when something is
found, and by the clock when the feed falls silent while its market is open. Of a kind of finding one line a
minute is logged, with the number of those left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from enricher.clock import SECOND
from enricher.engine.effects import SetKey
from enricher.log import log
from enricher.market.documents import encode
from enricher.market.folds.fold import Fold, Product
from enricher.market.quality.feed_quality import FeedWatch, Finding
from enricher.messages.doubts import LIMITS
from enricher.messages.models import Tick

SHOW_EVERY_US: Final = 5 * SECOND
LOG_EVERY_US: Final = 60 * SECOND
HEALTH_TTL_MS: Final = 86_400_000
"""A day: that a feed fell silent is to be seen in the morning."""
_DAYS_AHEAD: Final = 5  # over a weekend with a holiday
_DAY_US: Final = 86_400 * SECOND


class FeedHealth(Fold):
    """Every tick that arrives counts, a repeated one too: so it is given them before they are folded.

    It looks at them once a turn, and counts from the first one on. ``due_us`` is when the clock is to look
    whether the feed is silent.
    """

    __slots__ = ("_arrived", "_reported", "_shown_us", "_stale", "_stale_us", "_urgent", "watch")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self.watch: FeedWatch | None = None
        self._arrived: list[tuple[Tick, int]] = []
        self._stale_us = round(product.settings.watch.stale_after * SECOND)
        self._shown_us = 0
        self._urgent = True
        self._stale = False
        self._reported: dict[str, tuple[int, int]] = {}  # kind -> when it was logged, and how many since

    def take(self, tick: Tick, received_us: int) -> None:
        """Count a tick in; one ahead of the clock, or without a price, is not for counting."""
        self._arrived.append((tick, received_us))

    def _look(self) -> None:
        """Look at the ticks that have arrived since the last look."""
        (_, first_us), arrived, product = self._arrived[0], self._arrived, self.product
        self._arrived = []
        if self.watch is None:
            self.watch = FeedWatch(product.product, product.contract, first_us, product.settings.watch)
        counted = [(tick, us) for tick, us in arrived if (tick.clean and not tick.ahead_us) or _counts(tick)]
        if not counted:
            return
        for finding, received_us in self.watch.fold_all(counted):
            self._log(finding, received_us)
            self._urgent = True
        if self._stale:
            self._stale, self._urgent = False, True
            log.info("feed_recovered", product=product.product)
        if self.due_us is None and product.contract.session_open is not None:
            self.due_us = counted[-1][1] + self._stale_us

    def show(self, now_us: int) -> Sequence[SetKey]:
        if self._arrived:
            self._look()
        if self.watch is None or (not self._urgent and now_us - self._shown_us < SHOW_EVERY_US):
            return ()
        self._urgent, self._shown_us = False, now_us
        key, value = f"feed:health:{self.product.product}", encode(self.watch.payload(now_us))
        return (SetKey(key, value, HEALTH_TTL_MS),)

    def on_time(self, now_us: int) -> Sequence[SetKey]:
        """The feed is silent, which is shown once and ended by the next tick; or when to look again."""
        if self.watch is None:
            return ()
        finding = self.watch.check(now_us)
        self._urgent = True
        if finding is None:
            self.due_us = self._next_look(self.watch, now_us)
        else:
            self.due_us, self._stale = None, True
            log.warning("feed_stale", product=self.product.product, seconds=round(finding.amount, 1))
        return self.show(now_us)

    def clock_set(self, step_us: int) -> None:
        """Silences are as long as they were, and trading hours are looked at anew."""
        if self.watch is None:
            return
        self.watch.since_us += step_us
        if self.watch.heard_us is not None:
            self.watch.heard_us += step_us
        self._reported = {kind: (at_us + step_us, more) for kind, (at_us, more) in self._reported.items()}
        self._shown_us = 0
        if self.due_us is not None:
            self.due_us = 0

    def _next_look(self, watch: FeedWatch, now_us: int) -> int | None:
        contract = self.product.contract
        session = contract.session(now_us)
        heard = watch.heard_us or watch.since_us
        if session.is_open(now_us):
            return max(heard, session.open_us or heard) + self._stale_us
        at_us = now_us
        for _ in range(_DAYS_AHEAD):
            if session.open_us is not None and session.open_us > now_us:
                return session.open_us + self._stale_us
            at_us += _DAY_US
            session = contract.session(at_us)
        return None

    def _log(self, finding: Finding, now_us: int) -> None:
        logged_us, left_out = self._reported.get(finding.kind, (-LOG_EVERY_US, 0))
        if now_us - logged_us < LOG_EVERY_US:
            self._reported[finding.kind] = (logged_us, left_out + 1)
            return
        self._reported[finding.kind] = (now_us, 0)
        log.warning(
            "feed_finding",
            product=self.product.product,
            kind=finding.kind,
            amount=round(finding.amount, 6),
            event_us=finding.event_us,
            more=left_out,
        )


def _counts(tick: Tick) -> bool:
    return bool(tick.price) and not tick.future and (tick.clean or tick.price not in LIMITS)
