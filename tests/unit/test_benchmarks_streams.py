"""The mails that benchmarks send, and how it is told which of them are done."""

from __future__ import annotations

import pytest

from benchmarks.mails import done, mails
from benchmarks.parts import Options
from benchmarks.streams import run
from enricher.mail import parse_message


def test_a_mail_has_two_kilobytes_two_bodies_and_an_id_of_its_own() -> None:
    raw = mails(3, first=5)
    read = [parse_message(one) for one in raw]
    assert [mail.message_id for mail in read] == [f"<m.{n:08d}@example.org>" for n in (5, 6, 7)]
    assert all(1_800 < len(one) < 2_300 for one in raw)
    assert all(mail.text and mail.html and "für Köln" in mail.text and not mail.defects for mail in read)


def test_what_was_delivered_and_waits_for_nothing_is_done() -> None:
    ids = [b"9-0", b"10-0", b"10-1", b"11-0"]
    assert done(ids, b"10-1", [b"9-0"]) == [b"10-0", b"10-1"]
    assert done(ids, b"0-0", []) == []


def test_a_table_that_there_is_not_is_called_by_its_name() -> None:
    with pytest.raises(ValueError, match="must be one of mail, delay, intake, not 'all'"):
        run(Options(settings={"streams.only": "all"}))
