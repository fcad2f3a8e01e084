"""East Asian charsets as mails use them: those that Python decodes otherwise, or not at all.

Each function takes bytes and "strict" or "replace", and raises UnicodeDecodeError with the first. The table
of JIS X 0208 is that of the WHATWG Encoding standard: with NEC's row 13 and IBM's extensions, which senders
use though the charset they name has none of them. ISO 2022 is read for Japanese, Korean and Chinese mails
alike; a line end ends what is double, since careless senders lose the escape that should.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from itertools import islice

_BAD = "\ufffd"
# Runs between escapes; a line end is a run of its own.
_RUNS = re.compile(
    rb"\x1b\$[()*+]?[@-Z]|\x1b[()*+\-./][@-Z]|\x1b[NO]|[\x0e\x0f]|\r?\n|[^\x1b\x0e\x0f\r\n]+|.", re.DOTALL
)
# What begins like a character and goes on with no ASCII is one that is none.
_EUC = re.compile(
    rb"[\x00-\x7f]+|\x8e[\xa1-\xdf]|\x8f[\xa1-\xfe]{2}|(?:[\xa1-\xfe]{2}){1,9999}"
    rb"|\x8f[\xa1-\xfe][\x80-\xff]?|[\x8e\x8f\xa1-\xfe][\x80-\xff]?|.",
    re.DOTALL,
)
# GB 18030's characters of four bytes, also cut.
_FOUR = re.compile(rb"[\x81-\xfe][0-9](?:[\x81-\xfe](?:[0-9]|\Z)|\Z)")
_JIS = re.compile(rb"[\xa1-\xfe].?|.", re.DOTALL)
_HIGH = bytes(byte | 0x80 for byte in range(256))
_ALL_HIGH = bytes(range(0xA1, 0xFF))
_KATAKANA = 2 * ("\ufffe" * 0x21 + "".join(map(chr, range(0xFF61, 0xFFA0))) + "\ufffe" * 0x20)
_ROMAN = str.maketrans("\\~", "\u00a5\u203e")
# Of the Encoding standard's Big5, what Python's has not: the first two bytes of a run, and its characters.
_BIG5 = """
877a㡵𡵓𣚞𦀡㻬𥣞㫵竼龗𤅡𨤍𣇪𠪊𣉞䌊蒄龖鐯䤰蘓墖靊鈘秐稲晠権袝瑌篅枂稬剏遆㓦珄𥶹瓆鿇垳
87c4䤯呌䄱𣚎堘穲𧭥讏䚮𦺈䆁𥶙箮𢒼鿈𢓁𢓉𢓌鿉蔄𣖻䂴鿊䓡𪷿拁灮鿋 8e69箸 8e6f簆 8e7e糎 8eab緒 8eb4縝
8ecd者 8ed0耨 8f57菁 8f69蒨 8f6e萏 8fcb覦覩 8ffe起 906d都 907a銹 90dc靜 90f1響 91bf鼖 9244蔃
92af兙兛兝兞 92c8鍮 92d1瑹 9447浧 94ca禛 95d9邗 9644靝 96ed瀞 96fc嬨 9b76爁 9b78矗 9b7b纇 9bc6駖
9bde釔 9bec惞 9bf6澶 9c42輶 9c53侻 9c62營 9c68鄄 9c6b鷰 9c77菏 9cbc尐秣 9cd0婧 9d57輋 9d5a筑
9dc4拐 9ea9恢 9eef痹 9efd汊 9f60鬮 9f66鼗 9fcb僭 9fd8弌 a063蠏 a077拎 a0d5瑨 a0df煢 a0e4牐
a3c0␀␁␂␃␄␅␆␇␈␉␊␋␌␍␎␏␐␑␒␓␔␕␖␗␘␙␚␛␜␝␞␟␡€ c6cf廴 c6d3无 c6d5癶 c6d7隶 c6de〃仝 fa5f倩 fa66偽 fabd包
fac5卄 fad5卿 fb48嘅 fbb8婷 fbf3幵 fbf9廐 fc4f彘 fc6c悤 fcb9撐 fce2晴 fcf1杞 fdb7沜渝 fdbb港
fdf1煮 fe52猪 fe6f瑜 feaa瓩 fedd砉
"""


# Bytes at a time: some milliseconds, and other threads get their turn in between.
PIECE = 1 << 19


def in_pieces(data: bytes, info: codecs.CodecInfo, errors: str) -> str:
    """``data`` decoded, no call for long. Raises as the decoder does."""
    return "".join(_pieces(data, info, errors))


def _pieces(data: bytes, info: codecs.CodecInfo, errors: str) -> Iterator[str]:
    if len(data) <= PIECE or info.incrementaldecoder is None:
        yield info.decode(data, errors)[0]
        return
    one = info.incrementaldecoder(errors)
    for at in range(0, len(data), PIECE):
        yield one.decode(data[at : at + PIECE])
    yield one.decode(b"", True)


# -- two bytes a character, or four --------------------------------------------------------------------


def _multibyte(
    python: str, known: Mapping[bytes, str], otherwise: Mapping[str, str]
) -> Callable[[bytes, str], str]:
    """A decoder like Python's, but for the bytes that are ``known``, and characters that are others."""
    handler = f"enricher-{python}"
    wrong = re.compile(f"[{''.join(otherwise)}]") if otherwise else None

    def instead(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        data, at = error.object, error.start
        for found in (data[at : at + 2], data[at : at + 1]):
            if found in known:
                return known[found], at + len(found)
        four = _FOUR.match(data, at) if python == "gb18030" else None
        if four is not None:
            return _BAD, four.end()
        # What begins like a character and goes on with no ASCII is one that is none.
        return _BAD, at + (2 if 0x80 < data[at] < 0xFF and data[at + 1 : at + 2] > b"\x7f" else 1)

    def decode(data: bytes, errors: str) -> str:
        pieces = _pieces(data, codecs.lookup(python), handler)
        if wrong is not None:
            pieces = (wrong.sub(lambda found: otherwise[found[0]], piece) for piece in pieces)
        return _checked("".join(pieces), data, errors)

    codecs.register_error(handler, instead)
    return decode


def _big5_pairs() -> dict[bytes, str]:
    trails = bytes([*range(0x40, 0x7F), *range(0xA1, 0xFF)])
    return {
        bytes((int(run[:2], 16), trails[trails.index(int(run[2:4], 16)) + offset])): char
        for run in _BIG5.split()
        for offset, char in enumerate(run[4:])
    }


big5 = _multibyte(
    "big5hkscs",
    _big5_pairs(),
    dict(zip("•､‾∼♁☉¥¢£", "‧﹑¯～⊕⊙￥￠￡", strict=True)),  # noqa: RUF001
)
"""Big5 with the extensions of Hong Kong. The slashes at A241 and A242 come as those at A1FE and A240."""

euc_kr = _multibyte("cp949", {}, {})
"""Windows-949."""

gb18030 = _multibyte(
    "gb18030",
    {b"\x80": "\u20ac"},
    dict(
        zip(
            "\ue5e5\ue78d\ue78e\ue78f\ue790\ue791\ue792\ue793\ue794\ue795\ue796\ue7c7"
            "\ue81e\ue826\ue82b\ue82c\ue832\ue843\ue854\ue864",
            "\u3000\ufe10\ufe12\ufe11\ufe13\ufe14\ufe15\ufe16\ufe17\ufe18\ufe19\u1e3f"
            "\u9fb4\u9fb5\u9fb6\u9fb7\u9fb8\u9fb9\u9fba\u9fbb",
            strict=True,
        )
    ),
)
"""GBK and GB 18030; the byte 80 is the euro sign of Windows-936."""

shift_jis = _multibyte("cp932", {}, dict.fromkeys("\xa0\uf8f0\uf8f1\uf8f2\uf8f3", _BAD))
"""Windows-31J; four bytes that Python gives characters for private use are none."""


# -- several charsets in one ---------------------------------------------------------------------------


def euc_jp(data: bytes, errors: str) -> str:
    """EUC-JP with the table of the Encoding standard."""
    return _checked(_joined(_euc_jp(data)), data, errors)


def _euc_jp(data: bytes) -> Iterator[str]:
    for match in _EUC.finditer(data):
        run = match[0]
        first = run[0]
        if first < 0x80:
            yield run.decode("ascii")
        elif first == 0x8E and len(run) == 2 and 0xA0 < run[1] < 0xE0:
            yield chr(0xFF61 + run[1] - 0xA1)
        elif first == 0x8F and len(run) == 3:
            text = "\uff5e" if run == b"\x8f\xa2\xb7" else _python(run, "euc_jp")
            yield text if len(text) == 1 else _BAD
        elif len(run) > 1 and 0xA0 < first < 0xFF and 0xA0 < run[1] < 0xFF:
            yield _jis(run)
        else:
            yield _BAD


def iso_2022(data: bytes, errors: str) -> str:
    """ISO-2022-JP, its relatives, ISO-2022-KR and ISO-2022-CN: all of them have seven bits."""
    if errors == "strict" and not data.isascii():
        raise UnicodeDecodeError("enricher", data, 0, 1, "no character")
    return _checked(_joined(_iso_2022(data)), data, errors)


def _iso_2022(data: bytes) -> Iterator[str]:
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
                yield _BAD
        elif first in b"\x0e\x0f":
            shifted = first == 0x0E
        elif first in b"\r\n":
            yield run.decode("ascii")
            g0, shifted = ("B" if g0[0] == "$" else g0), False
        else:
            yield _run(run, (g1 or "I") if shifted else g0)


def _run(run: bytes, charset: str) -> str:
    if charset in ("$B", "$@"):
        return _jis(run.translate(_HIGH))
    if charset == "I":
        return codecs.charmap_decode(run, "replace", _KATAKANA)[0]
    if charset == "$D":
        return _python(b"\x1b$(D" + run, "iso2022_jp_1")
    if charset in ("$O", "$Q", "$P"):
        return _python(b"\x1b$(" + charset[1].encode() + run, "iso2022_jp_2004")
    if charset == "$A":
        return gb18030(run.translate(_HIGH), "replace")
    if charset == "$C":
        return euc_kr(run.translate(_HIGH), "replace")
    if charset[0] == "$":
        return _BAD * ((len(run) + 1) // 2)
    # Eight bits are not allowed here; where they are, they are those of Windows.
    text = run.decode("ascii") if run.isascii() else shift_jis(run, "replace")
    return text.translate(_ROMAN) if charset in ("J", "H") else text


def _python(run: bytes, name: str) -> str:
    return run.decode(name, "replace")


def _jis(run: bytes) -> str:
    """JIS X 0208, two bytes above 127 a character; a byte too many, or a gap in the table, is U+FFFD."""
    table = _jis_table()
    if len(run) % 2 or run.translate(None, _ALL_HIGH):
        # What is no first byte is wrong by itself.
        return _joined(
            _jis(pair) if len(pair) == 2 and 0xA0 < pair[1] < 0xFF else _BAD for pair in _JIS.findall(run)
        )
    pairs = zip(run[::2], run[1::2], strict=True)
    return "".join([table[(a - 0xA1) * 94 + b - 0xA1] for a, b in pairs])


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


def _joined(pieces: Iterable[str]) -> str:
    """All of them as one text: not in one call, where they are millions."""
    rest = iter(pieces)
    return "".join(map("".join, iter(lambda: list(islice(rest, 50_000)), [])))
