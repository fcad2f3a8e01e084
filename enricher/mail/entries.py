"""Stream entries of the mail route: what the fields mean, and who a mail is.

An entry has either

    raw         the message (RFC 5322), as text or bytes, or in base64 (also URL-safe, also unpadded)

or the fields of a mail that somebody has parsed, at least one of from, to, subject, body, text, html:

    from sender to cc bcc reply_to   addresses as in a header, or a JSON list of such or of {name, address}
    subject in_reply_to references   as in a header
    date                             as in a header, ISO 8601, or seconds or milliseconds since 1970
    body, text or body_text; html or body_html
    attachments, headers             JSON: a list of {filename, content_type, size}; an object or pairs

and may have ``message_id`` and ``thread_id``. What has no field, and is in ``headers``, is read there. All
other fields are the handler's. Between stream and handler an entry is one JSON object; a value that is no
UTF-8 text is ``{"base64": "..."}`` in it.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from binascii import a2b_base64
from collections.abc import Mapping
from typing import Any

import msgspec

from enricher.errors import BadMessage
from enricher.mail.headers import header_of
from enricher.mail.threads import bare_id
from enricher.storable import check_escapes, check_storable
from enricher.texts import as_text

RAW, MESSAGE_ID = "raw", "message_id"
CONTENT = ("from", "to", "subject", "body", "text", "body_text", "html", "body_html")

# Longer ones name no mail that anybody sent; their digest does as well.
_LONGEST_ID = 512
_HEADER = re.compile(rb"^message-id[ \t]*:[ \t]*((?:[^\r\n]|\r*\n[ \t])*)", re.IGNORECASE | re.MULTILINE)
# A hostile header may be the whole message, and this is read in the event loop.
_LONGEST_HEADER = 262_144
_BASE64 = re.compile(r"[A-Za-z0-9+/_\-\s]+={0,2}")
_STANDARD = bytes.maketrans(b"-_", b"+/")


class Entry(msgspec.Struct, frozen=True):
    """A mail as it came: its id, the message if there is one, the other fields. ``size`` is in bytes."""

    id: str
    message_id: str | None
    raw: bytes | None
    fields: dict[str, Any]
    size: int = 0


class _Named(msgspec.Struct):
    message_id: Any = None
    raw: Any = None


def read_entry(body: bytes, _context: object = None) -> Entry:
    """The entry in ``body`` (the JSON object of its fields). Raises `BadMessage`."""
    try:
        fields = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        check_escapes(body)
        raise BadMessage("$", "a JSON object of an entry's fields", str(error)) from error
    for name, value in fields.items():
        if type(value) is dict:
            fields[name] = _bytes(value)
    given = fields.pop(MESSAGE_ID, None)
    message_id = as_text(given).strip() if given not in (None, "", b"") else None
    if RAW in fields:
        raw = raw_bytes(fields.pop(RAW))
        check_storable(fields)
        return Entry(_identity(message_id, raw) or digest(raw), message_id or None, raw, fields, len(raw))
    if not any(name in fields for name in CONTENT):
        names = ", ".join(sorted(fields)) or "no fields"
        raise BadMessage("$", f"a field 'raw', or one of {', '.join(CONTENT)}", f"an entry with {names}")
    check_storable(fields)
    return Entry(_identity(message_id, None) or digest(body), message_id or None, None, fields, len(body))


def identity_of(body: bytes) -> str | None:
    """The id of the mail in ``body``, found without reading all of it; None where there is no mail."""
    named = msgspec.json.decode(body, type=_Named)
    given = _bytes(named.message_id) if isinstance(named.message_id, dict) else named.message_id
    message_id = as_text(given).strip() if given else None
    raw = None
    if named.raw is not None and not message_id:
        raw = raw_bytes(_bytes(named.raw) if isinstance(named.raw, dict) else named.raw)
    return _identity(message_id, raw) or digest(body if raw is None else raw)


def _identity(message_id: str | None, raw: bytes | None) -> str | None:
    if not message_id and raw is not None:
        header = _HEADER.search(header_of(raw[:_LONGEST_HEADER]))
        message_id = as_text(header[1]) if header is not None else None
    bare = bare_id(message_id) if message_id else ""
    if not bare:
        return None
    return bare if len(bare) <= _LONGEST_ID else digest(bare.encode())


def digest(data: bytes) -> str:
    """The id of a mail that names none: a digest of its bytes."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def raw_bytes(value: Any) -> bytes:
    """The message in a ``raw`` field. Raises `BadMessage` if there is none in it."""
    if isinstance(value, bytes):
        data = value
    elif isinstance(value, str):
        # A message has a header, and a header a colon, which base64 has not.
        decoded = from_base64(value) if ":" not in value[:1000] else None
        data = value.encode("utf-8") if decoded is None else decoded
    else:
        raise BadMessage("$.raw", "an RFC 5322 message as text or in base64", type(value).__name__)
    if not data.strip():
        raise BadMessage("$.raw", "an RFC 5322 message", "nothing")
    return data


def from_base64(text: str) -> bytes | None:
    """The bytes of base64, URL-safe and unpadded too, if what is in it looks like a message."""
    text = text.strip()
    if _BASE64.fullmatch(text[:1000]) is None:
        return None
    try:
        # Messages may have many millions of bytes: each step is one quick call.
        compact = text.encode("ascii").translate(_STANDARD, b" \t\r\n\x0b\x0c").rstrip(b"=")
        data = a2b_base64(compact + b"=" * (-len(compact) % 4), strict_mode=True)
    except ValueError:
        return None
    return data if b":" in data[:1000] else None


def _bytes(value: Mapping[str, Any]) -> Any:
    """The bytes of {"base64": ...}; anything else is a value like any other."""
    if len(value) == 1 and isinstance(text := value.get("base64"), str):
        try:
            return b64decode(text, validate=True)
        except ValueError:
            return value
    return value
