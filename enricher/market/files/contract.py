"""What a format is, what a reader is told, and what it notes down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from zoneinfo import ZoneInfo

from enricher.errors import EnricherError
from enricher.market.feed.recording import Recorded
from enricher.market.files.source import Source

Column = int | str
"""A column of a table: its name in any case, or its index from 0."""


class OptionNeeded(EnricherError):
    """A file does not say what is needed; the text names the option that does."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a file is to be read: what it does not say itself, and what a guess got wrong. None is not given.

    ``kind`` is the name of a format. ``expiry`` is YYYY-MM-DD, ``timestamp`` an ISO 8601 time of the whole
    file, ``zone`` that of times without an offset. ``time_format`` is a ``strptime`` pattern, or ``epoch``,
    ``epoch-ms``, ``epoch-us``, ``epoch-ns``.
    """

    kind: str | None = None
    zone: ZoneInfo | None = None
    product: str | None = None
    expiry: str | None = None
    spot: float | None = None
    timestamp: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    decimal: str | None = None
    header: bool | None = None
    time_column: Column | None = None
    date_column: Column | None = None
    price_column: Column | None = None
    product_column: Column | None = None
    tick_id_column: Column | None = None
    volume_column: Column | None = None
    time_format: str | None = None


@dataclass(slots=True)
class Notes:
    """What a reader tells beside the messages: guesses, doubts, and how many rows it left out and why."""

    guesses: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    def guess(self, text: str) -> None:
        """Something was found out, not told: shown when asked for."""
        self.guesses.append(text)

    def doubt(self, text: str) -> None:
        """Something may be wrong: always shown."""
        self.doubts.append(text)

    def skip(self, reason: str) -> None:
        """A row is left out; ``reason`` is one of few."""
        self.skipped[reason] += 1


@dataclass(frozen=True, slots=True)
class Format:
    """One layout of files.

    ``name`` is that of ``--kind``, ``title`` how a sentence names it, ``holds`` what is in such files.
    ``seen`` says by what a file shows that it is one, None if it is not. ``read`` yields its messages;
    without it the layout is refused, and ``missing`` says why. ``whole`` says that it is one JSON document:
    of JSON Lines each line is read by itself.
    """

    name: str
    title: str
    holds: Literal["chains", "ticks", "messages"]
    seen: Callable[[Source], str | None]
    read: Callable[[Source, Options, Notes], Iterator[Recorded]] | None = None
    missing: str = ""
    whole: bool = False
