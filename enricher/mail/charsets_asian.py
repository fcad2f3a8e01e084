"""East Asian charsets as mails use them: those that Python decodes otherwise, or not at all.

Each function takes bytes and "strict" or "replace", and raises UnicodeDecodeError with the first. The table
of JIS X 0208 is that of the WHATWG Encoding standard: with NEC's row 13 and IBM's extensions, which senders
use though the charset they name has none of them. ISO 2022 is read for Japanese, Korean and Chinese mails
alike; a line end ends what is double, since careless senders lose the escape that should.
"""

from __future__ import annotations

import codecs
import re
from functools import lru_cache

_BAD = "\ufffd"
# Runs between escapes; a line end is a run of its own.
_RUNS = re.compile(
    rb"\x1b\$[()*+]?[@-Z]|\x1b[()*+\-./][@-Z]|\x1b[NO]|[\x0e\x0f]|\r?\n|[^\x1b\x0e\x0f\r\n]+|.", re.DOTALL
)
_EUC = re.compile(rb"[\x00-\x7f]+|\x8e[\xa1-\xdf]|\x8f[\xa1-\xfe]{2}|(?:[\xa1-\xfe]{2}){1,9999}|.", re.DOTALL)
_HIGH = bytes(byte | 0x80 for byte in range(256))
_ROMAN = str.maketrans("\\~", "\u00a5\u203e")
_NO_SHIFT_JIS = re.compile("[\xa0\uf8f0-\uf8f3]")


# Bytes at a time: some milliseconds, and other threads get their turn in between.
PIECE = 1 << 19


def in_pieces(data: bytes, info: codecs.CodecInfo, errors: str) -> str:
    """``data`` decoded, no call for long. Raises as the decoder does."""
    if len(data) <= PIECE or info.incrementaldecoder is None:
        return info.decode(data, errors)[0]
    one = info.incrementaldecoder(errors)
    pieces = [one.decode(data[at : at + PIECE]) for at in range(0, len(data), PIECE)]
    return "".join([*pieces, one.decode(b"", True)])


def _decode(data: bytes, name: str, errors: str = "strict") -> str:
    return in_pieces(data, codecs.lookup(name), errors)


def shift_jis(data: bytes, errors: str) -> str:
    """Windows-31J; four bytes that Python gives characters for private use are none."""
    text = _decode(data, "cp932", errors)
    return _checked(_NO_SHIFT_JIS.sub(_BAD, text), data, errors) if _NO_SHIFT_JIS.search(text) else text


def gb18030(data: bytes, errors: str) -> str:
    """GBK and GB 18030; the byte 80 is the euro sign of Windows-936."""
    try:
        return _decode(data, "gb18030")
    except UnicodeDecodeError:
        text = _decode(data, "gb18030", "enricher-euro")
        return _checked(text, data, errors)


def big5(data: bytes, errors: str) -> str:
    """Big5 with the extensions of Hong Kong, and those of Windows-950 where these have nothing."""
    try:
        return _decode(data, "big5hkscs")
    except UnicodeDecodeError:
        return _checked(_decode(data, "big5hkscs", "enricher-950"), data, errors)


def euc_jp(data: bytes, errors: str) -> str:
    """EUC-JP with the table of the Encoding standard."""
    out: list[str] = []
    for match in _EUC.finditer(data):
        run = match[0]
        first = run[0]
        if first < 0x80:
            out.append(run.decode("ascii"))
        elif first == 0x8E and len(run) == 2:
            out.append(chr(0xFF61 + run[1] - 0xA1))
        elif first == 0x8F and len(run) == 3:
            out.append(_python(run, "euc_jp"))
        elif len(run) > 1:
            out.append(_jis(run))
        else:
            out.append(_BAD)
    return _checked("".join(out), data, errors)


def iso_2022(data: bytes, errors: str) -> str:
    """ISO-2022-JP, its relatives, ISO-2022-KR and ISO-2022-CN."""
    out: list[str] = []
    g0, g1, shifted = "B", "", False
    for match in _RUNS.finditer(data):
        run = match[0]
        first = run[0]
        if first == 0x1B:
            if run[1:2] == b"$":
                letter = "$" + chr(run[-1])
                if run[2:3] == b")":
                    g1 = letter
                else:
                    g0 = letter
            elif run[1:2] == b"(":
                g0 = chr(run[2])
            elif len(run) == 1:
                out.append(_BAD)
        elif first in b"\x0e\x0f":
            shifted = first == 0x0E
        elif first in b"\r\n":
            out.append(run.decode("ascii"))
            g0, shifted = ("B" if g0[0] == "$" else g0), False
        else:
            out.append(_run(run, (g1 or "I") if shifted else g0))
    return _checked("".join(out), data, errors)


def _run(run: bytes, charset: str) -> str:
    if charset in ("$B", "$@"):
        return _jis(run.translate(_HIGH))
    if charset == "I":
        return run.translate(_HIGH).decode("cp932", "replace")
    if charset == "$D":
        return _python(b"\x1b$(D" + run, "iso2022_jp_1")
    if charset in ("$O", "$Q", "$P"):
        return _python(b"\x1b$(" + charset[1].encode() + run, "iso2022_jp_2004")
    if charset == "$A":
        return run.translate(_HIGH).decode("gb18030", "replace")
    if charset == "$C":
        return run.translate(_HIGH).decode("cp949", "replace")
    if charset[0] == "$":
        return _BAD * ((len(run) + 1) // 2)
    # Eight bits are not allowed here; where they are, they are those of Windows.
    text = run.decode("cp932", "replace")
    return text.translate(_ROMAN) if charset in ("J", "H") else text


def _python(run: bytes, name: str) -> str:
    return run.decode(name, "replace")


def _jis(run: bytes) -> str:
    """JIS X 0208, two bytes above 127 a character; a byte too many, or a gap in the table, is U+FFFD."""
    table = _jis_table()
    pairs = zip(run[::2], run[1::2], strict=False)
    text = "".join(
        [table[(a - 0xA1) * 94 + b - 0xA1] if 0xA0 < a < 0xFF and 0xA0 < b < 0xFF else _BAD for a, b in pairs]
    )
    return text + _BAD if len(run) % 2 else text


@lru_cache(1)
def _jis_table() -> str:
    """94 rows of 94 characters, as Windows-31J has them at other places."""
    out: list[str] = []
    for row in range(94):
        lead = row // 2 + (0x81 if row < 62 else 0xC1)
        for cell in range(94):
            trail = cell + (0x9F if row % 2 else 0x40 + (cell > 62))
            text = bytes((lead, trail)).decode("cp932", "replace")
            out.append(text if len(text) == 1 and not "\ue000" <= text <= "\uf8ff" else _BAD)
    return "".join(out)


def _checked(text: str, data: bytes, errors: str) -> str:
    if errors == "strict" and _BAD in text:
        raise UnicodeDecodeError("enricher", data, 0, 1, "no character")
    return text


def _euro(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return ("\u20ac" if error.object[error.start] == 0x80 else _BAD), error.end


def _windows_950(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    pair = error.object[error.start : error.start + 2]
    text = pair.decode("cp950", "replace") if len(pair) == 2 and pair[1] > 0x3F else _BAD
    return (text, error.start + 2) if len(text) == 1 and text != _BAD else (_BAD, error.end)


codecs.register_error("enricher-euro", _euro)
codecs.register_error("enricher-950", _windows_950)
