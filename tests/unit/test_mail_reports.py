"""Parts with a meaning of their own: delivery reports, complaints, calendars, signatures."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from enricher.mail.calendars import events
from enricher.mail.message import parse_message
from enricher.mail.models import Mail, Mailbox
from enricher.storable import check_storable


def report(kind: str, *parts: tuple[str, str]) -> Mail:
    body = "".join(f"--b\r\nContent-Type: {type_}\r\n\r\n{text}\r\n" for type_, text in parts)
    head = f'Content-Type: multipart/report; report-type={kind}; boundary="b"'
    mail = parse_message(f"From: <>\r\n{head}\r\n\r\n{body}--b--\r\n".encode())
    check_storable(mail.document())
    return mail


STATUS = """Reporting-MTA: dns; mx.example.org\r
Arrival-Date: Thu, 1 Jan 2026 10:00:00 +0000\r
\r
Original-Recipient: rfc822;bob@b.example\r
Final-Recipient: RFC822; <robert@b.example>\r
Action: Failed\r
Status: 5.1.1 (no such user)\r
Remote-MTA: dns; mail.b.example\r
Diagnostic-Code: smtp; 550 5.1.1 no such user\r
 here\r
\r
 \r
Final-Recipient : rfc822; carol@b.example\r
oops\r
Action: delayed\r
Status: 4.4.7\r
"""


def test_a_delivery_report_says_who_bounced_and_why() -> None:
    original = ("message/rfc822", "Message-ID: <1@x>\r\nSubject: hi\r\n\r\nbody")
    mail = report("delivery-status", ("text/plain", "sorry"), ("message/delivery-status", STATUS), original)
    first, second = mail.bounces
    assert (first.recipient, first.original_recipient) == ("robert@b.example", "bob@b.example")
    assert (first.action, first.status, first.host) == ("failed", "5.1.1", "mail.b.example")
    assert (first.reason, first.reported_by) == ("550 5.1.1 no such user here", "mx.example.org")
    assert (second.recipient, second.action, second.status) == ("carol@b.example", "delayed", "4.4.7")
    assert {one.message_id for one in mail.bounces} == {"1@x"}
    assert mail.text == "sorry"
    assert [one.role for one in mail.attachments] == ["delivery-report", "message"]


@pytest.mark.parametrize("type_", ["text/rfc822-headers", "message/rfc822-headers", "message/global"])
def test_the_mail_that_bounced_is_known_by_its_header_alone(type_: str) -> None:
    status = "Final-Recipient: utf-8; jörg@b.example\r\nAction: failed\r\n"
    parts = (("message/global-delivery-status", status), (type_, "Subject: x\r\nMessage-ID: <2@x>\r\n"))
    (bounce,) = report("delivery-status", *parts).bounces
    assert (bounce.recipient, bounce.message_id, bounce.status) == ("jörg@b.example", "2@x", "")


def test_a_complaint_says_about_what() -> None:
    text = (
        "Feedback-Type: abuse\r\nUser-Agent: SomeGenerator/1.0\r\nVersion: 1\r\nSource-IP: 192.0.2.1\r\n"
        "Original-Mail-From: <somespammer@a.example>\r\nOriginal-Rcpt-To: <user@b.example>\r\n"
        "Original-Rcpt-To: <other@b.example>\r\nReported-Domain: a.example\r\n"
        "Received-Date: Thu, 8 Mar 2005 14:00:00 EDT\r\n"
    )
    original = ("message/rfc822", "Message-ID: <3@x>\r\n\r\n")
    mail = report("feedback-report", ("message/feedback-report", text), original)
    found = mail.feedback
    assert found is not None
    assert (found.kind, found.reported_by, found.source_ip) == ("abuse", "SomeGenerator/1.0", "192.0.2.1")
    assert found.sender == "somespammer@a.example"
    assert found.recipients == ("user@b.example", "other@b.example")
    assert (found.domains, found.message_id) == (("a.example",), "3@x")
    assert found.arrived == datetime(2005, 3, 8, 18, tzinfo=UTC)
    assert mail.document()["feedback"]["recipients"] == ["user@b.example", "other@b.example"]


def test_a_report_in_pieces_is_none() -> None:
    assert report("delivery-status", ("message/delivery-status", "")).bounces == ()
    assert report("delivery-status", ("message/delivery-status", "\0\r\n\r\n: x\r\n")).bounces == ()
    empty = report("feedback-report", ("message/feedback-report", "")).feedback
    assert empty is not None
    assert (empty.kind, empty.message_id) == ("", None)


ZONE = """BEGIN:VTIMEZONE
TZID:{name}
BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:+0200
TZOFFSETTO:+0100
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:+0100
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE
"""


def invite(*lines: str, zone: str = "", method: str = "METHOD:REQUEST") -> str:
    inside = "\r\n".join(lines)
    return f"BEGIN:VCALENDAR\r\n{method}\r\n{zone}BEGIN:VEVENT\r\n{inside}\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n"


def test_an_invitation_is_read() -> None:
    text = invite(
        "UID:1@cal",
        "SEQUENCE:2",
        "STATUS:confirmed",
        "SUMMARY;LANGUAGE=de:Essen\\, dann",
        "  Kaffee\\nviel",
        'ORGANIZER;CN="Ann: the boss";ROLE=CHAIR:mailto:ann@a.example',
        "ATTENDEE;CN=Bob;PARTSTAT=NEEDS-ACTION:MAILTO:bob@b.example",
        "ATTENDEE:urn:x",
        "DTSTART;TZID=Europe/Berlin:20260701T120000",
        "DURATION:PT1H30M",
        "RRULE:FREQ=DAILY;COUNT=3",
        "LOCATION:Köln",
        "BEGIN:VALARM",
        "SUMMARY:not this",
        "END:VALARM",
    )
    mail = parse_message(f"Content-Type: text/calendar; charset=utf-8; method=REQUEST\r\n\r\n{text}".encode())
    check_storable(mail.document())
    (event,) = mail.events
    assert (event.method, event.uid, event.sequence, event.status) == ("REQUEST", "1@cal", 2, "CONFIRMED")
    assert (event.summary, event.location) == ("Essen, dann Kaffee\nviel", "Köln")
    assert event.start == datetime(2026, 7, 1, 10, tzinfo=UTC)
    assert event.end == datetime(2026, 7, 1, 11, 30, tzinfo=UTC)
    assert (event.organizer, event.attendees) == (
        Mailbox("Ann: the boss", "ann@a.example"),
        (Mailbox("Bob", "bob@b.example"), Mailbox("", "")),
    )
    assert (event.zone, event.all_day, event.recurrence) == ("Europe/Berlin", False, "FREQ=DAILY;COUNT=3")
    assert (mail.defects, mail.attachments[0].role) == ((), "calendar")


@pytest.mark.parametrize(
    ("line", "zone", "start"),
    [
        ("DTSTART:20260701T120000Z", "", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("DTSTART:20260701T120000", "", datetime(2026, 7, 1, 12, tzinfo=UTC)),
        ("DTSTART;VALUE=DATE:20260701", "", datetime(2026, 7, 1, tzinfo=UTC)),
        ("DTSTART;TZID=America/New_York:20260701T120000", "", datetime(2026, 7, 1, 16, tzinfo=UTC)),
        ('DTSTART;TZID="My Zone":20260701T120000', ZONE, datetime(2026, 7, 1, 10, tzinfo=UTC)),
        ("DTSTART;TZID=My Zone:20260101T120000", ZONE, datetime(2026, 1, 1, 11, tzinfo=UTC)),
        ("DTSTART;TZID=My Zone:20260329T015900", ZONE, datetime(2026, 3, 29, 0, 59, tzinfo=UTC)),
        ("DTSTART;TZID=My Zone:20260329T030000", ZONE, datetime(2026, 3, 29, 1, tzinfo=UTC)),
        ("DTSTART;TZID=My Zone:20261025T030000", ZONE, datetime(2026, 10, 25, 2, tzinfo=UTC)),
        ("DTSTART;TZID=Nowhere:20260701T120000", "", None),
        ("DTSTART;TZID=../../etc/passwd:20260701T120000", "", None),
        ("DTSTART:20261301T120000", "", None),
        ("DTSTART:soon", "", None),
    ],
)
def test_an_event_begins_in_its_zone(line: str, zone: str, start: datetime | None) -> None:
    defects: dict[str, None] = {}
    text = invite("UID:1", line, zone=zone.format(name="My Zone").replace("\n", "\r\n"))
    (event,) = events(text.encode(), None, None, defects)
    assert (event.start, list(defects)) == (start, [] if start else ["InvalidCalendarDefect"])


def test_a_calendar_that_is_cut_is_read_as_far_as_it_goes() -> None:
    text = invite("UID:1", "SUMMARY:x", "DTSTART:20260701T120000Z")
    for length in range(0, text.index("END:VCALENDAR"), 7):
        defects: dict[str, None] = {}
        found = list(events(text[:length].encode(), "utf-8", None, defects))
        assert len(found) <= 1
        assert list(defects) == ["InvalidCalendarDefect"]
    many = invite("UID:1\r\nEND:VEVENT\r\nBEGIN:VEVENT\r\n" * 200)
    assert len(list(events(many.encode(), None, None, {}))) == 100
    defects = {}
    list(events(b"x" * 300_000, None, None, defects))
    assert list(defects) == ["LongCalendarDefect", "InvalidCalendarDefect"]


OID = "0\x80\x06\x09*\x86H\x86\xf7\r\x01\x07"


@pytest.mark.parametrize(
    ("head", "body", "role", "protection"),
    [
        ("application/pkcs7-signature; name=smime.p7s", "x", "smime-signature", "smime-signed"),
        ("application/x-pkcs7-signature", "x", "smime-signature", "smime-signed"),
        ("application/pkcs7-mime; smime-type=enveloped-data", "x", "smime-encrypted", "smime-encrypted"),
        ("application/x-pkcs7-mime; smime-type=Signed-Data", "x", "smime-signed", "smime-signed"),
        ("application/pkcs7-mime; smime-type=certs-only", "x", "smime-certificates", None),
        ("application/pkcs7-mime", OID + "\x03", "smime-encrypted", "smime-encrypted"),
        ("application/pkcs7-mime", OID + "\x02", "smime-signed", "smime-signed"),
        ("application/pkcs7-mime", "x", "smime", None),
        ("application/pgp-signature", "x", "pgp-signature", "pgp-signed"),
        ("application/pgp-encrypted", "Version: 1", "pgp-version", None),
        ("application/octet-stream", "-----BEGIN PGP MESSAGE-----", "pgp-encrypted", "pgp-encrypted"),
        ("application/pgp-keys", "x", "pgp-keys", None),
        ("application/ms-tnef; name=winmail.dat", "x", "tnef", None),
        ("message/disposition-notification", "x", "read-receipt", None),
        ("text/plain", "-----BEGIN PGP MESSAGE-----\r\n", None, "pgp-encrypted"),
        ("text/plain", "\r\n-----BEGIN PGP SIGNED MESSAGE-----\r\n", None, "pgp-signed"),
        ("application/pdf", "x", None, None),
    ],
)
def test_parts_that_protect_are_named_as_such(
    head: str, body: str, role: str | None, protection: str | None
) -> None:
    mail = parse_message(f"Content-Type: {head}\r\n\r\n".encode() + body.encode("latin-1"))
    assert mail.protection == ((protection,) if protection else ())
    assert [one.role for one in mail.attachments] == ([] if head == "text/plain" else [role])
