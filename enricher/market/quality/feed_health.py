"""The watch over one product's feed as the product's lane keeps it: what is shown, what is logged, and when.

``feed:health:{product}`` is shown at most every five seconds while ticks come, at once when something is
found, and by the clock when the feed falls silent while its market is open. Of a kind of finding one line a
minute is logged, with the number of those left out.
"""

from __future__ import annotations

from typing import Final

from enricher.analytics.contracts import Contract
from enricher.clock import SECOND
from enricher.log import log
from enricher.market.quality.feed_quality import FeedWatch, Finding, WatchSettings
from enricher.messages.models import Tick

SHOW_EVERY_US: Final = 5 * SECOND
SAY_EVERY_US: Final = 60 * SECOND
_DAYS_AHEAD: Final = 5  # over a weekend with a holiday
_DAY_US: Final = 86_400 * SECOND


class FeedHealth:
    """Counters from the first tick on; ``due_us`` is when the clock is to look, None for never."""

    __slots__ = ("_contract", "_due", "_said", "_shown_us", "_stale", "_stale_us", "_urgent", "watch")

    def __init__(self, product: str, contract: Contract, now_us: int, settings: WatchSettings) -> None:
        self.watch = FeedWatch(product, contract, now_us, settings)
        self._contract = contract
        self._stale_us = round(settings.stale_after * SECOND)
        self._shown_us = 0
        self._urgent = True
        self._stale = False
        self._said: dict[str, tuple[int, int]] = {}  # kind -> when it was logged, and how many since
        self._due: int | None = None

    @property
    def due_us(self) -> int | None:
        """When the clock is to look whether the feed has fallen silent."""
        return self._due

    def take(self, tick: Tick, received_us: int) -> None:
        """Count a tick in, a repeated one too; one ahead of the clock is not for counting."""
        if tick.future:
            return
        found = self.watch.fold(tick.event_us, received_us, tick.tick_id, tick.price)
        for finding in found:
            self._say(finding, received_us)
        if found:
            self._urgent = True
        if self._stale:
            self._stale, self._urgent = False, True
            log.info("feed_recovered", product=self.watch.product)
        if self._due is None and self._contract.session_open is not None:
            self._due = received_us + self._stale_us

    def payload(self, now_us: int) -> dict[str, object] | None:
        """What is to be shown now; None while what is shown serves."""
        if not self._urgent and now_us - self._shown_us < SHOW_EVERY_US:
            return None
        self._urgent, self._shown_us = False, now_us
        return self.watch.payload(now_us)

    def on_clock(self, now_us: int) -> None:
        """Look at the feed: silent and to be said so, or when to look again."""
        if self._due is None or now_us < self._due:
            return
        finding = self.watch.check(now_us)
        if finding is not None:
            # Said once; the next tick ends it.
            self._due, self._stale, self._urgent = None, True, True
            log.warning("feed_stale", product=self.watch.product, seconds=round(finding.amount, 1))
            return
        self._due = self._next_look(now_us)
        self._urgent = True

    def stepped(self, step_us: int) -> None:
        """The clock was set: silences are as long as they were, and trading hours are looked at anew."""
        self.watch.since_us += step_us
        if self.watch.heard_us is not None:
            self.watch.heard_us += step_us
        self._said = {kind: (said_us + step_us, more) for kind, (said_us, more) in self._said.items()}
        self._shown_us = 0
        if self._due is not None:
            self._due = 0

    def _next_look(self, now_us: int) -> int | None:
        session = self._contract.session(now_us)
        heard = self.watch.heard_us or self.watch.since_us
        if session.is_open(now_us):
            return max(heard, session.open_us or heard) + self._stale_us
        at_us = now_us
        for _ in range(_DAYS_AHEAD):
            if session.open_us is not None and session.open_us > now_us:
                return session.open_us + self._stale_us
            at_us += _DAY_US
            session = self._contract.session(at_us)
        return None

    def _say(self, finding: Finding, now_us: int) -> None:
        said_us, left_out = self._said.get(finding.kind, (-SAY_EVERY_US, 0))
        if now_us - said_us < SAY_EVERY_US:
            self._said[finding.kind] = (said_us, left_out + 1)
            return
        self._said[finding.kind] = (now_us, 0)
        log.warning(
            "feed_finding",
            product=self.watch.product,
            kind=finding.kind,
            amount=round(finding.amount, 6),
            event_us=finding.event_us,
            more=left_out,
        )
