"""Real and broken messages, read beside the standard library's strict and slow policy.

CPython's own corpus (test/test_email/data) where this interpreter ships it, else as many written here.
"""

from __future__ import annotations

import email
import importlib.util
from collections.abc import Iterator
from email import policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from enricher.mail import Mail, parse_message

# What the two read differently on purpose: a mailbox's name in a comment, "(Name)", is a name to us, and so
# is a word that cannot be an address; several texts shown one after the other are one body; what a broken
# multipart holds is text, not nothing; a part after one that nobody closed is a part.
COMMENTS = {"msg_01", "msg_03", "msg_04", "msg_06", "msg_14", "msg_20", "msg_27", "msg_29", "msg_44"}
WORDS = {"msg_05", "msg_15"}
PARTS_LOST = {"msg_15"}
BODIES_LOST = {"msg_17", "msg_19", "msg_24", "msg_25", "msg_31", "msg_36", "msg_41", "msg_42"}


def corpus() -> Iterator[tuple[str, bytes]]:
    package = importlib.util.find_spec("test.test_email") if importlib.util.find_spec("test") else None
    folder = Path(package.origin).parent / "data" if package is not None and package.origin else Path("/none")
    files = sorted(folder.glob("msg_*.txt"))
    if files:
        for file in files:
            yield file.stem, file.read_bytes()
    else:
        yield from written()


def written() -> Iterator[tuple[str, bytes]]:
    for number, charset in enumerate(("us-ascii", "utf-8", "iso-8859-1", "iso-2022-jp", "koi8-r")):
        message = EmailMessage()
        message["From"] = "Ann <a@b.example>"
        message["To"] = "b@c.example, C D <c@d.example>"
        message["Subject"] = f"message {number}"
        message.set_content("words\n", charset=charset)
        message.add_alternative("<p>words</p>\n", subtype="html", charset=charset)
        message.add_attachment(b"data", maintype="image", subtype="png", filename=f"{number}.png")
        raw = message.as_bytes()
        yield f"written_{number}", raw
        yield f"cut_{number}", raw[: len(raw) * 2 // 3]


MESSAGES = dict(corpus())


def both(name: str) -> tuple[Mail, Any]:
    return parse_message(MESSAGES[name]), email.message_from_bytes(MESSAGES[name], policy=policy.default)


def test_there_is_something_to_read() -> None:
    assert len(MESSAGES) >= 10


@pytest.mark.parametrize("name", MESSAGES)
def test_subject_and_people_are_the_same(name: str) -> None:
    mail, peer = both(name)
    assert mail.subject == (peer["subject"] or "")
    for header, read in (("from", mail.from_), ("to", mail.to), ("cc", mail.cc)):
        people = [person for value in peer.get_all(header, []) for person in value.addresses]
        if name not in WORDS:
            assert [one.address for one in read] == [p.addr_spec.replace("<>", "") for p in people]
        if name not in COMMENTS | WORDS:
            assert [one.name for one in read] == [p.display_name for p in people]


@pytest.mark.parametrize("name", MESSAGES)
def test_bodies_are_the_same_and_more_of_them(name: str) -> None:
    mail, peer = both(name)
    for kind, read in (("plain", mail.text), ("html", mail.html)):
        part = peer.get_body((kind,))
        if part is None:
            assert read is None or name in BODIES_LOST
        else:
            assert part.get_content().strip() in (read or "")


@pytest.mark.parametrize("name", MESSAGES)
def test_attachments_have_the_same_names_and_types(name: str) -> None:
    mail, peer = both(name)
    named = [
        (part.get_filename(), part.get_content_type())
        for part in peer.walk()
        if part.get_filename() and part.get_content_maintype() not in ("message", "multipart")
    ]
    listed = [a for a in mail.attachments if not a.content_type.startswith("message/")]
    found = [(a.filename, a.content_type) for a in listed if a.filename]
    assert found == named or (name in PARTS_LOST and len(found) > len(named))


@pytest.mark.parametrize("name", MESSAGES)
def test_the_message_itself_is_found_wanting_wherever_the_standard_library_does(name: str) -> None:
    mail, peer = both(name)
    own = {type(defect).__name__ for defect in peer.defects}
    assert own <= set(mail.defects)


@pytest.mark.parametrize("name", MESSAGES)
def test_every_header_is_kept_in_order(name: str) -> None:
    mail, peer = both(name)
    assert [header for header, _ in mail.headers] == peer.keys()


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_cut_anywhere_is_still_read(name: str) -> None:
    raw = MESSAGES[name]
    for length in range(0, len(raw), max(len(raw) // 25, 1)):
        assert parse_message(raw[:length]).size == length
