"""Text from the bytes of a mail: declared charsets, wrong ones, encoded words.

Labels and what they mean are those of the WHATWG Encoding standard (`webencodings`), and beside them what
Python knows. Nothing here fails: what no charset explains is read as UTF-8 or Windows-1252, and whoever asks
is told so. A byte that is none of its charset is one U+FFFD.
"""

from __future__ import annotations

import binascii
import codecs
import re
from collections.abc import Callable, Mapping
from functools import lru_cache

import webencodings

from enricher.mail.charsets_asian import (
    PIECE,
    big5,
    euc_jp,
    euc_kr,
    gb18030,
    in_pieces,
    iso_2022,
    shift_jis,
)
from enricher.mail.defects import LONG_HEADER, UNDECODABLE, Defects
from enricher.storable import is_text

_OWN: dict[str, Callable[[bytes, str], str]] = {
    "big5": big5,
    "euc-jp": euc_jp,
    "euc-kr": euc_kr,
    "gb18030": gb18030,
    "iso-2022": iso_2022,
    "shift_jis": shift_jis,
}
# What Python calls, and mails name, otherwise.
_MEANT = {
    "big5hkscs": "big5",
    "cp932": "shift_jis",
    "cp949": "euc-kr",
    "cp950": "big5",
    "csiso2022jp": "iso-2022",
    "euc-jis-2004": "euc-jp",
    "gb18030-2022": "gb18030",
    "gbk": "gb18030",
    "hz": "hz",
    "hz-gb-2312": "hz",
    "iso-8859-8-i": "iso-8859-8",
    "iso8859-11": "windows-874",
    "ms932": "shift_jis",
    "tis-620": "windows-874",
    "utf-8mb4": "utf-8",
    "utf8mb3": "utf-8",
    "utf8mb4": "utf-8",
    "windows-50220": "iso-2022",
    "windows-50221": "iso-2022",
    "windows-51932": "euc-jp",
    "x-gbk": "gb18030",
    "x-unicode-2-0-utf-7": "utf-7",
    "unicode-1-1-utf-7": "utf-7",
    "csunicode11utf7": "utf-7",
}
# The decoders of the first two take time that grows with the square of the length; the others are for
# the source code of programs.
_REFUSED = {"idna", "punycode", "unicode-escape", "raw-unicode-escape"}
_SINGLE = re.compile(r"(?:windows-\d+|iso-8859-\d+|koi8-.|x?-?mac.*|ibm866)")
# Where Python has another character than the standard.
_MENDED = {"koi8-u": {0xAE: "\u045e", 0xBE: "\u040e"}, "windows-1255": {0xCA: "\u05ba"}}
_MICROSOFT = re.compile(r"(?:x-)?(?:cp|win|windows|ms|ansi|ibm)[-_ ]?(\d{3,5})(?:-\d)?")
_WIDE = re.compile(r"utf-?(16|32)")

_WORD = re.compile(r"=\?([^?\s]{1,80})\?([bBqQ])\?")
_CONTROLS = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]+")
_SURROGATES = re.compile(r"[\udc80-\udcff]")
_FOREIGN = re.compile(rb"[^A-Za-z0-9+/]")
_HIGH = bytes(range(128, 256))
# What Windows-1252 has of these is in no word: an umlaut in capitals after a small letter, signs of the
# mathematicians, and the last two letters. They are pieces of UTF-8 then.
_NO_WINDOWS = re.compile(
    rb"(?<=[a-z])[\xc0-\xdd]|[\x81-\x83\x86-\x89\x8b\x8d\x8f\x90\x98\x9b\x9d\xd7\xf7\xfe\xff]"
)
_UNICODE = frozenset({"utf-8", "UTF-8", "utf8"})
_USUAL = _UNICODE | {"us-ascii", "US-ASCII", "iso-8859-1", "ISO-8859-1"}
_MARKS = ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
_LONGEST = 100_000


@lru_cache(256)
def codec(name: str) -> str | None:
    """The name of a charset, one of the Encoding standard or of Python; None where it is none of text."""
    wanted = name.strip().strip("'\"").partition("*")[0].partition(";")[0].strip().strip("'\"").lower()
    wanted = wanted.split(" ")[0] if " " in wanted else wanted
    microsoft = _MICROSOFT.sub(r"windows-\1", wanted)
    for label in (wanted, wanted.replace("_", "-"), wanted.removeprefix("x-"), microsoft):
        found = _standard(label)
        if found is not None:
            return found
    try:
        info = codecs.lookup(_MICROSOFT.sub(r"cp\1", wanted))
        # Codecs such as zlib and rot13 are none of text; asking tells.
        b"\n\n\n\n".decode(info.name)
    except (LookupError, ValueError):  # UnicodeError is a ValueError
        return None
    python = info.name.replace("_", "-")
    if python in _REFUSED:
        return None
    if python.startswith("iso2022"):
        return "iso-2022"
    return _standard(python) or info.name


def _standard(label: str) -> str | None:
    if label in _MEANT:
        return _MEANT[label]
    if label.startswith("iso-2022-"):
        return "iso-2022"
    try:
        found = webencodings.lookup(label)
    except UnicodeEncodeError:
        return None
    if found is None or found.name == "replacement":
        return None
    name: str = found.name
    return _MEANT.get(name, name)


@lru_cache(64)
def _decoder(name: str) -> Callable[[bytes, str], str]:
    """What decodes a charset that `codec` names: bytes and "strict" or "replace" in, text out."""
    if name in _OWN:
        return _OWN[name]
    info = _info(name)
    if _SINGLE.fullmatch(name):
        table = _table(info, _MENDED.get(name, {}))
        return lambda data, errors: codecs.charmap_decode(data, errors, table)[0]
    return lambda data, errors: info.decode(data, errors)[0]


def _info(name: str) -> codecs.CodecInfo:
    known = webencodings.lookup(name)
    info: codecs.CodecInfo = codecs.lookup(name) if known is None else known.codec_info
    return info


def _table(info: codecs.CodecInfo, mended: Mapping[int, str]) -> str:
    """The 256 characters of a charset; where Python has none below A0, the standard has a control."""
    table = [mended.get(byte) or info.decode(bytes([byte]), "replace")[0] for byte in range(256)]
    return "".join(
        (chr(byte) if byte < 0xA0 else "\ufffe") if char == "\ufffd" else char
        for byte, char in enumerate(table)
    )


def to_text(data: bytes, charset: str | None) -> tuple[str, bool]:
    """The text of ``data``, and whether the declared charset (None: US-ASCII) explained all of it."""
    if charset is None or charset in _USUAL:
        if data.isascii():
            return data.decode("ascii"), True
        if charset in _UNICODE and len(data) <= PIECE and data[0] != 0xEF:
            try:
                return data.decode("utf-8"), True
            except UnicodeDecodeError:
                pass
    for mark, marked in _MARKS:
        if data.startswith(mark) and (charset is None or len(data) > 3):
            text = decode(data, marked, "replace")
            return _whole(text.removeprefix("\ufeff")), "\ufffd" not in text
    name = codec(charset) if charset else None
    if name is not None and (
        (_WIDE.match(name) and _is_narrow(data))
        # US-ASCII with bytes above 127 is none, though the standard has Windows-1252 for its label.
        or (name == "windows-1252" and charset and "ascii" in charset.lower() and not data.isascii())
    ):
        name = None
    if name is not None:
        try:
            return _whole(decode(data, name, "strict")), True
        except (UnicodeError, ValueError):
            pass
    if name not in (None, "utf-8") and data.isascii():
        # What was cut off in an Asian charset is still that.
        return _whole(decode(data, name, "replace")), False
    try:
        return decode(data, "utf-8", "strict"), charset is None and data.isascii()
    except UnicodeDecodeError:
        if name in (None, "utf-8") or _is_broken_utf_8(data):
            return _broken(data), False
        return _whole(decode(data, name, "replace")), False


def decode(data: bytes, name: str, errors: str) -> str:
    """``data`` in a charset that `codec` names, errors as in `bytes.decode`; no call takes long."""
    if len(data) <= PIECE or name in _OWN:
        return _decoder(name)(data, errors)
    if _SINGLE.fullmatch(name):
        table = _decoder(name)
        return "".join([table(data[at : at + PIECE], errors) for at in range(0, len(data), PIECE)])
    return in_pieces(data, _info(name), errors)


def _is_narrow(data: bytes) -> bool:
    """Whether it cannot be UTF-16 or UTF-32: text of any length has a blank or a line end, and so a zero."""
    return 0 not in data and (data.isascii() or b" " in data)


def _is_broken_utf_8(data: bytes) -> bool:
    """Whether it is UTF-8 but for a few bytes, as no other charset looks."""
    text = data[:10_000].decode("utf-8", "replace")
    bad = text.count("\ufffd")
    return len(text) - bad - len(data[:10_000].translate(None, _HIGH)) >= 4 * bad


def _broken(data: bytes) -> str:
    """UTF-8 with bytes that are none, one U+FFFD each; or Windows-1252, where little speaks for UTF-8."""
    text = decode(data, "utf-8", "replace")
    bad = text.count("\ufffd")
    good = len(text) - bad - len(data.translate(None, _HIGH))
    # Several in a row are one sequence that is none.
    runs = bad - text.count("\ufffd\ufffd")
    if 3 * good < runs and (good or 2 * len(_NO_WINDOWS.findall(data[:100_000])) < min(bad, 100_000)):
        return decode(data, "windows-1252", "strict")
    return text


def _whole(text: str) -> str:
    """The text without halves of surrogate pairs, which no store takes: UTF-7 for one can spell them."""
    return text if is_text(text) else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def plain(value: str, defects: Defects | None = None, charset: str | None = None) -> str:
    """A header's value on one line, its raw 8-bit bytes read as UTF-8, as in ``charset`` or in Windows-1252.

    ``value`` is as `headers.read_header` leaves it: bytes above 127 are surrogates.
    """
    if "\n" in value or "\r" in value:
        value = value.replace("\r", "").replace("\n", "")
    if not value.isascii() and _SURROGATES.search(value):
        data = value.encode("utf-8", "surrogateescape")
        try:
            value = data.decode("utf-8")
        except UnicodeDecodeError:
            value = _broken(data) if _is_broken_utf_8(data) else to_text(data, charset or "utf-8")[0]
            if defects is not None:
                defects[UNDECODABLE] = None
    elif charset and "\x1b" in value and codec(charset) == "iso-2022":
        value = decode(value.encode(), "iso-2022", "replace")
    return value.strip(" \t")


def words(value: str, defects: Defects | None = None) -> str:
    """``value`` (as `plain` gives it) with its encoded words (RFC 2047, RFC 2231) decoded.

    White space between two encoded words is dropped. Neighbours of one charset are decoded together, since
    careless senders cut characters in two. A word that cannot be decoded stays as it is, and so do those
    after the first hundred thousand characters.
    """
    if "=?" not in value:
        return value
    if len(value) > _LONGEST:
        if defects is not None:
            defects[LONG_HEADER] = None
        return words(value[:_LONGEST], defects) + value[_LONGEST:]
    out: list[str] = []
    held, charset = b"", ""
    last = at = 0
    after_word = False

    def let_go() -> None:
        text, explained = to_text(held, charset)
        # A header is one line.
        out.append(text if text.isprintable() else _CONTROLS.sub(" ", text))
        if not explained and defects is not None:
            defects[UNDECODABLE] = None

    while (match := _WORD.search(value, at)) is not None:
        begin, content = match.span()
        end = value.find("?=", content)
        if end < 0:
            break
        inner = value.rfind("=?", content, end)
        if inner >= 0 and _WORD.match(value, inner):
            at = inner  # the first one has no end
            continue
        data = _word_bytes(match[2], value[content:end])
        if data is None:
            at = content
            continue
        name = match[1].lower()
        if "*" in name:
            name = name.partition("*")[0]
        apart = begin > last and (not after_word or not value[last:begin].isspace())
        if held and (apart or name != charset):
            let_go()
            held = b""
        if apart:
            out.append(value[last:begin])
        held, charset = held + data, name
        last = at = end + 2
        after_word = True
    if held:
        let_go()
    out.append(value[last:])
    return "".join(out)


def _word_bytes(encoding: str, text: str) -> bytes | None:
    data = text.encode("utf-8")
    if encoding in "qQ":
        # RFC 2047 4.2: an underscore is a space; a space itself is wrong but common.
        return binascii.a2b_qp(data, header=True)
    return lenient_base64(data)


def lenient_base64(data: bytes) -> bytes | None:
    """The bytes of base64 with or without its padding, foreign characters left out; None if it is none.

    Of one that was cut, the character that says nothing is left out too.
    """
    kept = _FOREIGN.sub(b"", data)
    if len(kept) < 2:
        return None if kept else b""
    if len(kept) % 4 == 1:
        kept = kept[:-1]
    return binascii.a2b_base64(kept + b"=" * (-len(kept) % 4))
