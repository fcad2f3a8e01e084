"""Headers with parameters (Content-Type, Content-Disposition): the value and its parameters, decoded.

Continuations and charsets are those of RFC 2231; senders that put encoded words into quotes are understood.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

from enricher.mail.charsets import to_text, words

_PARAMETER = re.compile(r';\s*([^\s=;"]+)\s*=\s*(?:"((?:\\.|[^"\\])*)"?|([^;]*))', re.DOTALL)
_SECTION = re.compile(r"(?P<name>[^*]+)(?:\*(?P<number>\d{1,4}))?(?P<encoded>\*)?")
_ESCAPED = re.compile(r"\\(.)", re.DOTALL)


def split(value: str) -> tuple[str, dict[str, str]]:
    """The value of a header (as `charsets.plain` gives it) in lower case, and its parameters by name.

    Names are in lower case. Of a parameter that is there twice the first counts; ``name*`` wins over a plain
    ``name`` (RFC 6266 4.3).
    """
    main, semicolon, _ = value.partition(";")
    kind = main.strip().lower()
    if not semicolon:
        return kind, {}
    simple: dict[str, str] = {}
    parts: dict[str, dict[int, tuple[str, bool]]] = {}
    for match in _PARAMETER.finditer(value, len(main)):
        name, quoted, bare = match.groups()
        text = _ESCAPED.sub(r"\1", quoted) if quoted is not None else (bare or "").strip()
        if "*" not in name:
            simple.setdefault(name.lower(), words(text))
            continue
        found = _SECTION.fullmatch(name)
        if found is not None:
            number = int(found["number"] or 0)
            encoded = found["encoded"] is not None
            parts.setdefault(found["name"].lower(), {}).setdefault(number, (text, encoded))
    for name, sections in parts.items():
        simple[name] = _joined(sections)
    return kind, simple


def _joined(sections: dict[int, tuple[str, bool]]) -> str:
    """The text of a parameter in sections, in the charset that its first one names."""
    charset = None
    data = b""
    for position, number in enumerate(sorted(sections)):
        text, encoded = sections[number]
        if position == 0 and encoded and text.count("'") >= 2:
            charset, _, text = text.split("'", 2)
        data += unquote_to_bytes(text) if encoded else text.encode("utf-8")
    return to_text(data, charset or "utf-8")[0]
