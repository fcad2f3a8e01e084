"""What ``enricher check`` says about the documents: how fast they grow, and when the disk is full."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from pymongo.errors import OperationFailure, PyMongoError

from enricher.adapters.mongo_retention import FIELD
from enricher.config import Settings
from enricher.embedded import read_endpoints
from enricher.texts import span

HEAD = ("collection", "documents", "size", "a day", "seen over", "kept")
DAY: Final = 86_400.0
_LEAST: Final = 60.0  # seconds: over less than that a rate means nothing
_YEARS: Final = 100
_NO_COLLECTION: Final = 26


@dataclass(frozen=True, slots=True)
class Growth:
    """One collection: documents, bytes with indexes, seconds from the first processed to the last.

    None is not known, and ``why`` says why. ``kept`` are seconds, 0 for ever.
    """

    name: str
    kept: int
    count: int | None = None
    size: int | None = None
    seconds: float | None = None
    why: str = ""

    @property
    def documents_a_day(self) -> float | None:
        if not self.count or self.seconds is None or self.seconds < _LEAST:
            return None
        return self.count / self.seconds * DAY

    @property
    def bytes_a_day(self) -> float | None:
        if self.documents_a_day is None or not self.count or self.size is None:
            return None
        return self.documents_a_day * self.size / self.count

    def more_after(self, days: float) -> float:
        """Bytes that it has grown by then; what is kept for a time grows no further after that."""
        a_day, size = self.bytes_a_day or 0.0, self.size or 0
        most = a_day * self.kept / DAY - size if self.kept else a_day * days
        return max(0.0, min(a_day * days, most))

    @property
    def row(self) -> list[str]:
        kept = span(self.kept) if self.kept else "for ever"
        if self.count is None or self.size is None:
            return [self.name, f"unknown: {self.why}", "", "", "", kept]
        a_day = "unknown"
        if self.documents_a_day is not None and self.bytes_a_day is not None:
            a_day = f"{self.documents_a_day:,.0f}, {size_text(self.bytes_a_day)}"
        unknown = f"unknown: {self.why}" if self.why else "unknown"
        seen = unknown if self.seconds is None else span(self.seconds)
        return [self.name, f"{self.count:,}", size_text(self.size), a_day, seen, kept]


@dataclass(frozen=True, slots=True)
class Stored:
    """What was found out about all collections, and bytes of the disk that the server stores on.

    ``free`` is None where nobody says.
    """

    growths: tuple[Growth, ...] = ()
    free: int | None = None
    total: int | None = None

    def lines(self, now: datetime) -> Iterator[str]:
        known = [growth for growth in self.growths if growth.bytes_a_day is not None]
        unknown = [growth.name for growth in self.growths if growth.why]
        a_day = sum(growth.bytes_a_day or 0.0 for growth in known)
        if self.free is None or self.total is None:
            yield "Disk: unknown, because the server does not report its size"
            return
        free = f"Disk: {size_text(self.free)} of {size_text(self.total)} free"
        days = days_until_full(self.free, known)
        if not known:
            yield f"{free}; there is too little data to say when it is full"
        elif days is None:
            yield f"{free}; it will not be full at these rates{_but_for(unknown)}"
        else:
            when = (now + timedelta(days=days)).date().isoformat()
            rate = f"at {size_text(a_day)} a day"
            yield f"{free}; {rate} it is full in {days:,.1f} days ({when}){_but_for(unknown)}"


def _but_for(unknown: Sequence[str]) -> str:
    if not unknown:
        return ""
    return f", or sooner: how fast {', '.join(unknown)} grow{'s' if len(unknown) == 1 else ''} is unknown"


async def ask_growth(database: Any, settings: Settings, timeout: float) -> Stored:
    """Measure every collection that documents are stored in, by its figures and two documents each.

    What takes longer than ``timeout`` seconds, or is not allowed, is unknown. Raises nothing for that.
    """
    # One after the other, for there are servers on which these are no look-ups in an index.
    growths = [await _growth(database, name, kept, timeout) for name, kept in settings.kept().items()]
    return Stored(tuple(g for g in growths if g.count != 0), *await _space(database, settings, timeout))


async def _growth(database: Any, name: str, kept: int, timeout: float) -> Growth:
    found = Growth(name, kept)
    try:
        async with asyncio.timeout(timeout):
            figures = await database.command({"collStats": name})
            size = int(figures["storageSize"]) + int(figures["totalIndexSize"])
            found = replace(found, count=int(figures["count"]), size=size)
            return replace(found, seconds=await _seconds(database, name))
    except TimeoutError:
        return replace(found, why=f"no answer within {timeout:g} s")
    except OperationFailure as error:
        if error.code == _NO_COLLECTION:
            return replace(found, count=0)
        return replace(found, why=str(error.details.get("codeName") if error.details else error))
    except (PyMongoError, OSError, KeyError) as error:
        return replace(found, why=type(error).__name__)


async def _seconds(database: Any, name: str) -> float | None:
    """Between the first document processed and the last.

    An index on the date tells them. Without one they are the first and the last inserted, or of the least and
    the greatest ``_id``, which begins with the event time: of each pair whichever was earlier or later.
    """
    reply = await database.command({"listIndexes": name, "cursor": {"batchSize": 100}})
    indexed = any(next(iter(index["key"])) == FIELD for index in reply["cursor"]["firstBatch"])
    found = []
    for field in (FIELD,) if indexed else ("$natural", "_id"):
        for way in (1, -1):
            condition = {FIELD: {"$type": "date"}} if indexed else {}
            question = {"find": name, "filter": condition, "sort": {field: way}, "limit": 1}
            batch = (await database.command({**question, "projection": {FIELD: 1}}))["cursor"]["firstBatch"]
            found += [document[FIELD] for document in batch if isinstance(document.get(FIELD), datetime)]
    return (max(found) - min(found)).total_seconds() if found else None


async def _space(database: Any, settings: Settings, timeout: float) -> tuple[int | None, int | None]:
    """Free bytes of the disk, and all."""
    figures: Mapping[str, Any] = {}
    with suppress(PyMongoError, OSError, TimeoutError):
        async with asyncio.timeout(timeout):
            figures = await database.command({"dbStats": 1})
    if "fsTotalSize" in figures and "fsUsedSize" in figures:
        total = int(figures["fsTotalSize"])
        return total - int(figures["fsUsedSize"]), total
    folder = data_folder(settings)
    if folder is None:
        return None, None
    usage = shutil.disk_usage(folder)
    return usage.free, usage.total


def data_folder(settings: Settings) -> Path | None:
    """The folder here in which the bundled server of these settings keeps its data, if it is one."""
    with suppress(OSError):
        for folder in (Path.cwd(), *(path for path in Path.cwd().iterdir() if path.is_dir())):
            found = read_endpoints(folder)
            if found is not None and found.mongo_url.split("/")[2] == settings.mongo.url.split("/")[2]:
                return folder
    return None


def days_until_full(free: float, growths: Sequence[Growth]) -> float | None:
    """When these have grown by ``free`` bytes; None if that takes more than a hundred years."""
    least, most = 0.0, _YEARS * 365.0
    if sum(growth.more_after(most) for growth in growths) <= free:
        return None
    while most - least > 0.01:
        middle = (least + most) / 2
        if sum(growth.more_after(middle) for growth in growths) > free:
            most = middle
        else:
            least = middle
    return most


def size_text(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:,.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"
