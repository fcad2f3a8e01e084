"""What to say of a file that is of no known format: what was seen in it."""

from __future__ import annotations

from typing import Any

import orjson

from enricher.market.files.source import Source

_WORDS_OF_FAILURE = frozenset(
    (
        "error", "errors", "error_type", "errorcode", "errormessage", "message", "msg", "code", "status",
        "success", "fault", "detail", "reason",
    )
)  # fmt: skip
_SHOWN = 80
_KEYS = 12


def described(source: Source) -> str:
    """What a file of no known format shows, as the end of a sentence that begins with its name."""
    if source.first_line.startswith("<"):
        return f"HTML or XML, no data: it looks like a blocked or failed request ({_cut(source.first_line)})"
    if not source.is_json:
        return f"cannot tell what this is: it begins with {_cut(source.first_line)!r}"
    if source.is_json_lines:
        found = f"JSON Lines, but no recording, which has at and topic; {_keys_of(source.sample)}"
        return f"{found}, and no messages of the feed, which have product and timestamp"
    document = source.root().value  # raises what is wrong with the JSON
    if not document:
        empty = orjson.dumps(document).decode()
        return f"there is nothing in it but {empty}: it looks like a blocked or failed request"
    if isinstance(document, dict) and (words := _words_of_failure(document)):
        return f"it looks like a blocked or failed request, which says {words}"
    if isinstance(document, list):
        first = _cut(orjson.dumps(document[0]).decode())
        return f"cannot tell what this is: a JSON list, whose first item is {first}"
    return f"cannot tell what this is: JSON, but not NSE's option chain (records.data); {_keys_of(document)}"


def _words_of_failure(document: dict[str, Any]) -> str:
    """What a small document without rows says of an error, as it says it."""
    if any(isinstance(value, list | dict) and value for value in document.values()):
        rows = [v for v in document.values() if isinstance(v, list) and v and isinstance(v[0], dict | list)]
        if rows or len(orjson.dumps(document)) > 2000:
            return ""
    found = {key: value for key, value in document.items() if key.casefold() in _WORDS_OF_FAILURE}
    return _cut(orjson.dumps(found).decode()) if found else ""


def _keys_of(found: dict[str, Any]) -> str:
    keys = list(found)
    more = f" and {len(keys) - _KEYS} more" if len(keys) > _KEYS else ""
    return f"its keys are {', '.join(keys[:_KEYS])}{more}" if keys else "it has no keys"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
