"""A message taken apart: its headers, and the parts that hold no others, decoded.

Well-formed messages, which are nearly all there are, are cut up here by searching for boundaries in the
bytes. The standard library's parser, which goes by lines and compiles a pattern for every boundary, takes
ten times as long, but knows what to make of everything else: whatever looks odd in any way is left to it.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterator, Sequence
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from quopri import decodestring
from typing import Any, cast

import msgspec

from enricher.errors import BadMessage

Headers = list[tuple[str, str]]
"""Names and values in order, as the standard library gives them: folded, bytes above 127 as surrogates."""

_HEADER = re.compile(r"([!-9;-~]+):[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)\r?\n")
_BLANK = re.compile(rb"\n\r?\n")
# A Content-Type without comments, escapes and other rarities.
_TYPE = re.compile(
    r"\s*([\w.+-]+)/([\w.+-]+)(?:\s*;\s*[\w-]+\s*=\s*(?:\"[^\"\\]*\"|[^\s;\"<>\\]+))*\s*(?:;\s*)?", re.ASCII
)
_PARAMETER = re.compile(r";\s*([\w-]+)\s*=\s*(?:\"([^\"\\]*)\"|([^\s;\"<>\\]+))", re.ASCII)
_AS_THEY_ARE = (None, "7bit", "8bit", "binary")
_DEEPEST_WELL_FORMED = 20
# The standard library asks at every line whether any of the multiparts around it ends there, and takes time
# that grows with the square of a Content-Type's length: hostile mails are not to keep a process for minutes.
DEEPEST = 50
_MOST_ENTITIES = 10_000
_LONGEST_TYPE = 10_000
_MOST_LEAVES = 1000


class Part(msgspec.Struct, frozen=True):
    """A part that holds no others.

    ``kind`` is its type if no header says one. Where it ``contains`` a message, ``data`` is empty, and
    ``size`` its bytes, None where it cannot be written again. ``defects`` are names of `email.errors`.
    """

    headers: Headers
    data: bytes
    kind: str = "text/plain"
    contains: bool = False
    size: int | None = None
    defects: tuple[str, ...] = ()


class Apart(msgspec.Struct, frozen=True):
    """A message: its headers, its parts (where there are more, the first thousand and one), and what is wrong
    with those that hold others."""

    headers: Headers
    parts: Sequence[Part]
    defects: tuple[str, ...] = ()


def take_apart(raw: bytes) -> Apart:
    """The message in ``raw``. Raises `BadMessage` for parts without end, one in the other or one by one."""
    found = well_formed(raw)
    return in_any_form(raw) if found is None else found


# -- well-formed ---------------------------------------------------------------------------------------


class _Odd(Exception):
    """Something that is the standard library's to judge."""


class _Enough(Exception):
    """There are more parts than anybody will look at."""


def well_formed(raw: bytes) -> Apart | None:
    """The message if nothing about it is odd, else None."""
    if b"\r" in raw and raw.count(b"\r") != raw.count(b"\r\n"):
        return None
    parts: list[Part] = []
    try:
        headers = _entity(raw, 0, len(raw), parts, 0)
    except _Enough:
        headers = _headers(raw, 0, len(raw))[0]
    except (_Odd, binascii.Error):
        return None
    return Apart(headers, parts)


def _entity(raw: bytes, start: int, end: int, parts: list[Part], depth: int) -> Headers:
    """The headers of what is between ``start`` and ``end``; its parts are appended to ``parts``."""
    headers, body = _headers(raw, start, end)
    content_type = encoding = None
    for name, value in headers:
        low = name.lower()
        if low == "content-type" and content_type is None:
            content_type = value
        elif low == "content-transfer-encoding" and encoding is None:
            encoding = value.lower()
    boundary = None if content_type is None else _boundary(content_type)
    if boundary is None:
        if depth:
            end = _without_last_break(raw, body, end)  # that one belongs to the boundary
        parts.append(Part(headers, _decoded(raw[body:end], encoding)))
        if len(parts) > _MOST_LEAVES:
            raise _Enough
        return headers
    if encoding not in _AS_THEY_ARE or depth == _DEEPEST_WELL_FORMED:
        raise _Odd
    for first, last in _between(raw, body, end, b"--" + boundary):
        _entity(raw, first, last, parts, depth + 1)
    return headers


def _headers(raw: bytes, start: int, end: int) -> tuple[Headers, int]:
    """The headers, and where the body begins."""
    if raw.startswith((b"\n", b"\r\n"), start, end):
        return [], start + (1 if raw[start] == 10 else 2)
    blank = _BLANK.search(raw, start, end)
    if blank is None:
        raise _Odd
    block = raw[start : blank.start() + 1].decode("ascii", "surrogateescape")
    headers: Headers = []
    at = 0
    while at < len(block):
        # Never searched for: a long line without a colon would be looked at from each of its characters.
        match = _HEADER.match(block, at)
        if match is None:
            raise _Odd
        headers.append((match[1], match[2]))
        at = match.end()
    return headers, blank.end()


def _boundary(content_type: str) -> bytes | None:
    """What separates the parts of a multipart; None for a type that has none."""
    found = _TYPE.fullmatch(content_type)
    if found is None or not content_type.isascii():
        raise _Odd
    main = found[1].lower()
    if main == "message":
        raise _Odd
    if main != "multipart":
        return None
    # Read from left to right, so that what a quoted value says is no parameter.
    named = _PARAMETER.findall(content_type)
    given = [quoted or bare for name, quoted, bare in named if name.lower() == "boundary"]
    if len(given) != 1 or content_type.lower().count("boundary") != 1 or found[2].lower() == "digest":
        raise _Odd
    boundary: str = given[0].rstrip()
    if not boundary or boundary[0] in "< " or "\n" in boundary:
        raise _Odd
    return boundary.encode("ascii")


def _between(raw: bytes, start: int, end: int, separator: bytes) -> Iterator[tuple[int, int]]:
    """Where each part begins and ends, from the first line that separates to the one that closes."""
    first = None
    at = start
    while True:
        line = raw.find(separator, at, end)
        if line < 0:
            raise _Odd
        at = line + len(separator)
        if line > start and raw[line - 1] != 10:
            continue
        closes = raw.startswith(b"--", at)
        over = at + 2 if closes else at
        while over < end and raw[over] in b" \t":
            over += 1
        if raw.startswith(b"\r\n", over):
            over += 2
        elif raw.startswith(b"\n", over):
            over += 1
        elif over < end:
            continue  # a line that only begins like one
        if first == line or (first is None and closes):
            raise _Odd
        if first is not None:
            yield first, line
        if closes:
            return
        first = at = over


def _without_last_break(raw: bytes, start: int, end: int) -> int:
    if end > start and raw[end - 1] == 10:
        end -= 1
        if end > start and raw[end - 1] == 13:
            end -= 1
    return end


def _decoded(data: bytes, encoding: str | None) -> bytes:
    if encoding in _AS_THEY_ARE:
        return data
    if encoding == "quoted-printable":
        return decodestring(data)
    if encoding == "base64":
        joined = b"".join(data.splitlines())
        # The strict mode lets padding that belongs to nothing pass.
        if len(joined) % 4 or joined.endswith(b"==="):
            raise _Odd
        return binascii.a2b_base64(joined, strict_mode=True)
    raise _Odd


# -- in any form ---------------------------------------------------------------------------------------


class _Entity(Message):
    """A message or part that knows how deep it is and how many there are."""

    depth = 0

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.made: list[int] = [1]  # one count for all of a message

    def attach(self, payload: Any) -> None:
        """Take a part in. The parser does so before it reads the part."""
        if isinstance(payload, _Entity):
            payload.depth, payload.made = self.depth + 1, self.made
            self.made[0] += 1
            if payload.depth > DEEPEST:
                raise BadMessage("$.raw", f"parts nested at most {DEEPEST} deep")
            if self.made[0] > _MOST_ENTITIES:
                raise BadMessage("$.raw", f"at most {_MOST_ENTITIES} parts")
        super().attach(payload)

    def get_boundary(self, failobj: Any = None) -> Any:
        """As the standard library's, but that an endless Content-Type names none."""
        if any(len(v) > _LONGEST_TYPE for n, v in self.raw_items() if n.lower() == "content-type"):
            return failobj
        return super().get_boundary(failobj)


def in_any_form(raw: bytes) -> Apart:
    """The message as the standard library reads it. Raises `BadMessage`."""
    try:
        message = BytesParser(_Entity, policy=compat32).parsebytes(raw)
    except RecursionError as error:
        raise BadMessage("$.raw", f"parts nested at most {DEEPEST} deep") from error
    defects: dict[str, None] = {}
    parts: list[Part] = []
    for number, part in enumerate(_leaves(message, defects)):
        parts.append(_part(part))
        if number == _MOST_LEAVES:
            break
    return Apart(list(message.raw_items()), parts, tuple(defects))


def _leaves(message: Message, defects: dict[str, None]) -> Iterator[Message]:
    """Every part that holds no others, in order; a message within a message is one part."""
    waiting = [message]
    while waiting:
        part = waiting.pop()
        if not part.is_multipart() or part.get_content_maintype() == "message":
            yield part
            continue
        defects.update((type(defect).__name__, None) for defect in part.defects)
        waiting += reversed(cast("list[Message]", part.get_payload()))


def _part(part: Message) -> Part:
    contains = part.is_multipart()
    return Part(
        headers=list(part.raw_items()),
        data=b"" if contains else cast("bytes | None", part.get_payload(decode=True)) or b"",
        kind=part.get_default_type(),
        contains=contains,
        size=_size(part) if contains else None,
        # Decoding adds to them.
        defects=tuple(type(defect).__name__ for defect in part.defects),
    )


def _size(part: Message) -> int | None:
    """Bytes of a message within a message; None where it cannot be written again."""
    try:
        return sum(len(inner.as_bytes()) for inner in cast("Sequence[Message]", part.get_payload()))
    except Exception:  # noqa: BLE001  the generator fails in many ways on what the parser let pass
        return None
