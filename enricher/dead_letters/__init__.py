"""Dead letters: messages set aside, whole, with why; looked at, filtered, edited and tried again.

What is listed here is promised, and needs no worker. `docs/dead_letters.md` shows it.
"""

from typing import TYPE_CHECKING

from enricher.lazy_exports import at_first_use

if TYPE_CHECKING:
    from enricher.dead_letters.alert import LengthAlert, LengthWatch, log_alert
    from enricher.dead_letters.bulk import Pace, Report, StopRule, reprocess
    from enricher.dead_letters.edits import Edit
    from enricher.dead_letters.filters import EVERY, FieldFilter, LetterFilter
    from enricher.dead_letters.record import StoredLetter, encode
    from enricher.dead_letters.redis_list import ListLetterStore
    from enricher.dead_letters.redis_stream import StreamLetterStore
    from enricher.dead_letters.replay import Outcome, here, through
    from enricher.dead_letters.requests import RetryListener, by_worker
    from enricher.dead_letters.sink import DeadLetterSink
    from enricher.dead_letters.store import Added, LetterStore, UnknownLetter
    from enricher.dead_letters.target import TargetStream
    from enricher.engine.effects import DeadLetter
else:
    __getattr__, __dir__ = at_first_use(
        __name__,
        {
            "enricher.dead_letters.alert": "LengthAlert LengthWatch log_alert",
            "enricher.dead_letters.bulk": "Pace Report StopRule reprocess",
            "enricher.dead_letters.edits": "Edit",
            "enricher.dead_letters.filters": "EVERY FieldFilter LetterFilter",
            "enricher.dead_letters.record": "StoredLetter encode",
            "enricher.dead_letters.redis_list": "ListLetterStore",
            "enricher.dead_letters.replay": "Outcome here through",
            "enricher.dead_letters.requests": "RetryListener by_worker",
            "enricher.dead_letters.sink": "DeadLetterSink",
            "enricher.dead_letters.store": "Added LetterStore UnknownLetter",
            "enricher.dead_letters.redis_stream": "StreamLetterStore",
            "enricher.dead_letters.target": "TargetStream",
            "enricher.engine.effects": "DeadLetter",
        },
    )

__all__ = [
    "EVERY",
    "Added",
    "DeadLetter",
    "DeadLetterSink",
    "Edit",
    "FieldFilter",
    "LengthAlert",
    "LengthWatch",
    "LetterFilter",
    "LetterStore",
    "ListLetterStore",
    "Outcome",
    "Pace",
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
    "through",
]
