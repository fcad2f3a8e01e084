"""What a stream entry says, and which mail it is."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enricher.adapters.redis.stream.entry import whole
from enricher.errors import BadMessage
from enricher.mail.entries import identity_of, read_entry
from enricher.mail.message import parse_message
from enricher.mail.models import Attachment, Mail, Mailbox
from enricher.mail.parsed import mail_of_fields

RAW = b"From: a@b\r\nMessage-ID: <m@x>\r\nSubject: s\xc3\xa9\r\n\r\nHello >>>?\r\n"


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def parsed(**fields: Any) -> Mail:
    entry = read_entry(body(**fields))
    return mail_of_fields(entry.fields, id=entry.id, message_id=entry.message_id)


@pytest.mark.parametrize(
    "value",
    [
        RAW,
        b64encode(RAW),
        urlsafe_b64encode(RAW),
        urlsafe_b64encode(RAW).rstrip(b"="),
        b"\n".join([b64encode(RAW)[:40], b64encode(RAW)[40:]]),
    ],
)
def test_a_message_comes_as_text_or_in_base64(value: bytes) -> None:
    entry = read_entry(whole({b"raw": value}))
    assert (entry.raw, entry.id) == (RAW, "m@x")


def test_a_message_that_is_no_utf_8_keeps_its_bytes() -> None:
    raw = b"Subject: x\n\n\xff\xfe"
    assert read_entry(whole({b"raw": raw})).raw == raw


def test_words_without_any_header_are_text_and_not_base64() -> None:
    assert read_entry(body(raw="test")).raw == b"test"


def test_other_fields_are_handed_on_unchanged() -> None:
    fields = {b"raw": RAW, b"tenant": b"acme", b"blob": b"\xff\x00", b"message_id": b"<f@x>"}
    entry = read_entry(whole(fields))
    assert entry.fields == {"tenant": "acme", "blob": b"\xff\x00"}
    assert (entry.id, entry.message_id) == ("f@x", "<f@x>")


@pytest.mark.parametrize(
    ("fields", "identity"),
    [
        ({"message_id": "<1@x>", "raw": RAW.decode()}, "1@x"),
        ({"message_id": "18c2", "subject": "s"}, "18c2"),
        ({"raw": RAW.decode()}, "m@x"),
        ({"message_id": "", "raw": RAW.decode()}, "m@x"),
        ({"raw": "MESSAGE-ID:\n <folded@x>\n\nMessage-ID: <not@this>"}, "folded@x"),
        ({"raw": "\ufeffMessage-ID : <m@x>\noops\nSubject: s\n\nx"}, "m@x"),
        ({"raw": "\n\nMessage-ID: <m@x>\r\r\nSubject: s\r\r\n\r\r\nMessage-ID: <not@this>"}, "m@x"),
        ({"raw": "Subject: s\rMessage-ID: <m@x>\r\rx"}, "m@x"),
    ],
)
def test_the_field_tells_who_a_mail_is_else_the_header(fields: dict[str, str], identity: str) -> None:
    assert read_entry(body(**fields)).id == identity
    assert identity_of(body(**fields)) == identity


def test_a_mail_without_a_name_is_known_by_its_bytes() -> None:
    one, same, other = (read_entry(body(raw=f"Subject: {s}\n\nx")).id for s in "aab")
    assert one == same != other
    assert one.startswith("sha256:")


@pytest.mark.parametrize(
    "fields",
    [
        lambda odd: {b"message_id": odd, b"subject": b"s"},
        lambda odd: {b"raw": b"Message-ID: <" + odd + b"@x>\n\nx"},
    ],
)
def test_ids_that_no_text_can_hold_are_told_apart(fields: Callable[[bytes], dict[bytes, bytes]]) -> None:
    bodies = [whole(fields(odd)) for odd in (b"\xff\xff", b"\xfe\xfe")]
    first, second = (read_entry(each).id for each in bodies)
    assert first != second
    assert [identity_of(each) for each in bodies] == [first, second]


def test_an_endless_id_is_cut_down_to_a_digest() -> None:
    assert len(read_entry(body(message_id="x" * 100_000, subject="s")).id) < 100


@given(st.binary(max_size=300))
@settings(max_examples=100, deadline=None)
def test_the_lane_and_the_mail_agree_on_who_it_is(data: bytes) -> None:
    for raw in (data, b"Message-ID: " + data + b"\n\n"):
        whole_body = whole({b"raw": raw})
        try:
            entry = read_entry(whole_body)
        except BadMessage:
            continue
        assert identity_of(whole_body) == entry.id
        header = parse_message(raw).message_id
        if header is None and entry.raw == raw:
            assert entry.id.startswith("sha256:") or b"essage-" in raw or b"ESSAGE-" in raw


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (b"", "$"),
        (b"[]", "$"),
        (b"{}", "$"),
        (body(tenant="x"), "$"),
        (body(raw=""), "$.raw"),
        (body(raw="  \n"), "$.raw"),
        (body(raw=7), "$.raw"),
    ],
)
def test_what_is_no_mail_is_refused_by_name(value: bytes, path: str) -> None:
    with pytest.raises(BadMessage) as refused:
        read_entry(value)
    assert refused.value.path == path


def test_parsed_fields_make_the_same_kind_of_mail() -> None:
    mail = parsed(
        message_id="<1@x>",
        **{"from": "Ann <a@b>"},
        to='[{"name": "Bob", "email": "b@c"}, "c@d"]',
        cc="d@e, E <e@f>",
        subject="=?utf-8?q?gr=C3=BCn?=",
        date="2026-02-16T10:00:00+01:00",
        body="hi",
        html="<p>hi</p>",
        references="<0@x> <00@x>",
        attachments='[{"filename": "a.pdf", "mimeType": "application/pdf", "size": 3}]',
        headers='{"X-A": "1"}',
        tenant="acme",
    )
    assert (mail.id, mail.message_id, mail.thread) == ("1@x", "<1@x>", "0@x")
    assert mail.from_ == (Mailbox("Ann", "a@b"),)
    assert mail.to == (Mailbox("Bob", "b@c"), Mailbox("", "c@d"))
    assert mail.cc == (Mailbox("", "d@e"), Mailbox("E", "e@f"))
    assert (mail.subject, mail.text, mail.html) == ("grün", "hi", "<p>hi</p>")
    assert mail.date == datetime(2026, 2, 16, 9, tzinfo=UTC)
    assert mail.attachments == (
        Attachment(
            filename="a.pdf", content_type="application/pdf", disposition=None, content_id=None, size=3
        ),
    )
    assert mail.headers == (("X-A", "1"),)
    assert (mail.fields, mail.defects, mail.raw, mail.size) == ({"tenant": "acme"}, (), None, None)


def test_parsed_fields_are_read_as_a_message_is() -> None:
    mail = parsed(
        html='<p>Pay at <a href="https://evil.example">bank.example</a><script>x</script>',
        headers={
            "From": "boss@bank.example <x@evil.example>",
            "Reply-To": "y@evil.example",
            "Subject": "=?utf-8?q?gr=C3=BCn?=",
            "Date": "Mon, 16 Feb 2026 10:00:00 +0100",
            "In-Reply-To": "<1@x>",
            "Authentication-Results": ["mx.example; spf=fail", "mx2.example; dkim=pass"],
        },
        attachments=[{"filename": "a\u202efdp.exe", "content_type": "application/pkcs7-signature; name=x"}],
    )
    assert (mail.html_text, mail.links[0].target) == ("Pay at bank.example", "https://evil.example")
    assert mail.from_ == (Mailbox("boss@bank.example", "x@evil.example"),)
    assert (mail.subject, mail.thread, mail.date) == ("grün", "1@x", datetime(2026, 2, 16, 9, tzinfo=UTC))
    assert [(one.host, one.result) for one in mail.authentication] == [
        ("mx.example", "fail"),
        ("mx2.example", "pass"),
    ]
    assert mail.warnings == ("ReplyToDiffers", "AddressInName", "HiddenCharacters", "LinkTextDiffers")
    assert (mail.attachments[0].role, mail.protection) == ("smime-signature", ("smime-signed",))


def test_people_of_parsed_fields_have_addresses_or_none() -> None:
    mail = parsed(to=[{"name": "=?utf-8?q?B=C3=BC?=", "address": "@b.example"}, {"email": "<a@b>"}, "x@y"])
    assert mail.to == (Mailbox("Bü @b.example", ""), Mailbox("", "a@b"), Mailbox("", "x@y"))
    assert mail.defects == ("InvalidAddressDefect",)


@pytest.mark.parametrize(
    "text",
    [
        "2026-02-16T09:00:00Z",
        "2026-02-16 09:00:00",
        "Mon, 16 Feb 2026 10:00:00 +0100",
        "1771232400",
        "1771232400000",
    ],
)
def test_a_date_may_be_written_in_many_ways(text: str) -> None:
    assert parsed(subject="s", date=text).date == datetime(2026, 2, 16, 9, tzinfo=UTC)


def test_what_cannot_be_read_is_a_defect_and_stays_with_the_fields() -> None:
    mail = parsed(subject="s", date="soon", attachments="two", headers="[1]")
    assert mail.fields == {"date": "soon", "attachments": "two", "headers": "[1]"}
    assert set(mail.defects) == {"InvalidDateDefect", "InvalidAttachmentsDefect", "InvalidHeadersDefect"}


NAMES = ["from", "to", "subject", "date", "body", "html", "references", "attachments", "headers", "thread_id"]
VALUES = st.one_of(
    st.text(max_size=30), st.none(), st.integers(), st.lists(st.text(max_size=3), max_size=2)
)


@given(st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1))
@settings(max_examples=100, deadline=None)
def test_any_values_make_a_mail_or_are_refused(fields: dict[str, Any]) -> None:
    try:
        mail = parsed(**fields)
    except BadMessage:
        return
    assert mail.document()["_id"]
