"""What to say of a file that is of no known format: what was seen in it."""

from __future__ import annotations

import json
from typing import Any

from enricher.market.files.source import Source

_WORDS_OF_FAILURE = frozenset(
    (
        "error", "errors", "error_type", "errorcode", "errormessage", "message", "msg", "code", "status", "s",
        "success", "fault", "detail", "reason",
    )
)  # fmt: skip
_ALL_IS_WELL = frozenset(("", "none", "null", "200", "ok", "success", "successful", "true"))
_SHOWN = 80
_KEYS = 12


def described(source: Source) -> str:
    """What a file of no known format shows, as the end of a sentence that begins with its name.

    Raises BadRecord where it begins as JSON and is none.
    """
    unknown = "cannot tell what this is (--kind says it; of a table --delimiter what parts its cells)"
    first = source.first_line
    if first.startswith("<"):
        return f"HTML or XML, no data: it looks like a blocked or failed request ({_cut(first)})"
    if not source.is_json:
        return f"{unknown}: it begins with {_cut(first)!r}"
    if source.is_json_lines:
        keys = _keys_of(source.sample)
        return (
            f"JSON Lines, but no recording, which has at and topic, and no messages of the feed, which have "
            f"product and timestamp; {keys}"
        )
    document = source.root().value
    if not document:
        return f"nothing in it but {_json(document)}: it looks like a blocked or failed request"
    if isinstance(document, list):
        return f"{unknown}: a JSON list, whose first item is {_cut(_json(document[0]))}"
    if words := _words_of_failure(document):
        failed = not all(_is_well(*word) for word in words.items())
        what = "a blocked or failed request" if failed else "an answer without data"
        return f"it looks like {what}, which says {_cut(_json(words))}"
    return f"{unknown}: JSON, but not NSE's option chain (records.data); {_keys_of(document)}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _words_of_failure(document: dict[str, Any]) -> dict[str, Any]:
    """What a document without rows says of an error, or of there being none."""
    found = {key: value for key, value in document.items() if key.casefold() in _WORDS_OF_FAILURE}
    data = [value for key, value in document.items() if key not in found]
    return {} if any(value and isinstance(value, list | dict) for value in data) else found


def _is_well(word: str, value: Any) -> bool:
    """Whether a document says by this that nothing is wrong: ``"status": "SUCCESS"``, ``"error": false``."""
    if isinstance(value, bool):
        return value == (word.casefold() in {"success", "status", "s"})
    text = str(value).strip().casefold()
    return value in ([], {}) or text in _ALL_IS_WELL or not text.strip("0")  # 0, "00000"


def _keys_of(found: dict[str, Any]) -> str:
    keys = list(found)
    more = f" and {len(keys) - _KEYS} more" if len(keys) > _KEYS else ""
    return f"its keys are {', '.join(keys[:_KEYS])}{more}" if keys else "it has no keys"


def _cut(text: str) -> str:
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
