"""What a dead letter of the mail route has for readers that expect fields of their own names."""

from __future__ import annotations

import msgspec

from enricher.dead_letters.record import iso
from enricher.engine.effects import DeadLetter
from enricher.errors import BadMessage
from enricher.mail.entries import identity_of


def letter_fields(letter: DeadLetter) -> dict[bytes, bytes]:
    """The fields of its entry beside ``letter``: see `enricher.mail.MailLetters`."""
    try:
        message_id = identity_of(letter.body) or ""
    except (msgspec.DecodeError, UnicodeDecodeError, BadMessage, RecursionError):
        message_id = ""
    return {
        b"original_data": letter.body,
        b"error": f"{letter.error_type}: {letter.error}".encode("utf-8", "backslashreplace"),
        b"retry_count": b"%d" % max(letter.attempts - 1, 0),
        b"message_id": message_id.encode("utf-8", "backslashreplace"),
        b"failed_at": iso(letter.last_us).encode(),
    }
