"""Who a mail is from and to, in all the ways people write it."""

from __future__ import annotations

import pytest

from enricher.mail.addresses import mailboxes


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", []),
        ("a@b.example", [("", "a@b.example")]),
        ("Ann <a@b>", [("Ann", "a@b")]),
        ('"Doe, John" <j@b>', [("Doe, John", "j@b")]),
        ('"Quoted \\"Q\\" Name" <q@b>', [('Quoted "Q" Name', "q@b")]),
        ("a@b (Ann)", [("Ann", "a@b")]),
        ("Ann <a@b>, bob@c, <d@e>", [("Ann", "a@b"), ("", "bob@c"), ("", "d@e")]),
        ("Team: a@b, c@d;", [("", "a@b"), ("", "c@d")]),
        ("undisclosed-recipients:;", []),
        ("=?utf-8?q?J=C3=B6rg?= <j@x>", [("Jörg", "j@x")]),
        ('"=?utf-8?q?J=C3=B6rg?=" <j@x>', [("Jörg", "j@x")]),
        ("Jörg <j@müller.example>", [("Jörg", "j@müller.example")]),
        ("MAILER DAEMON <>", [("MAILER DAEMON", "")]),
    ],
)
def test_a_list_is_read(value: str, expected: list[tuple[str, str]]) -> None:
    assert [(one.name, one.address) for one in mailboxes(value)] == expected


def test_nobody_is_lost_of_a_list_that_is_no_list() -> None:
    assert any("Ann" in one.name or "Ann" in one.address for one in mailboxes("Ann"))


def test_comments_without_end_end() -> None:
    assert mailboxes("(" * 20_000 + "a@b")
