"""Mails that are written to hurt: each is read, with its defects named."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from enricher.mail.message import parse_message
from enricher.mail.mime import DEEPEST
from enricher.storable import check_storable


def nested(levels: int, inside: bytes = b"hi\n", *, closed: bool = True) -> bytes:
    opened = (b"Content-Type: multipart/mixed; boundary=b%d.\n\n--b%d.\n" % (n, n) for n in range(levels))
    ends = (b"\n--b%d.--\n" % n for n in reversed(range(levels)))
    return b"".join(opened) + b"\n" + inside + (b"".join(ends) if closed else b"")


def many(count: int, kind: bytes = b"mixed") -> bytes:
    return b"Content-Type: multipart/%s; boundary=b\n\n" % kind + b"--b\n\nx\n" * count + b"--b--\n"


STATUS = b"Content-Type: message/delivery-status\n\n"
ENDLESS: dict[str, Callable[[int], bytes]] = {
    "headers": lambda n: b"".join(b"X-%d: v\n" % i for i in range(n)) + b"\nhi",
    "folds": lambda n: b"Subject: a\n" + b" b\n" * n + b"\nhi",
    "encoded words": lambda n: b"Subject: " + b"=?utf-8?q?=C3=BC?= " * n + b"\n\nhi",
    "beginnings of words": lambda n: b"Subject: " + b"=?utf-8?q?" * n + b"\n\nhi",
    "recipients": lambda n: b"To: " + b'"a, b" <a@b>, ' * n + b"\n\nhi",
    "open quotes": lambda n: b'To: "' + b"a, " * n + b"\n\nhi",
    "comments": lambda n: b"To: " + b"(" * n + b"\n\nhi",
    "open brackets": lambda n: b"Message-ID: " + b"<" * n + b"\nReferences: " + b"<" * n + b"\n\nhi",
    "disposition": lambda n: b"Content-Disposition: attachment" + b"; a*0*=b" * n + b"\n\nhi",
    "parameters": lambda n: b"Content-Type: text/plain" + b"; a=b" * n + b"\n\nhi",
    "spaces in a type": lambda n: b"Content-Type: text/plain" + b" " * n + b"x\n\nhi",
    "semicolons in a type": lambda n: b"Content-Type: text/plain" + b" ;" * n + b"x\n\nhi",
    "quotes in a type": lambda n: b"Content-Type: multipart/mixed" + b';a="' * n + b";boundary=b\n\n--b",
    "bytes in a type": lambda n: b"Content-Type: text/plain; name=" + b"\xff" * n + b"\n\nhi",
    "wrong base64": lambda n: b"Content-Transfer-Encoding: base64\n\n" + b"!!abc=d\n" * n,
    "wrong codes": lambda n: b"Content-Transfer-Encoding: quoted-printable\n\n" + b"=ZZ=\xff=\n" * n,
    "NULs": lambda n: b"Subject: a\x00b\n\n" + b"\x00" * n,
    "a line": lambda n: b"Subject: " + b"a" * n + b"\n\n" + b"b" * n,
    "lines without a break": lambda n: b"A: b\r" * n,
    "false boundaries": lambda n: many(1).replace(b"x", b"--bx\n" * n),
    "parts": many,
    "parts never closed": lambda n: many(n)[:-6],
    "reports": lambda n: b"Content-Type: message/delivery-status\n\n" + b"A: b\n\n" * n,
    "levels": nested,
    "levels never closed": lambda n: nested(n, closed=False),
    "messages in messages": lambda n: b"Content-Type: message/rfc822\n\n" * n + b"A: b\n\nhi",
    "lines in levels": lambda n: nested(DEEPEST - 1, b"line\n" * n),
    "hyphens in levels": lambda n: nested(DEEPEST - 1, b"--b3x\n" * n),
    "parts without a blank line": lambda n: many(n).replace(b"--b\n\n", b"--b\n"),
    "lines that are no headers": lambda n: b"oops\n" * n + b"Subject: a\n\nhi",
    "headers with blanks": lambda n: b"X : v\n" * n + b"\nhi",
    "carriage returns": lambda n: b"Subject: a" + b"\r" * n + b"b\nX: y\n\nhi",
    "blank lines": lambda n: b"\r\n" * n + b"Subject: a\n\nhi",
    "closed brackets": lambda n: b"To: " + b"<a " * n + b">\n\nhi",
    "quotes": lambda n: b"To: " + b'"a" b"' * n + b"\n\nhi",
    "escapes": lambda n: b'To: "' + b"\\\"" * n + b"\n\nhi",
    "colons": lambda n: b"To: " + b"a:" * n + b"\n\nhi",
    "colons before a group's end": lambda n: b"To: " + b"a@b:" * n + b";\n\nhi",
    "addresses of one person": lambda n: b"To: Ann " + b"<a@b> " * n + b"\n\nhi",
    "words of one person": lambda n: b"To: " + b"a " * n + b"<a@b>, b@c\n\nhi",
    "addresses by blanks": lambda n: b"To: " + b"a@b " * n + b"\n\nhi",
    "words without end": lambda n: b"To: " + b"=?a?q?" * n + b"\nSubject: " + b"=?a?q?a" * n + b"\n\nhi",
    "padding": lambda n: b"Content-Transfer-Encoding: base64\n\n" + b"QQ==" * n,
    "escapes of charsets": lambda n: b"Content-Type: text/plain; charset=iso-2022-jp\n\n" + b"\x1b(B" * n,
    "bad bytes": lambda n: b"Content-Type: text/plain; charset=utf-8\n\n" + b"\xc3" * n,
    "dates": lambda n: b"Date: " + b"1 Jan " * n + b"\n\nhi",
    "results": lambda n: b"Authentication-Results: a" + b"; spf=pass" * n + b"\n\nhi",
    "names in brackets": lambda n: b"From: " + b"a@b " * n + b"<c@d>\nReply-To: " + b"a@b," * n + b"\n\nhi",
    **{
        f"HTML: {piece}": lambda n, piece=piece: b"Content-Type: text/html\n\n" + piece.encode() * n
        for piece in (
            *("<td>", "<a href=x>", "<a href='", "<a \"", '<a ">"', "<!--", "<script>", "<b", "&", "<", "</"),
            *("<div>", "<svg>", "<a " + "=" * 9, "<a" + " " * 99, "\u202e", "<base href=x><a href=y>"),
        )
    },
    "calendar": lambda n: b"Content-Type: text/calendar\n\nBEGIN:VCALENDAR\n" + b"BEGIN:VEVENT\nUID:1\n" * n,
    "bounces": lambda n: STATUS + b"Final-Recipient: rfc822; a@b\n\n" * n,
    "complaints": lambda n: STATUS.replace(b"delivery-status", b"feedback-report") + b"A: b\n" * n,
}


def steps(work: Callable[[], Any]) -> int:
    """Calls that the interpreter makes for it, of Python and of C, and lines that it runs: a loop within a
    line counts at each turn."""
    count = 0

    def called(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal count
        count += event == "c_call"

    def entered(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        count += 1
        return entered

    before = sys.getprofile(), sys.gettrace()
    sys.setprofile(called)
    sys.settrace(entered)
    try:
        work()
    finally:
        sys.setprofile(before[0])
        sys.settrace(before[1])
    return count


def read(raw: bytes) -> str:
    """What is wrong with it; all that is read can be stored."""
    mail = parse_message(raw, id="x")
    check_storable(mail.document(), texts_only=True)
    assert mail.size == len(raw)
    return " ".join(mail.defects)


@pytest.mark.parametrize("what", ENDLESS)
def test_twice_of_anything_is_at_most_twice_the_work(what: str) -> None:
    make = ENDLESS[what]
    once, twice = make(150), make(300)
    read(once)  # what is compiled once
    assert steps(lambda: parse_message(twice)) <= 2.2 * steps(lambda: parse_message(once)) + 500


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (ENDLESS["headers"](10_000), "TooManyHeadersDefect"),
        (ENDLESS["recipients"](100_000), "TooManyAddressesDefect"),
        (ENDLESS["wrong base64"](10), "InvalidBase64CharactersDefect"),
        (ENDLESS["wrong codes"](10), "UndecodableBytesDefect"),
        (ENDLESS["quotes in a type"](10_000), "NoBoundaryInMultipartDefect"),
        (many(5000), "TooManyPartsDefect"),
        (many(20_000, b"digest"), "TooManyPartsDefect"),
        (nested(1000), "TooManyLevelsDefect"),
        (nested(1000, closed=False), "TooManyLevelsDefect"),
        (nested(DEEPEST + 1), "TooManyLevelsDefect"),
        (b"Content-Type: text/plain; charset=\n\n\xff", "UndecodableBytesDefect"),
        (b"Content-Type: text/plain; charset=no-such\n\n\xff", "UndecodableBytesDefect"),
        (b"Subject: a\nSub\x00ject: a\n\nhi", "InvalidHeaderDefect"),
        (b"Sub\x00ject: a\n\nhi", "MissingHeaderBodySeparatorDefect"),
    ],
)
def test_what_is_wrong_is_said_by_name(raw: bytes, said: str) -> None:
    assert said in read(raw)


def test_what_is_only_odd_is_read_without_a_word() -> None:
    assert read(nested(DEEPEST)) == ""
    assert parse_message(nested(DEEPEST)).text == "hi\n"
    mail = parse_message(b"Subject: a\x00b\xfc\nFrom: \xe4 <a@b>\n\n\x00" + b"x" * 100_000)
    assert mail.subject == "a\x00bü"
    assert mail.from_[0].name == "ä"
    assert mail.text is not None
    assert len(mail.text) == 100_001
    assert mail.defects == ("UndecodableBytesDefect",)


def test_a_megabyte_of_brackets_is_looked_at_once() -> None:
    assert parse_message(b"References: " + b"<" * 1_000_000 + b"\n\nhi").references == ()


def test_a_megabyte_without_a_colon_is_looked_at_once() -> None:
    # From each of its characters anew it would be hours.
    assert "MissingHeaderBodySeparatorDefect" in read(b"a" * 1_000_000 + b"\n\nhi")
