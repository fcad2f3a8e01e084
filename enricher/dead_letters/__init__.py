"""Dead letters: messages set aside, whole, with why; looked at, filtered, edited and tried again.

What is listed here is promised, and needs no worker. `docs/dead_letters.md` shows it.
"""

from typing import TYPE_CHECKING

from enricher.lazy_exports import at_first_use

if TYPE_CHECKING:
    from enricher.adapters.redis.dead_letters.list_store import ListLetterStore
    from enricher.adapters.redis.dead_letters.retry_requests import RetryListener, by_worker
    from enricher.adapters.redis.dead_letters.stream_store import StreamLetterStore
    from enricher.adapters.redis.dead_letters.target_stream import TargetStream
    from enricher.dead_letters.alert import DepthAlarm, LengthAlert, log_alert
    from enricher.dead_letters.bulk import RateLimit, Report, StopRule, reprocess, retry
    from enricher.dead_letters.edits import Edit
    from enricher.dead_letters.filters import EVERY, FieldFilter, LetterFilter
    from enricher.dead_letters.record import StoredLetter, encode
    from enricher.dead_letters.replay import Outcome, here, through
    from enricher.dead_letters.sink import DeadLetterSink
    from enricher.dead_letters.store import Added, LetterStore, UnknownLetter
    from enricher.engine.effects import DeadLetter
else:
    __getattr__, __dir__ = at_first_use(
        __name__,
        {
            "enricher.adapters.redis.dead_letters.list_store": "ListLetterStore",
            "enricher.adapters.redis.dead_letters.retry_requests": "RetryListener by_worker",
            "enricher.adapters.redis.dead_letters.stream_store": "StreamLetterStore",
            "enricher.adapters.redis.dead_letters.target_stream": "TargetStream",
            "enricher.dead_letters.alert": "DepthAlarm LengthAlert log_alert",
            "enricher.dead_letters.bulk": "RateLimit Report StopRule reprocess retry",
            "enricher.dead_letters.edits": "Edit",
            "enricher.dead_letters.filters": "EVERY FieldFilter LetterFilter",
            "enricher.dead_letters.record": "StoredLetter encode",
            "enricher.dead_letters.replay": "Outcome here through",
            "enricher.dead_letters.sink": "DeadLetterSink",
            "enricher.dead_letters.store": "Added LetterStore UnknownLetter",
            "enricher.engine.effects": "DeadLetter",
        },
    )

__all__ = [
    "EVERY",
    "Added",
    "DeadLetter",
    "DeadLetterSink",
    "DepthAlarm",
    "Edit",
    "FieldFilter",
    "LengthAlert",
    "LetterFilter",
    "LetterStore",
    "ListLetterStore",
    "Outcome",
    "RateLimit",
    "Report",
    "RetryListener",
    "StopRule",
    "StoredLetter",
    "StreamLetterStore",
    "TargetStream",
    "UnknownLetter",
    "by_worker",
    "encode",
    "here",
    "log_alert",
    "reprocess",
    "retry",
    "through",
]
