"""Comments (RFC 5322 3.2.2): what stands in parentheses, also within others, but not within quotes."""

from __future__ import annotations

import re

_MARK = re.compile(r'[()"\\]')


def without_comments(value: str, put: str = " ") -> str:
    """``value`` with each comment replaced; one without an end is none."""
    out: list[str] = []
    last = depth = opened = 0
    quoted = False
    skip = -1
    for mark in _MARK.finditer(value):
        at, sign = mark.start(), mark[0]
        if at == skip:
            continue
        if sign == "\\":
            skip = at + 1
        elif sign == '"' and not depth:
            quoted = not quoted
        elif sign == "(" and not quoted:
            if not depth:
                opened = at
            depth += 1
        elif sign == ")" and depth:
            depth -= 1
            if not depth:
                out += (value[last:opened], put)
                last = at + 1
    out.append(value[last:])
    return "".join(out)
