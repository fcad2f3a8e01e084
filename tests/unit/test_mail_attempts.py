"""Backoff per mail, as arithmetic."""

from __future__ import annotations

from enricher.engine.retry import GiveUp, Retry
from enricher.errors import BadMessage
from enricher.mail.attempts import Attempts, mail_policy
from enricher.mail.routes import retry_policy
from enricher.mail.settings import MailSettings


def test_each_wait_is_twice_as_long_up_to_the_longest() -> None:
    attempts = Attempts(mail_policy(initial=2, longest=10, max_retries=5))
    delays = [attempts.record_failure("a", OSError()) for _ in range(6)]
    assert delays == [Retry(2.0), Retry(4.0), Retry(8.0), Retry(10.0), Retry(10.0), GiveUp("failed 6 times")]


def test_mails_are_counted_apart_and_a_success_forgets() -> None:
    attempts = Attempts(mail_policy(max_retries=1))
    assert attempts.should_retry("a")
    attempts.record_failure("a", OSError())
    attempts.record_failure("a", OSError())
    assert attempts.failures("a") == 2
    assert (attempts.should_retry("a"), attempts.should_retry("b")) == (False, True)
    assert attempts.delay("b") == 0.0
    attempts.record_success("a")
    assert (attempts.failures("a"), attempts.should_retry("a")) == (0, True)


def test_a_bad_message_is_not_tried_again() -> None:
    assert isinstance(Attempts().record_failure("a", BadMessage("$", "better")), GiveUp)


def test_only_so_many_mails_are_remembered() -> None:
    attempts = Attempts(most=2)
    for name in ("a", "b", "a", "c"):
        attempts.record_failure(name, OSError())
    assert [attempts.failures(name) for name in ("a", "b", "c")] == [2, 0, 1]
    assert attempts.delay("a") == 4.0


def test_the_settings_make_the_same_policy() -> None:
    assert retry_policy(MailSettings()) == mail_policy()
