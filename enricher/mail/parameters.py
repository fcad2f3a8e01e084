"""Headers with parameters (Content-Type, Content-Disposition): the value and its parameters, decoded.

Continuations and charsets are those of RFC 2231, in every spelling that is met; senders that put encoded
words into quotes, or leave semicolons out, are understood.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import unquote_to_bytes

from enricher.mail.charsets import to_text, words
from enricher.mail.comments import without_comments
from enricher.mail.defects import INVALID_PARAMETERS, UNDECODABLE, Defects

_NAME = re.compile(r"[\s;,]*([^\s=;,\"]+)\s*=\s*")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)("|\Z)', re.DOTALL)
# A bare value, which may have blanks in it, ends at a semicolon, or where one of these begins.
_OTHER = (
    r"(?:charset|(?:file)?name|boundary|format|delsp|type|start|method|size|protocol|micalg|report-type"
    r"|smime-type|(?:creation|modification|read)-date|x-[\w-]+)(?:\*\d*)*\s*="
)
_BARE = re.compile(rf"(?:[^;\s]|\s+(?!{_OTHER}))*", re.IGNORECASE)
_AFTER = re.compile(r"\s*(;?)")
_MAIN = re.compile(r"\s*[\"']?([^\s;,=\"']+)[\"']?\s*(?:[\s,;]|\Z)(?!\s*=)")
_SLASH = re.compile(r"\s*/\s*")
_SECTION = re.compile(r"(?P<name>[^*]+)(?:\*(?P<number>\d{1,4}))?(?P<encoded>\*)?")
# No other: paths of Windows are written as they are.
_ESCAPED = re.compile(r'\\(["\\])')
_SPACE = re.compile(r"\s+")
_LONGEST = 10_000


def split(value: str, defects: Defects | None = None) -> tuple[str, dict[str, str]]:
    """The value of a header (as `charsets.plain` gives it) in lower case, and its parameters by name.

    Names are in lower case. Of a parameter that is there twice the first counts; ``name*`` wins over a plain
    ``name`` (RFC 6266 4.3).
    """
    defects = {} if defects is None else defects
    if len(value) > _LONGEST:
        defects[INVALID_PARAMETERS] = None
        value = value[:_LONGEST]
    if "(" in value and "name" not in value.lower():
        value = without_comments(value)
    main, rest = _value(value, defects)
    if not rest:
        return main, {}
    simple: dict[str, str] = {}
    parts: dict[str, dict[int, tuple[str, bool]]] = {}
    for name, text in _parameters(rest, defects):
        if "*" not in name:
            simple.setdefault(name.lower(), words(text, defects))
            continue
        found = _SECTION.fullmatch(name)
        if found is not None:
            number = int(found["number"] or 0)
            encoded = found["encoded"] is not None
            parts.setdefault(found["name"].lower(), {}).setdefault(number, (text, encoded))
    for name, sections in parts.items():
        simple[name] = _joined(sections, defects)
    return main, simple


def _value(value: str, defects: Defects) -> tuple[str, str]:
    """What stands before the parameters, and the rest."""
    main, _, rest = value.partition(";")
    bare = main.strip().strip("\"'").lower()
    if "/" in bare and " " in bare:
        bare = _SLASH.sub("/", bare)
    if "=" not in bare and " " not in bare and "," not in bare:
        return bare, rest
    # text/plain charset=utf-8; text/plain, charset=utf-8; name=a.pdf
    found = _MAIN.match(value)
    if found is None:
        return ("", value) if "=" in value else (bare, rest)
    if "=" in bare or "=" in rest or "," in bare:
        defects[INVALID_PARAMETERS] = None
    return found[1].lower(), value[found.end() :]


def _parameters(rest: str, defects: Defects) -> Iterator[tuple[str, str]]:
    """Name and value of each parameter."""
    at = 0
    while at < len(rest):
        name = _NAME.match(rest, at)
        if name is None:
            semicolon = rest.find(";", at)
            if rest[at : None if semicolon < 0 else semicolon].strip():
                defects[INVALID_PARAMETERS] = None
            if semicolon < 0:
                return
            at = semicolon + 1
            continue
        at = name.end()
        quoted = _QUOTED.match(rest, at)
        if quoted is not None:
            text = _ESCAPED.sub(r"\1", quoted[1]) if "\\" in quoted[1] else quoted[1]
            if not quoted[2]:
                defects[INVALID_PARAMETERS] = None
            at = quoted.end()
        else:
            bare = _BARE.match(rest, at)
            assert bare is not None  # noqa: S101  it may be empty
            text = bare[0].strip()
            at = bare.end()
        after = _AFTER.match(rest, at)
        assert after is not None  # noqa: S101  it may be empty
        at = after.end()
        if at < len(rest) and not after[1]:
            defects[INVALID_PARAMETERS] = None
        if "\t" in text:
            text = _SPACE.sub(" ", text)  # how a fold within quotes is written
        yield name[1], text


def _joined(sections: dict[int, tuple[str, bool]], defects: Defects) -> str:
    """The text of a parameter in sections, in the charset that its first one names."""
    charset = None
    data = b""
    for position, number in enumerate(sorted(sections)):
        text, encoded = sections[number]
        if position == 0 and encoded and "'" in text:
            charset, _, text = text.partition("'")
            # The language between two apostrophes; some write one only.
            language, apostrophe, after = text.partition("'")
            text = after if apostrophe and len(language) <= 20 else text
        data += unquote_to_bytes(text) if encoded else text.encode("utf-8", "surrogateescape")
    text, explained = to_text(data, charset or "utf-8")
    if not explained:
        defects[UNDECODABLE] = None
    return words(text, defects) if not charset else text
