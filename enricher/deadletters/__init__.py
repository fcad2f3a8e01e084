"""Dead letters: messages set aside, whole, with why; looked at, filtered, edited and tried again.

What is listed here is promised, and is used without a worker as well as by one. `docs/letters.md` shows it.
"""

from typing import TYPE_CHECKING

from enricher.promises import at_first_use

if TYPE_CHECKING:
    from enricher.deadletters.alert import LengthAlert, LengthWatch, log_alert
    from enricher.deadletters.bulk import Pace, Report, StopRule, reprocess
    from enricher.deadletters.edits import Edit
    from enricher.deadletters.filters import EVERY, FieldFilter, LetterFilter
    from enricher.deadletters.record import StoredLetter, encode
    from enricher.deadletters.redis import ListLetterStore
    from enricher.deadletters.replay import Outcome, here, through
    from enricher.deadletters.requests import RetryListener, by_worker
    from enricher.deadletters.sink import DeadLetterSink
    from enricher.deadletters.store import Added, LetterStore, UnknownLetter
    from enricher.deadletters.streams import StreamLetterStore
    from enricher.deadletters.target import TargetStream
    from enricher.engine.effects import DeadLetter
else:
    __getattr__, __dir__ = at_first_use(
        __name__,
        {
            "enricher.deadletters.alert": "LengthAlert LengthWatch log_alert",
            "enricher.deadletters.bulk": "Pace Report StopRule reprocess",
            "enricher.deadletters.edits": "Edit",
            "enricher.deadletters.filters": "EVERY FieldFilter LetterFilter",
            "enricher.deadletters.record": "StoredLetter encode",
            "enricher.deadletters.redis": "ListLetterStore",
            "enricher.deadletters.replay": "Outcome here through",
            "enricher.deadletters.requests": "RetryListener by_worker",
            "enricher.deadletters.sink": "DeadLetterSink",
            "enricher.deadletters.store": "Added LetterStore UnknownLetter",
            "enricher.deadletters.streams": "StreamLetterStore",
            "enricher.deadletters.target": "TargetStream",
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
