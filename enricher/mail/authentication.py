"""``Authentication-Results`` (RFC 8601): what a host that a mail came through says of who sent it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from enricher.mail.comments import without_comments
from enricher.mail.models import Authentication

_MOST = 100
_LONGEST = 20_000
_PAIR = re.compile(r'([\w.-]+)(?:\s*/\s*\d+)?\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))')
_STATEMENT = re.compile(r'(?:[^;"]++|"(?:[^"\\]|\\.)*+"|")*+')


def authentications(values: Iterable[str]) -> tuple[Authentication, ...]:
    """What the headers say, in their order: the one that was added last is first.

    Anybody can write such a header: trust the ``host`` that is yours, and none other.
    """
    found: list[Authentication] = []
    for value in values:
        host = None
        for statement in _STATEMENT.finditer(without_comments(value[:_LONGEST])):
            text = statement[0].strip()
            if not text:
                continue
            pairs = [(name.lower(), quoted or bare) for name, quoted, bare in _PAIR.findall(text)]
            if host is None:
                # Some hosts leave out who they are.
                host = "" if pairs else text.split()[0]
            if pairs and len(found) < _MOST:
                (method, result), *rest = pairs
                found.append(
                    Authentication(
                        host=host,
                        method=method,
                        result=result.lower(),
                        reason=next((text for name, text in rest if name == "reason"), None),
                        properties=tuple(pair for pair in rest if pair[0] != "reason"),
                    )
                )
    return tuple(found)
