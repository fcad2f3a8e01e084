"""Text from the bytes of a mail: declared charsets, wrong ones, encoded words.

Nothing here fails: what no charset explains is read as UTF-8 or Windows-1252, and whoever asks is told so.
"""

from __future__ import annotations

import binascii
import codecs
import re
from functools import lru_cache
from quopri import decodestring

from enricher.storable import is_text

# Names that mails use and Python does not know, or that mean a larger set than they say (WHATWG Encoding).
_MEANT = {
    "ansi_x3.110-1983": "latin-1",
    "cp-850": "cp850",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "gb_2312-80": "gb18030",
    "ks_c_5601-1987": "cp949",
    "ks_c_5601": "cp949",
    "euc-kr": "cp949",
    "iso-8859-8-i": "iso-8859-8",
    "shift_jis": "cp932",
    "utf8mb4": "utf-8",
    "x-gbk": "gb18030",
    "x-mac-roman": "mac-roman",
    "x-sjis": "cp932",
    "x-user-defined": "cp1252",
    "ascii": "us-ascii",
}
# The decoders of the first two take time that grows with the square of the length; the others are for
# the source code of programs.
_REFUSED = {"idna", "punycode", "unicode-escape", "raw-unicode-escape"}

_WORD = re.compile(r"=\?([^?\s]*)\?([bBqQ])\?(.{0,4000}?)\?=", re.DOTALL)
_SURROGATES = re.compile(r"[\udc80-\udcff]")
_BREAKS = re.compile(r"[\r\n]+")
_ALPHABET = re.compile(rb"[^A-Za-z0-9+/]")


@lru_cache(256)
def codec(name: str) -> str | None:
    """Python's name of a charset; None where there is none, or it is no charset of text."""
    wanted = name.strip().strip("'\"").partition("*")[0].strip().lower()
    wanted = _MEANT.get(wanted, wanted)
    try:
        found = codecs.lookup(wanted)
        # Codecs such as zlib and rot13 are none of text; asking tells.
        b"\n\n\n\n".decode(found.name)
    except (LookupError, ValueError):  # UnicodeError is a ValueError
        return None
    return None if found.name.replace("_", "-") in _REFUSED else found.name


def to_text(data: bytes, charset: str | None) -> tuple[str, bool]:
    """The text of ``data``, and whether the declared charset (None: US-ASCII) explained all of it."""
    name = codec(charset) if charset else "ascii"
    if name is not None:
        try:
            text = data.decode(name)
        except (UnicodeError, ValueError):
            pass
        else:
            return _whole(text), True
    try:
        return data.decode("utf-8"), False
    except UnicodeDecodeError:
        # What was truncated in an Asian charset or in UTF-16 is still that.
        likely = "cp1252" if name in (None, "ascii", "utf-8") else name
        return _whole(data.decode(likely or "cp1252", "replace")), False


def _whole(text: str) -> str:
    """The text without halves of surrogate pairs, which no store takes: UTF-7 for one can spell them."""
    return text if is_text(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def plain(value: str) -> str:
    """A header's value on one line, its raw 8-bit bytes read as UTF-8 or Windows-1252.

    ``value`` is as `email.parser.BytesParser` leaves it: bytes above 127 are surrogates.
    """
    if "\n" in value or "\r" in value:
        value = _BREAKS.sub("", value)
    if not value.isascii() and _SURROGATES.search(value):
        value = to_text(value.encode("utf-8", "surrogateescape"), "utf-8")[0]
    return value.strip(" \t")


def words(value: str) -> str:
    """``value`` (as `plain` gives it) with its encoded words (RFC 2047, RFC 2231) decoded.

    White space between two encoded words is dropped. Neighbours of one charset are decoded together, since
    careless senders cut characters in two. A word that cannot be decoded stays as it is.
    """
    if "=?" not in value:
        return value
    out: list[str] = []
    held, charset = b"", ""
    last = 0
    after_word = False
    for match in _WORD.finditer(value):
        between = value[last : match.start()]
        data = _word_bytes(match[2], match[3])
        if data is None:
            continue
        name = match[1].partition("*")[0].lower()
        apart = bool(between.strip(" \t")) or (not after_word and bool(between))
        if held and (apart or name != charset):
            out.append(to_text(held, charset)[0])
            held = b""
        if apart:
            out.append(between)
        held, charset = held + data, name
        last = match.end()
        after_word = True
    if held:
        out.append(to_text(held, charset)[0])
    out.append(value[last:])
    return "".join(out)


def _word_bytes(encoding: str, text: str) -> bytes | None:
    data = text.encode("utf-8")
    if encoding in "qQ":
        # RFC 2047 4.2: an underscore is a space; a space itself is wrong but common.
        return decodestring(data.replace(b"\r", b"").replace(b"\n", b""), header=True)
    return lenient_base64(data)


def lenient_base64(data: bytes) -> bytes | None:
    """The bytes of base64 with or without its padding, foreign characters left out; None if it is none."""
    kept = _ALPHABET.sub(b"", data)
    if len(kept) % 4 == 1:
        return None
    try:
        return binascii.a2b_base64(kept + b"=" * (-len(kept) % 4))
    except binascii.Error:
        return None
