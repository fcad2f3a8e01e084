"""Reads a folder of .eml files with our reader and with others, and lists where they differ.

    python -m benchmarks.mail_corpus FOLDER

The others are the standard library's `email` with its newest policy, and `mail-parser` where it is installed.
Subject, addresses, date, the text without white space, and the attachments' names are compared. A difference
is no verdict: look at the mail.
"""

from __future__ import annotations

import email
import email.policy
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from enricher.mail import parse_message
from enricher.storable import check_storable

_SHOWN = 120


def ours(raw: bytes) -> dict[str, Any]:
    mail = parse_message(raw)
    check_storable(mail.document())
    return {
        "subject": mail.subject,
        "from": [one.address for one in mail.from_ if one.address],
        "to": [one.address for one in mail.to if one.address],
        "date": mail.date,
        "text": "".join((mail.text or "").split()),
        "attachments": [one.filename for one in mail.attachments if one.filename],
    }


def standard_library(raw: bytes) -> dict[str, Any]:
    mail: Any = email.message_from_bytes(raw, policy=email.policy.default)
    body = mail.get_body(("plain",))
    when = mail["date"].datetime if mail["date"] else None
    return {
        "subject": str(mail["subject"] or ""),
        "from": [a.addr_spec for value in mail.get_all("from", ()) for a in value.addresses],
        "to": [a.addr_spec for value in mail.get_all("to", ()) for a in value.addresses],
        "date": _utc(when),
        "text": "".join(body.get_content().split()) if body is not None else "",
        "attachments": [name for part in mail.walk() if (name := part.get_filename())],
    }


def mail_parser(raw: bytes) -> dict[str, Any]:
    import mailparser

    mail = mailparser.parse_from_bytes(raw)
    return {
        "subject": mail.subject or "",
        "from": [address for _, address in mail.from_ if address],
        "to": [address for _, address in mail.to if address],
        "date": _utc(mail.date),
        "text": "".join("".join(mail.text_plain).split()),
        "attachments": [one["filename"] for one in mail.attachments if one["filename"]],
    }


def _utc(when: datetime | None) -> datetime | None:
    if when is None:
        return None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


def others() -> dict[str, Callable[[bytes], dict[str, Any]]]:
    """The readers that are installed, by name."""
    found: dict[str, Callable[[bytes], dict[str, Any]]] = {"email": standard_library}
    try:
        import mailparser  # noqa: F401
    except ImportError:
        return found
    return {**found, "mail-parser": mail_parser}


def compare(folder: Path) -> Iterator[str]:
    """A line for each difference and exception, and the counts at the end."""
    mails = otherwise = failures = 0
    readers = others()
    for file in sorted(folder.rglob("*.eml")):
        raw, name = file.read_bytes(), str(file.relative_to(folder))
        mails += 1
        try:
            mine = ours(raw)
        except Exception as error:  # noqa: BLE001  that is what is looked for
            failures += 1
            yield f"{name}  OURS FAILED: {error!r}"
            continue
        differs = False
        for reader, read in readers.items():
            try:
                theirs = read(raw)
            except Exception as error:  # noqa: BLE001  others fail in many ways
                yield f"{name}  {reader}  failed: {error!r}"
                continue
            for what, value in mine.items():
                if theirs[what] != value:
                    differs = True
                    shown = f"ours {value!r:.{_SHOWN}}, theirs {theirs[what]!r:.{_SHOWN}}"
                    yield f"{name}  {reader}  {what}: {shown}"
        otherwise += differs
    yield f"{mails} mails, {otherwise} read otherwise by others, {failures} exceptions of ours"


if __name__ == "__main__":
    if len(sys.argv) != 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("usage: python -m benchmarks.mail_corpus FOLDER")
    for line in compare(Path(sys.argv[1])):
        print(line)
