"""How often each mail was tried, and when it is its turn again: the retry policy per message id.

The mail route itself needs none of this: its delays wait in Redis, with the attempts of each entry. This is
for programs with a loop of their own.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal

from enricher.engine.retry import Decision, Retry, RetryPolicy
from enricher.texts import as_text


def mail_policy(
    initial: float = 2.0,
    longest: float = 3600.0,
    max_retries: int = 3,
    jitter: Literal["none", "full"] = "none",
) -> RetryPolicy:
    """Exponential backoff in seconds: ``initial``, doubled at each failure, at most ``longest``.

    >>> from enricher.engine.retry import Retry
    >>> [mail_policy().decide(attempt, OSError()) for attempt in (1, 2, 3)]
    [Retry(delay=2.0), Retry(delay=4.0), Retry(delay=8.0)]
    """
    return RetryPolicy(max_retries=max_retries, base=initial, factor=2.0, max_delay=longest, jitter=jitter)


class Attempts:
    """Counts failures by message id, of at most ``most`` ids: the one longest not heard of goes first."""

    def __init__(self, policy: RetryPolicy | None = None, *, most: int = 100_000) -> None:
        self.policy = policy or mail_policy()
        self._most = most
        self._failures: OrderedDict[str, int] = OrderedDict()

    def failures(self, message_id: str) -> int:
        """How often the mail has failed since it last succeeded."""
        return self._failures.get(as_text(message_id), 0)

    def should_retry(self, message_id: str) -> bool:
        """Whether the mail may be tried (again)."""
        return self.failures(message_id) <= self.policy.max_retries

    def record_failure(self, message_id: str, error: BaseException) -> Decision:
        """Count a failure; how long to wait before the next attempt, or that there is none."""
        message_id = as_text(message_id)
        number = self.failures(message_id) + 1
        self._failures[message_id] = number
        self._failures.move_to_end(message_id)
        if len(self._failures) > self._most:
            self._failures.popitem(last=False)
        return self.policy.decide(number, error)

    def record_success(self, message_id: str) -> None:
        """Forget the failures of a mail."""
        self._failures.pop(as_text(message_id), None)

    def delay(self, message_id: str) -> float:
        """Seconds between the last failure of a mail and its next attempt; 0 if it has not failed."""
        number = self.failures(message_id)
        if not number:
            return 0.0
        decision = self.policy.decide(number, OSError())
        return decision.delay if isinstance(decision, Retry) else 0.0
