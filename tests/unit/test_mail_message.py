"""A mail is read as the standard library's strict, slow policy reads it, and better where that gives up."""

from __future__ import annotations

import email
from datetime import UTC, datetime
from email import policy
from email.message import EmailMessage
from email.utils import formataddr
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from enricher.mail.addresses import mailboxes
from enricher.mail.message import parse_message
from enricher.mail.models import Mailbox
from enricher.mail.threads import bare_id, ids

LETTERS = st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp", "Zs"), include_characters=" ")
NAME = st.text(LETTERS, max_size=80).map(lambda text: " ".join(text.split()))
ATOM = st.from_regex(r"[a-z0-9]{1,10}", fullmatch=True)


def peer(raw: bytes) -> Any:
    """The message as the standard library's new policy reads it."""
    return email.message_from_bytes(raw, policy=policy.default)


def lines(*parts: str | bytes) -> bytes:
    return b"\r\n".join(part.encode() if isinstance(part, str) else part for part in parts)


@given(NAME)
@example("Grüße aus Köln, eine längere Betreffzeile, die gefaltet wird")
@example("=?utf-8?q?not_a_word?=")
@settings(max_examples=60, deadline=None)
def test_a_subject_is_what_the_sender_wrote(subject: str) -> None:
    message = EmailMessage()
    message["Subject"] = subject
    raw = message.as_bytes()
    assert parse_message(raw).subject == str(peer(raw)["subject"]).strip()


@given(st.lists(st.tuples(NAME, ATOM, ATOM), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_recipients_are_who_the_sender_wrote(people: list[tuple[str, str, str]]) -> None:
    # One word a name: where it folds them, the standard library's new policy loses commas and spaces.
    written = [formataddr((name, f"{local}@{host}.example")) for name, local, host in people]
    raw = lines(f"To: {', '.join(written)}", "", "")
    read = parse_message(raw).to
    assert [one.address for one in read] == [a.addr_spec for a in peer(raw)["to"].addresses]
    assert [one.name for one in read] == [name for name, _, _ in people]


@given(NAME.filter(bool), st.binary(max_size=200))
@settings(max_examples=60, deadline=None)
def test_an_attachment_keeps_its_name_and_size(name: str, data: bytes) -> None:
    message = EmailMessage()
    message.set_content("see attached")
    message.add_attachment(data, maintype="application", subtype="pdf", filename=name)
    raw = message.as_bytes()
    (part,) = peer(raw).iter_attachments()
    (found,) = parse_message(raw).attachments
    assert found.filename == part.get_filename()
    assert (found.content_type, found.disposition) == ("application/pdf", "attachment")
    assert found.size == len(part.get_content())


@pytest.mark.parametrize("charset", ["utf-8", "iso-8859-1", "koi8-r", "iso-2022-jp", "gb18030", "utf-16"])
@pytest.mark.parametrize("encoding", ["base64", "quoted-printable"])
def test_bodies_are_read_in_their_charset(charset: str, encoding: str) -> None:
    words = {"koi8-r": "Привет", "iso-2022-jp": "こんにちは", "gb18030": "你好"}.get(charset, "Grüße")
    message = EmailMessage()
    message.set_content(f"{words}\n" * 5, charset=charset, cte=encoding)
    message.add_alternative(f"<p>{words}</p>\n", subtype="html", charset=charset, cte=encoding)
    raw = message.as_bytes()
    read, expected = parse_message(raw), peer(raw)
    assert read.text == expected.get_body(("plain",)).get_content()
    assert read.html == expected.get_body(("html",)).get_content()
    assert words in (read.text or "")
    # The standard library writes half a character at the end of UTF-16.
    assert read.defects == (("UndecodableBytesDefect",) if charset == "utf-16" else ())


@given(st.binary(max_size=400))
@example(b"")
@example(b"Subject: =?utf-8?b?w?=\n\n")
@example(b"Content-Type: multipart/mixed; boundary=a\n\n--a\n--a--")
@example(b'To: "unended <a@b>\nDate: 31 Feb 99999999999999999999 -9999\n\nx')
@example(b"Content-Type: text/plain; charset=zlib\n\n\xff\xfe")
@settings(max_examples=150, deadline=None)
def test_no_bytes_at_all_are_too_broken_to_be_read(data: bytes) -> None:
    for raw in (data, b"From: " + data + b"\nTo: " + data + b"\nContent-Type: " + data + b"\n\n" + data):
        mail = parse_message(raw)
        repr(mail.document()).encode()
        assert "\udc80" not in (mail.text or "") + mail.subject
        assert mail.size == len(raw)


def test_headers_and_parts_beyond_a_thousand_are_counted_as_a_defect() -> None:
    mail = parse_message(b"X-A: 1\n" * 1500 + b"\nhi")
    assert (len(mail.headers), mail.defects) == (1000, ("TooManyHeadersDefect",))
    parts = b"--b\nContent-Type: image/png\n\nx\n" * 1500
    mail = parse_message(b"Content-Type: multipart/mixed; boundary=b\n\n" + parts + b"--b--\n")
    assert (len(mail.attachments), mail.defects) == (1000, ("TooManyPartsDefect",))


def test_a_conversation_is_known_by_the_mail_that_began_it() -> None:
    first = parse_message(lines("Message-ID: <a@x>", "", ""))
    reply = parse_message(lines("Message-ID: <b@x>", "In-Reply-To: <a@x>", "", ""))
    chain = lines("Message-ID: <c@x>", "References: <a@x>\r\n <b@x>", "In-Reply-To: <b@x>", "", "")
    later = parse_message(chain)
    assert {first.thread, reply.thread, later.thread} == {"a@x"}
    assert (later.references, later.in_reply_to) == (("a@x", "b@x"), ("b@x",))


def test_message_ids_are_told_apart_without_brackets_and_folds() -> None:
    assert ids("<a@b> (old) <c@d>\t<a@b>") == ("a@b", "c@d")
    assert ids("a@b c@d") == ("a@b", "c@d")
    assert bare_id(" <a@\r\n b> ") == bare_id("a@b") == "a@b"


def test_a_date_becomes_utc_whatever_its_offset() -> None:
    aware = parse_message(b"Date: Mon, 16 Feb 2026 10:00:00 +0530\n\n")
    assert aware.date == datetime(2026, 2, 16, 4, 30, tzinfo=UTC)
    naive = parse_message(b"Date: Mon, 16 Feb 2026 10:00:00 -0000\n\n")
    assert naive.date == datetime(2026, 2, 16, 10, tzinfo=UTC)


def test_a_date_that_is_none_is_a_defect_and_stays_in_the_headers() -> None:
    mail = parse_message(b"Date: yesterday\nSubject: s\n\n")
    assert (mail.date, mail.defects) == (None, ("InvalidDateDefect",))
    assert ("Date", "yesterday") in mail.headers


def test_bytes_that_no_charset_was_declared_for_are_read_and_named_a_defect() -> None:
    assert parse_message("\n\ngrün".encode()).text == "\ngrün"
    windows = parse_message(b"Content-Type: text/plain; charset=utf-8\n\nna\xefve \x93x\x94")
    assert windows.text == "naïve “x”"
    assert windows.defects == ("UndecodableBytesDefect",)


def test_eight_bit_headers_are_read_as_utf_8_or_windows_1252() -> None:
    mail = parse_message("Subject: grün\nFrom: Jörg <j@x>\n\n".encode() + b"")
    assert (mail.subject, mail.from_) == ("grün", (Mailbox("Jörg", "j@x"),))
    assert parse_message(b"Subject: gr\xfcn\n\n").subject == "grün"


def test_an_encoded_comma_in_a_name_separates_nobody() -> None:
    mail = parse_message(b"To: =?utf-8?q?Doe=2C_J=C3=B6rg?= <j@x>, b@y\n\n")
    assert mail.to == (Mailbox("Doe, Jörg", "j@x"), Mailbox("", "b@y"))


def test_a_part_with_a_name_is_shown_and_can_be_saved_and_an_attached_text_is_no_body() -> None:
    raw = lines(
        "Content-Type: multipart/mixed; boundary=b",
        "",
        "--b",
        "Content-Type: text/plain; name=note.txt",
        "",
        "shown",
        "--b",
        "Content-Type: text/plain",
        "Content-Disposition: attachment; filename=hidden.txt",
        "",
        "hidden",
        "--b--",
        "",
    )
    mail = parse_message(raw)
    assert mail.text == "shown"
    assert [(a.filename, a.disposition) for a in mail.attachments] == [
        ("note.txt", None),
        ("hidden.txt", "attachment"),
    ]


def test_a_mail_within_a_mail_is_an_attachment_and_its_text_is_not_ours() -> None:
    inner = EmailMessage()
    inner["Subject"] = "inner"
    inner.set_content("inner text\n")
    outer = EmailMessage()
    outer.set_content("outer text\n")
    outer.add_attachment(inner)
    mail = parse_message(outer.as_bytes())
    assert mail.text == "outer text\n"
    (attached,) = mail.attachments
    assert attached.content_type == "message/rfc822"
    assert attached.size == len(inner.as_bytes())


def test_what_a_function_does_to_the_fields_it_is_handed_is_not_stored() -> None:
    mail = parse_message(b"Subject: x\n\n", id="f", fields={"tenant": "a"})
    document = mail.document()
    assert isinstance(mail.fields, dict)
    mail.fields["tenant"] = "b"
    assert document["fields"] == {"tenant": "a"}


def test_the_message_id_of_the_entry_wins_over_the_header() -> None:
    mail = parse_message(b"Message-ID: <h@x>\n\n", id="f", message_id="f", fields={"tenant": "t"})
    assert (mail.id, mail.message_id, mail.fields) == ("f", "f", {"tenant": "t"})
    assert mail.document()["_id"] == "f"
    assert "raw" not in mail.document()


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
