"""Content-Transfer-Encoding (RFC 2045 6): the bytes of a body as they were before they were sent.

What is cut or damaged is decoded as far as it goes. No call takes long: other threads get their turn.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator

from enricher.mail.defects import (
    BASE64_CHARACTERS,
    BASE64_LENGTH,
    BASE64_PADDING,
    UNKNOWN_ENCODING,
    Defects,
)

AS_THEY_ARE = ("", "7bit", "8bit", "binary", "7-bit", "8-bit", "none")
_QUOTED = ("quoted-printable", "x-quoted-printable", "quotedprintable", "q", "qp")
_BASE64 = ("base64", "x-base64", "base-64", "b")
_UUENCODED = ("x-uuencode", "uuencode", "uue", "x-uue")
_WHITE = b" \t\r\n\x0b\x0c"
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_FOREIGN = bytes(set(range(256)) - set(_LETTERS + b"="))
# Bytes at a time: some milliseconds.
_PIECE = 1 << 19


def decoded(data: bytes, encoding: str, defects: Defects) -> bytes:
    """``data`` decoded; what no encoding explains stays as it is."""
    if encoding in AS_THEY_ARE:
        return data
    encoding = encoding.replace(" ", "-").replace("_", "-")
    if encoding in _QUOTED:
        return quoted_printable(data)
    if encoding in _BASE64:
        return base64(data, defects)
    if encoding in _UUENCODED:
        return _uuencoded(data)
    defects[UNKNOWN_ENCODING] = None
    return data


def quoted_printable(data: bytes) -> bytes:
    """RFC 2045 6.7: blanks at the end of a line were added on the way, and are not the sender's."""
    if len(data) <= _PIECE:
        return _quoted_printable(data)
    return b"".join([_quoted_printable(piece) for piece in _whole_lines(data)])


def _quoted_printable(data: bytes) -> bytes:
    # One byte is found much faster than two.
    if (
        b" \n" in data
        or (b"\r" in data and b" \r" in data)
        or (b"\t" in data and (b"\t\n" in data or b"\t\r" in data))
    ):
        data = b"".join(_lines_stripped(data))
    return binascii.a2b_qp(data)


def _lines_stripped(data: bytes) -> Iterator[bytes]:
    for line in data.splitlines(keepends=True):
        bare = line.rstrip(b" \t\r\n")
        yield bare + (b"\r\n" if line.endswith(b"\r\n") else line[-1:] if line[-1:] in b"\r\n" else b"")


def _whole_lines(data: bytes) -> Iterator[bytes]:
    """``data`` in pieces that end with a line, or where there is none, between two bytes."""
    at = 0
    while at < len(data):
        end = data.find(b"\n", at + _PIECE, at + 2 * _PIECE) + 1
        if not end:
            end = min(at + 2 * _PIECE, len(data))
            if end < len(data):  # never within =XX
                last = data.rfind(b"=", end - 2, end)
                end = last if last > at else end
        yield data[at:end]
        at = end


def base64(data: bytes, defects: Defects) -> bytes:
    """Base64 whole or cut, with padding wherever it stands, other characters left out."""
    compact = data.translate(None, _WHITE)
    if len(compact) <= _PIECE:
        try:
            # The strict mode lets padding that belongs to nothing pass.
            if len(compact) % 4 == 0 and not compact.endswith(b"==="):
                return binascii.a2b_base64(compact, strict_mode=True)
        except binascii.Error:
            pass
    letters = compact.translate(None, _FOREIGN)
    if len(letters) != len(compact):
        defects[BASE64_CHARACTERS] = None
    whole = bytearray()  # millions of pieces are not joined in one call
    for letter_run in _runs(letters, defects):
        for at in range(0, len(letter_run), _PIECE):
            piece = letter_run[at : at + _PIECE]
            whole += binascii.a2b_base64(piece + b"=" * (-len(piece) % 4))
    return bytes(whole)


def _runs(letters: bytes, defects: Defects) -> Iterator[bytes]:
    """What stands between paddings: each was encoded by itself. A letter too many says nothing."""
    at = 0
    while at < len(letters):
        end = letters.find(b"=", at)
        run = letters[at:] if end < 0 else letters[at:end]
        over = len(run) % 4
        if over == 1:
            defects[BASE64_LENGTH] = None
            run = run[:-1]
        at = len(letters) if end < 0 else end
        padding = 0
        while at < len(letters) and letters[at] == 0x3D:
            at += 1
            padding += 1
        if over != 1 and padding != -over % 4:
            defects[BASE64_PADDING] = None
        if run:
            yield run


def _uuencoded(data: bytes) -> bytes:
    """The file between ``begin`` and ``end``; as it is where there is none."""
    # Line by line, and not all of them in one call.
    lines = (found.group() for found in re.finditer(rb"[^\r\n]+", data))
    if not any(line.startswith(b"begin ") for line in lines):
        return data
    out = bytearray()
    for line in lines:
        if line.strip() == b"end":
            break
        try:
            out += binascii.a2b_uu(line)
        except binascii.Error:
            length = (((line[0] - 32) & 63) * 4 + 5) // 3  # too long a line, as some encoders write them
            try:
                out += binascii.a2b_uu(line[:length])
            except binascii.Error:
                continue
    return bytes(out)
