"""What a subscription missed: told to the state stores, counted, and stored for whoever looks at the data."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from enricher.clock import to_date
from enricher.engine.effects import Insert
from enricher.errors import EnricherError
from enricher.redaction import redact_text

if TYPE_CHECKING:
    from enricher.adapters.redis.pubsub import Gap
    from enricher.engine.service import Engine

GAPS = "feed_gaps"
"""The collection of the gaps."""


def record_gap(engine: Engine, gap: Gap, instance: str) -> None:
    """Record that messages of a channel were missed by this process, called ``instance``."""
    engine.missed(gap.channel, gap.from_us, gap.to_us)
    if not gap.from_us:
        return  # the beginning is no loss of this worker's
    engine.stats.count(gap.channel, "gaps")
    document = {
        "_id": f"{gap.channel}:{gap.from_us}:{instance}",
        "channel": gap.channel,
        "from": to_date(gap.from_us),
        "to": to_date(gap.to_us),
        "reason": redact_text(gap.reason),
        "instance": instance,
        "processed_at": to_date(engine.clock()),
    }
    with suppress(EnricherError):  # at the very end, when nothing is committed any more
        engine.emit(Insert(GAPS, document))
