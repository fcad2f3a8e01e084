"""Part `fuzz`: mutated messages and files, none of which may end in an error of ours or take long.

Messages of the synthetic market go through decoding, handler and folds of a lane, as in a worker; files go
through the door of `replay` and `analyse`. What is wrong with them is a `BadMessage` or an `EnricherError`;
anything else is an uncaught exception. Mutations are of bytes (flipped, cut, doubled, spliced), of words
(numbers and texts that mean trouble in the place of others), of members of JSON and of columns of tables
(gone, doubled, exchanged, all in trouble), up to 20 kB; some files are packed then, or in another encoding.
Times are CPU of this one thread; one that is slow is taken again, for the least of three. Every finding is
written to a folder.
"""

from __future__ import annotations

import gzip
import io
import json
import logging
import random
import re
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from benchmarks.fuzz_seeds import FILES
from benchmarks.parts import Options
from benchmarks.report import Report
from benchmarks.workloads import workload
from enricher.analytics.steps import at_once
from enricher.assembly import planned
from enricher.engine.router import Context, Route
from enricher.errors import BadMessage, EnricherError
from enricher.market.files import FORMATS, Notes, read
from enricher.market.files import Options as FileOptions
from enricher.market.state.market_state import MarketState
from enricher.systems import load

LARGEST = 20_000
SLOW = 0.05
_LANE = 400  # messages to one lane, then a new one
_FUTURE_US = 4_102_444_800_000_000  # in 2100
_TERMS = {"exercise": "american", "rate": 0.04, "dividends": [["2100-02-01", 1.5], ["2100-05-01", 1.5]]}
_AMERICAN = {"default": _TERMS}
_WORD = re.compile(rb'-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?|"[^"\\]{0,40}"|true|false|null|[A-Za-z_]{2,20}')
_TROUBLE = (
    b"0", b"-0", b"-1", b"1e308", b"-1e309", b"1e-320", b"99999", b"999999.99", b"2147483647", b"4294967295",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"1" * 400, b"NaN",
    b"Infinity", b"-Infinity", b"null", b"true", b'""', b'"-"', b'"NaN"', b'"\\ud800"', b'"\\u0000"', b"[]",
    b"{}", b"[[[[]]]]", b'"9999-12-31"', b'"0001-01-01"', b'"2026-02-30"', b'"1743090350654"',
    b'"2026-08-13T09:15:00+99:99"', b"1743090350654", b"0.1.2", b"1,00,000.50", b"1_000", b"\xef\xbb\xbf",
    b"\xff\xfe", b"\x00", b"\r", b'"', b",,,,", "\u0663".encode(), b"\xe9", b"CALL", b"PUT", b"28-Oct-2025",
    b"2025-10-28",
)  # fmt: skip


def mutated(seed: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """A seed with one to eight changes, at most `LARGEST` bytes."""
    data = seed
    for _ in range(chance.choice((1, 1, 1, 1, 2, 2, 3, 8))):
        data = chance.choice(_CHANGES)(data, others, chance)[:LARGEST]
    return data


def _word(data: bytes, _others: list[bytes], chance: random.Random) -> bytes:
    words = list(_WORD.finditer(data))
    if not words:
        return data + chance.choice(_TROUBLE)
    at = chance.choice(words)
    by = chance.choice(_TROUBLE) if chance.random() < 0.7 else chance.choice(words)[0]
    return data[: at.start()] + by + data[at.end() :]


def _flip(data: bytes, _others: list[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) or 1)
    return data[:at] + bytes((chance.randrange(256),)) + data[at + 1 :]


def _cut(data: bytes, _others: list[bytes], chance: random.Random) -> bytes:
    first, last = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
    return data[:first] + data[last:] if chance.random() < 0.5 else data[:last]


def _double(data: bytes, _others: list[bytes], chance: random.Random) -> bytes:
    first = chance.randrange(len(data) + 1)
    part = data[first : first + chance.choice((1, 10, 100, 2000))]
    return data[:first] + part * chance.choice((2, 3, 50)) + data[first:]


def _splice(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    other = chance.choice(others)
    return data[: chance.randrange(len(data) + 1)] + other[chance.randrange(len(other) + 1) :]


def _insert(data: bytes, _others: list[bytes], chance: random.Random) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.choice(_TROUBLE) + data[at:]


def _member(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """Of the JSON of a file, or of one of its lines."""
    lines = data.split(b"\n") if data.count(b"\n{") else [data]
    at = chance.randrange(len(lines))
    try:
        document = json.loads(lines[at])
        trouble = json.loads(chance.choice(_TROUBLE))
    except (ValueError, RecursionError):
        return _word(data, others, chance)
    places: list[tuple[Any, Any]] = []
    todo = [document]
    while todo:
        holder = todo.pop()
        keys: list[Any] = list(holder) if isinstance(holder, dict) else []
        if isinstance(holder, list):
            keys = list(range(len(holder)))
        places += [(holder, key) for key in keys]
        todo += [holder[key] for key in keys]
    if not places:
        return _insert(data, others, chance)
    (holder, key), (other, twin) = chance.choice(places), chance.choice(places)
    match chance.randrange(6):
        case 0:
            del holder[key]
        case 1:
            holder[key] = trouble
        case 2:
            holder[key] = json.loads(json.dumps(other[twin]))
        case 3:
            holder[key] = [holder[key]]
        case 4 if isinstance(holder, list):
            holder.append(holder[key])
        case _:
            for one, name in places:  # wherever it has this name
                if name == key and isinstance(one, dict):
                    one[name] = trouble
    lines[at] = json.dumps(document).encode()
    return b"\n".join(lines)


def _column(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    mark = max((b",", b";", b"\t", b"|"), key=lines[0].count)
    rows = [line.split(mark) for line in lines]
    width = len(rows[0])
    if width < 2:
        return _word(data, others, chance)
    at, to, how = chance.randrange(width), chance.randrange(width), chance.randrange(5)
    trouble = chance.choice(_TROUBLE)
    for row in rows if chance.random() < 0.7 else [chance.choice(rows)]:
        if len(row) <= max(at, to):
            continue
        match how:
            case 0:
                del row[at]
            case 1:
                row[at], row[to] = row[to], row[at]
            case 2:
                row.insert(to, row[at])
            case 3:
                row[at] = b""
            case _ if row is not rows[0]:
                row[at] = trouble
    return b"\n".join(mark.join(row) for row in rows)


_CHANGES = (
    *[_word] * 10, *[_member] * 4, *[_column] * 3, _flip, _flip, _insert, _insert, _cut, _double, _splice
)  # fmt: skip


def _zipped(data: bytes) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("data", data)
    return memory.getvalue()


_WRAPS: tuple[Callable[[bytes], bytes], ...] = (
    gzip.compress,
    _zipped,
    lambda data: gzip.compress(gzip.compress(data)),
    lambda data: _zipped(gzip.compress(data)),
    lambda data: data.decode("latin-1").encode("utf-16"),
    lambda data: data.decode("latin-1").encode("utf-16-le"),
    lambda data: b"\xef\xbb\xbf" + data,
    lambda data: data.replace(b"\n", b"\r\n"),
    lambda data: data.replace(b"\n", b"\r"),
)


class Messages:
    """What a worker does with a message: a lane of each of its routes."""

    name = "messages"

    def __init__(self) -> None:
        self._routes: dict[str, Route] = {}
        self._taken = 0
        self.seeds: list[tuple[str, bytes]] = []
        for kind in ("ticks", "quotes", "chains"):
            self.seeds += workload(kind, 12)
        coin = json.loads(next(body for topic, body in self.seeds if topic.endswith("chain")))
        coin |= {"price_unit": "underlying", "oi_unit": "units", "future_price": coin["spot_price"] * 1.01}
        self.seeds.append(("market:option_chain", json.dumps(coin).encode()))
        # A stock with two dividends until the expiry, and one whose volumes are of the day.
        coin |= {"expiry": "2100-06-18", "timestamp": "2099-12-31T10:00:00-05:00", "price_unit": "quote"}
        self.seeds += [("market:option_chain", json.dumps(coin).encode())] * 3

    def made(self, chance: random.Random) -> tuple[str, bytes]:
        """A topic and a mutated message; all of one product, as far as they still name it."""
        topic, seed = chance.choice(self.seeds)
        return topic, mutated(seed, [body for _, body in self.seeds], chance)

    def run(self, topic: str, body: bytes) -> bool:
        """Whether it was accepted."""
        if self._taken % _LANE == 0:
            volume = "cumulative" if self._taken % (2 * _LANE) else "trade"
            told = {
                "market.buildup_min_age": 0.0, "market.extras": "second_order", "market.volume": volume,
                "market.products": _AMERICAN if self._taken % (3 * _LANE) == 0 else {},
            }  # fmt: skip
            plan = planned(load(overrides=told))[0]
            self._routes = {route.topic: route for route in plan.routes}
            self._states: dict[str, Any] = {}
        self._taken += 1
        route = self._routes[topic]
        store = route.state_store
        assert isinstance(store, MarketState)
        context = Context(topic, body, _FUTURE_US, 1, {})
        try:
            event = route.decode(body, context)
            state = self._states.setdefault(event.product, store.new(event.product))
            if store.seen(state, event, context) is not None:
                return True
            handled = route.handler(state, event, context)
            if not isinstance(handled, tuple):
                handled = at_once(handled)
            store.fold(state, handled[0])
        except BadMessage:
            return False
        store.show(state, _FUTURE_US)
        return True


class Files:
    """What `replay` and `analyse` read of a file."""

    name = "files"

    def __init__(self, folder: Path) -> None:
        self._path = folder / "file"
        given = FileOptions(
            product="NIFTY", expiry="2026-08-18", spot=25010.0, timestamp="2026-08-13T10:00:00+05:30",
            zone=ZoneInfo("Asia/Kolkata"),
        )  # fmt: skip
        self._told = {
            "none": FileOptions(),
            "given": given,
            "decimal": replace(given, decimal=",", delimiter=";", header=True),
            "format": replace(given, time_format="%d/%m/%Y %H:%M:%S", header=False, time_column=0),
            "epoch": replace(given, time_format="epoch-ms", encoding="cp1252"),
            **{one.name: replace(given, kind=one.name) for one in FORMATS if one.read is not None},
        }

    def made(self, chance: random.Random) -> tuple[str, bytes]:
        """Which options it is read with, and a mutated file."""
        content = mutated(chance.choice(FILES), FILES, chance)
        if chance.random() < 0.1:
            content = chance.choice(_WRAPS)(content)
        told = list(self._told)
        return chance.choice(told if chance.random() < 0.3 else told[:2]), content

    def run(self, options: str, body: bytes) -> bool:
        """Whether all of it was read."""
        self._path.write_bytes(body)
        try:
            for _ in read(self._path, self._told[options], Notes()):
                pass
        except EnricherError:
            return False
        return True


def run(options: Options) -> list[Report]:
    """A row for messages and for files; failed if one is uncaught or slow."""
    logging.getLogger("enricher").setLevel(logging.CRITICAL)  # what a feed like this is said to lack
    count = int(options.number("fuzz.count", 2_000 if options.quick else 200_000))
    seed = int(options.number("fuzz.seed", 7))
    report = Report(
        "fuzz", f"{count:,} mutated messages and files of up to {LARGEST // 1000} kB, seed {seed}",
        ["of", "count", "accepted", "refused", "uncaught", "slow", "slowest ms"],
    )  # fmt: skip
    kept = Path(tempfile.mkdtemp(prefix="fuzz-"))
    with tempfile.TemporaryDirectory() as folder:
        for of, share in ((Messages(), count // 2), (Files(Path(folder)), count - count // 2)):
            report.rows.append(_fuzzed(of, share, random.Random(seed), kept, report.notes))
    report.failed = any(row["uncaught"] or row["slow"] for row in report.rows)
    if not any(kept.iterdir()):
        kept.rmdir()
    return [report]


def _fuzzed(
    of: Messages | Files, count: int, chance: random.Random, kept: Path, notes: list[str]
) -> dict[str, Any]:
    row = {"of": of.name, "count": count, "accepted": 0, "refused": 0, "uncaught": 0, "slow": 0}
    slowest = 0.0
    for at in range(count):
        how, body = of.made(chance)
        try:
            took, accepted = _timed(of, how, body)
            if took > SLOW:
                took = min(took, *(_timed(of, how, body)[0] for _ in range(3)))
        except Exception as error:  # noqa: BLE001  that is what is looked for
            row["uncaught"] += 1
            _keep(kept / f"{of.name}-{at}", body, f"{how}: {error!r}", notes)
            continue
        row["accepted" if accepted else "refused"] += 1
        slowest = max(slowest, took)
        if took > SLOW:
            row["slow"] += 1
            _keep(kept / f"{of.name}-{at}", body, f"{how}: {1000 * took:.0f} ms", notes)
    return {**row, "slowest ms": round(1000 * slowest, 1)}


def _timed(of: Messages | Files, how: str, body: bytes) -> tuple[float, bool]:
    before = time.thread_time()
    accepted = of.run(how, body)
    return time.thread_time() - before, accepted


def _keep(path: Path, body: bytes, what: str, notes: list[str]) -> None:
    path.write_bytes(body)
    if len(notes) < 20:
        notes.append(f"{path}: {what}")
