"""Addresses without their passwords, for whatever a person or a log may get to see."""

from __future__ import annotations

import re
from collections.abc import Mapping

# Greedy up to the last "@" of the word: a password may itself hold "@", "/" or ":" where somebody
# forgot to escape it. Hiding a little too much of such an address is the cheaper mistake.
_USERINFO = re.compile(r"([a-z][a-z0-9+.\-]*://[^\s:/@?#]*):\S+@", re.IGNORECASE)
_OPTION = re.compile(
    r"([?&;][\w.\-]*(?:password|passwd|pwd|secret|token)[\w.\-]*=)[^&;#\s]+", re.IGNORECASE
)
_AWS_TOKEN = re.compile(r"(AWS_SESSION_TOKEN:)[^,&\s]+", re.IGNORECASE)

HIDDEN = "***"


def redact_text(text: str) -> str:
    """The text with the password of every URL in it replaced by ``***``.

    Covers ``scheme://user:password@host`` and options such as ``?password=...``; a text without
    a URL comes back unchanged (the same object).
    """
    if "://" not in text:
        return text
    text = _USERINFO.sub(rf"\1:{HIDDEN}@", text)
    text = _OPTION.sub(rf"\1{HIDDEN}", text)
    return _AWS_TOKEN.sub(rf"\1{HIDDEN}", text)


def redact(url: str) -> str:
    """One address without its password, even when it is not well formed.

    An address that lacks its scheme (``user:password@host``) loses everything before the last
    ``@``, because there is no telling where the password begins.
    """
    if "://" in url:
        return redact_text(url)
    _, at, host = url.rpartition("@")
    return f"{HIDDEN}@{host}" if at else url


def redact_value(value: object) -> object:
    """The value with the password of every URL hidden, however deep the text lies; odd values as text."""
    if isinstance(value, str):
        return redact_text(value)
    if isinstance(value, int | float | None):
        return value
    if isinstance(value, Mapping):
        return {redact_text(str(key)): redact_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [redact_value(item) for item in value]
    return redact_text(repr(value))
