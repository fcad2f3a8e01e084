"""Parameters of Content-Type and Content-Disposition, by RFC 2045, 2231 and as senders write them."""

from __future__ import annotations

import pytest

from enricher.mail.parameters import split


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("Text/HTML", ("text/html", {})),
        ("text/plain; CHARSET=utf-8", ("text/plain", {"charset": "utf-8"})),
        ('attachment; filename="a;b \\"c\\".txt"', ("attachment", {"filename": 'a;b "c".txt'})),
        ("a; filename = plain name.txt ; size=3", ("a", {"filename": "plain name.txt", "size": "3"})),
        ("a; filename*=utf-8''gr%C3%BCn.pdf", ("a", {"filename": "grün.pdf"})),
        ("a; filename*=iso-8859-1'de'gr%FCn.pdf", ("a", {"filename": "grün.pdf"})),
        ("a; filename=x.pdf; filename*=utf-8''y.pdf", ("a", {"filename": "y.pdf"})),
        ("a; filename*1=b.pdf; filename*0=a", ("a", {"filename": "ab.pdf"})),
        ("a; filename*0*=utf-8''%C3; filename*1*=%BC; filename*2=.txt", ("a", {"filename": "ü.txt"})),
        ('a; filename="=?utf-8?q?gr=C3=BCn?="', ("a", {"filename": "grün"})),
        ('a; filename="unended', ("a", {"filename": "unended"})),
        ("a; name=one; name=two", ("a", {"name": "one"})),
        ("a; nonsense; =x; ok=1", ("a", {"ok": "1"})),
        ("", ("", {})),
    ],
)
def test_a_header_is_split(value: str, expected: tuple[str, dict[str, str]]) -> None:
    assert split(value) == expected
