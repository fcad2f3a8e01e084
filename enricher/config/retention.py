"""The ``retention`` section: how long what is stored is kept, collection by collection."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from msgspec import Meta

from enricher.config.types import Section

Kept = Annotated[int, Meta(ge=0, extra={"unit": "s"})]


class RetentionSettings(Section, frozen=True, kw_only=True):
    """Whole seconds that a document is kept after it was processed (its ``processed_at``); 0 keeps all.

    ``emails`` is the collection that `mail.collection` names.
    """

    underlying_ticks: Kept = 0
    option_quotes: Kept = 0
    option_chains: Kept = 0
    ohlc_bars: Kept = 0
    volatility_surfaces: Kept = 0
    market_history: Kept = 0
    feed_gaps: Kept = 0
    emails: Kept = 0

    def short(self, key: str, least: float, why: str) -> Iterator[str]:
        """A sentence if ``key`` keeps documents for less than ``least`` seconds, which they are needed."""
        from enricher.texts import span

        seconds = getattr(self, key)
        if 0 < seconds < least:
            expected = f"expected at least {span(least)}, or 0 for all"
            yield f"retention.{key} {span(seconds)} is short: {why}; {expected}"
