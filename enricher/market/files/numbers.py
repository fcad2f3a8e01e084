"""Numbers as they are written: which mark stands before the decimals, which one groups the thousands."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

_PLAIN = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?", re.ASCII)
_MARKED = re.compile(r"[+-]?\d[\d.,'\u2019 \u00a0\u202f]*", re.ASCII)
_SPACES = "'\u2019 \u00a0\u202f"
_POINT = re.compile(r"[.eE]")
_INT64 = 2**63
_MOST = 300  # characters; no number is longer


@dataclass(frozen=True, slots=True)
class Marks:
    """The decimal mark of a file, ``.`` or ``,``, and whether thousands are grouped by the other one.

    Apostrophes and blanks group, too; commas also as India writes them (12,34,567.50). ``sure`` is False
    where nothing in the file told the marks apart: then a comma that may be either is refused.
    """

    decimal: str = "."
    grouped: bool = True
    sure: bool = True

    def number(self, text: str) -> int | float:
        """The number in a text, whole ones as integers; raises ValueError saying what is wrong."""
        if len(text) > _MOST:
            raise ValueError("a number")
        if self.decimal == "." and _PLAIN.fullmatch(text):
            return _converted(text)
        if not self.grouped:
            raise ValueError("a number")
        found = _grouped(self.decimal).fullmatch(text)
        if found is None:
            marked = f" with the decimal mark {self.decimal!r} (--decimal)" if _MARKED.fullmatch(text) else ""
            raise ValueError(f"a number{marked}")
        if not self.sure and _may_be_either(text):
            raise ValueError("a number whose comma is clear: give --decimal . or --decimal ,")
        whole = re.sub(rf"[.,{_SPACES}]", "", found["whole"])
        return _converted(f"{whole}.{found['decimals']}" if found["decimals"] else whole)


PLAIN = Marks(grouped=False)
"""As programs write numbers: a point before the decimals, nothing between thousands."""


def is_number(text: str) -> bool:
    """Whether a text is a number in any way of writing."""
    return any(_is(text, Marks(decimal)) for decimal in ".,")


def marks_of(texts: Iterable[str]) -> Marks:
    """The marks by which these texts are numbers; those that are no numbers do not count.

    One text tells by having both marks, by one that repeats, or by other than three digits after it. Without
    any such text the point is the decimal mark, and the marks are not ``sure``.
    """
    told = {decimal for text in texts if (decimal := _told(text)) is not None}
    if told == {","}:
        return Marks(",")
    return Marks(".", sure="." in told)


@lru_cache(maxsize=4)
def _grouped(decimal: str) -> re.Pattern[str]:
    group = "." if decimal == "," else ","
    thousands = rf"[1-9]\d{{0,2}}(?P<mark>[{group}{_SPACES}])\d{{3}}(?:(?P=mark)\d{{3}})*"
    indian = r"|[1-9]\d?(?:,\d{2})*,\d{3}" if decimal == "." else ""
    whole = rf"(?P<whole>[+-]?(?:{thousands}{indian}|\d+))"
    return re.compile(rf"{whole}(?:[{decimal}](?P<decimals>\d*))?", re.ASCII)


def _is(text: str, marks: Marks) -> bool:
    try:
        marks.number(text)
    except ValueError:
        return False
    return True


def _told(text: str) -> str | None:
    if len(text) > _MOST or not _MARKED.fullmatch(text) or not {*text} & {".", ","}:
        return None
    fits = [decimal for decimal in ".," if _grouped(decimal).fullmatch(text)]
    return fits[0] if len(fits) == 1 else None


def _may_be_either(text: str) -> bool:
    return "," in text and all(_grouped(decimal).fullmatch(text) for decimal in ".,")


def _converted(text: str) -> int | float:
    if not _POINT.search(text):
        whole = int(text)
        return whole if -_INT64 <= whole < _INT64 else float(whole)
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError("a finite number")
    return value
