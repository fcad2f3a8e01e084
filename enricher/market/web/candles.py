"""Candles: the bars that are stored, and those still open, which are made of the ticks since then."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from enricher.analytics.bar_boundaries import Opening, bar_start
from enricher.analytics.sub_bars import Cell, RunningBar
from enricher.clock import MINUTE, SECOND
from enricher.market.bars.bars import LARGEST_VOLUME
from enricher.market.documents import BARS, TICKS, micros
from enricher.market.folds.closed_bars import bar_session
from enricher.market.state.read_back import tick_of
from enricher.market.web.chains import Chains, Head, number
from enricher.market.web.reading import HOUR_US, Document, Last, Reading
from enricher.messages.models import Number
from enricher.web.requests import Refusal
from enricher.web.views import Asked

MOST = 400
_AGAIN = 3  # closed bars that are told once more, for a late tick may have revised them
_TICKS = 5000
_OVERLAP_US = 5 * SECOND
_WATCHED = 100


class OfCandles(msgspec.Struct, frozen=True):
    """Bars of so many minutes: the newest, those since or before a moment (s since 1970)."""

    minutes: int = 0
    since: int = 0
    before: int = 0


class Candle(msgspec.Struct, frozen=True, array_like=True):
    """A bar: its start in s since 1970, prices, and what was traded if that is known."""

    at: int
    open: float
    high: float
    low: float
    close: float
    volume: float | None


class Candles(msgspec.Struct, frozen=True):
    """Bars in the order of time, stored ones and those that still move; what the forward is now."""

    minutes: int
    closed: list[Candle]
    moving: list[Candle]
    last: Last | None
    forward: float | None


class Chart(msgspec.Struct, frozen=True):
    """The screen of a product: its figures, and what its chart begins with."""

    head: Head
    windows: list[int]
    candles: Candles


class OfChart(msgspec.Struct, frozen=True):
    """The expiry of the figures, and the minutes of a candle."""

    expiry: str = ""
    minutes: int = 0


class Open:
    """The ticks of a product since its last stored bar, read bit by bit."""

    def __init__(self, reading: Reading, product: str, minutes: int, session: Opening | None) -> None:
        self._reading = reading
        self._product = product
        self._minutes = minutes
        self._session = session
        self._counts_trades = reading.settings.volume == "trade"
        self._cells: dict[int, Cell] = {}
        self._before: Number | None = None
        self._read_us = 0
        self._seen: dict[str, int] = {}

    async def bars(self, since_us: int) -> list[Candle]:
        """The bars from a moment on, of which none is stored yet."""
        for start in [start for start in self._cells if start < since_us]:
            del self._cells[start]
        from_us = max(since_us, self._read_us - _OVERLAP_US)
        field, since = self._reading.since(from_us)
        query = {"product": self._product, field: {"$gte": since}}
        ticks = await self._reading.find(TICKS, query, sort=[(field, 1)], limit=_TICKS)
        self._seen = {identity: at for identity, at in self._seen.items() if at >= from_us}
        for tick in ticks:
            self._fold(tick, since_us)
        if len(ticks) == _TICKS and self._read_us - from_us < _OVERLAP_US:
            raise Refusal(503, f"more than {_TICKS} ticks in {_OVERLAP_US // SECOND} s", retry_after="5")
        if not self._counts_trades:
            self._before = await self._traded(since_us)
        return self._made()

    def _made(self) -> list[Candle]:
        """The bars of the cells; of volumes of the day so far, what their maximum has grown by."""
        made, before = [], self._before
        for start, cell in sorted(self._cells.items()):
            bar = _of_cell(start, cell)
            if not self._counts_trades and cell.peak >= 0 and before is not None:
                bar = msgspec.structs.replace(bar, volume=max(cell.peak - before, 0))
                before = max(cell.peak, before)
            made.append(bar)
        return made

    async def _traded(self, before_us: int) -> Number | None:
        """What was traded on the day before a moment; None if nobody said."""
        reading, product = self._reading, self._product
        day_us = reading.contracts.of(product).session(before_us).start_us

        async def load() -> Number | None:
            spans = (MINUTE, HOUR_US // 4, before_us - day_us)
            ticks = await reading.latest(TICKS, {"product": product}, "timestamp", before_us, spans)
            at_us = int(ticks[0]["event_us"]) if ticks else 0
            return number(ticks[0].get("volume")) if at_us >= day_us else None

        return await reading.held.get(("traded", product, before_us), 60, load)

    def _fold(self, document: Document, since_us: int) -> None:
        identity = str(document["_id"])
        if identity in self._seen or document.get("folded") is False:
            return
        tick = tick_of(document)
        at = tick.event_us
        self._seen[identity] = at
        self._read_us = max(self._read_us, at)
        start = bar_start(at, self._minutes, self._session)
        if start < since_us:
            return
        cell = self._cells.get(start)
        if cell is None:
            cell = self._cells[start] = Cell(0, start)
        cell.add(at, tick.price, tick.order)
        if tick.volume is None or not 0 <= tick.volume <= LARGEST_VOLUME:
            return
        if self._counts_trades:
            cell.trade(tick.price, tick.volume)
        else:
            cell.peak = max(cell.peak, tick.volume)


class CandleViews:
    """Views of bars."""

    def __init__(self, reading: Reading, chains: Chains) -> None:
        self._reading = reading
        self._chains = chains
        self._windows = sorted(reading.settings.windows)
        self._open: dict[str, Open] = {}

    async def chart(self, asked: Asked[OfChart]) -> Chart:
        """The screen of a product."""
        product, wanted = asked.path["product"], asked.parameters
        head, _ = await self._chains.head(product, wanted.expiry)
        candles = await self.candles(Asked(OfCandles(wanted.minutes), asked.path, asked.who))
        return Chart(head, self._windows, candles)

    async def candles(self, asked: Asked[OfCandles]) -> Candles:
        """Bars of a product."""
        product, wanted = asked.path["product"], asked.parameters
        minutes = wanted.minutes or self._windows[0]
        if minutes not in self._windows:
            windows = ", ".join(map(str, self._windows))
            raise Refusal(422, f"minutes: one of {windows} was expected, got {minutes}")
        if wanted.before:
            earlier = await self._closed(product, minutes, _moment_us(wanted.before))
            return Candles(minutes, earlier, [], None, None)
        since_us = _moment_us(max(wanted.since - _AGAIN * minutes * 60, 0)) if wanted.since else 0
        key = ("candles", product, minutes, wanted.since)
        return await self._reading.held.get(key, 0.9, lambda: self._now(product, minutes, since_us))

    async def _now(self, product: str, minutes: int, since_us: int) -> Candles:
        reading = self._reading
        last = await reading.last(product)
        closed: list[Candle] = []
        moving: list[Candle] = []
        if last is not None:
            closed = await self._closed(product, minutes, micros(last.at), since_us)
            moving = await self._moving(product, minutes, closed, last.at)
        expiries = await reading.expiries(product)
        chain = await reading.chain(product, expiries[0]) if expiries else None
        forward = None if chain is None else (chain.get("forward") or {}).get("price")
        return Candles(minutes, closed, moving, last, forward)

    async def _closed(
        self, product: str, minutes: int, until_us: int, since_us: int = 0, limit: int = MOST
    ) -> list[Candle]:
        """Stored bars that start before a moment, the last of them or those since another one."""
        query = {"product": product, "window_minutes": minutes}
        # Markets are closed most of the time.
        spans = [limit * minutes * MINUTE * times for times in (4, 40)]
        if since_us:
            spans = [until_us - since_us]
        bars = await self._reading.latest(BARS, query, "start", until_us, spans, limit)
        return [_of_bar(bar) for bar in reversed(bars)]

    async def _moving(self, product: str, minutes: int, closed: list[Candle], last: datetime) -> list[Candle]:
        """The bars that are not stored yet, put together from the smallest there are and from ticks."""
        least, session = self._windows[0], bar_session(self._reading.contracts.of(product))
        stored = closed
        if minutes != least:
            stored = await self._closed(product, least, micros(last), limit=minutes // least + 2)
        # Of a product that is new the bar before may not be stored either.
        before = bar_start(micros(last) - least * MINUTE, least, session)
        since_us = (stored[-1].at + least * 60) * SECOND if stored else before
        if product not in self._open:
            while len(self._open) >= _WATCHED:
                del self._open[next(iter(self._open))]
            self._open[product] = Open(self._reading, product, least, session)
        parts = await self._open[product].bars(since_us)
        if minutes == least:
            return parts
        after = closed[-1].at + minutes * 60 if closed else 0
        return _together([part for part in (*stored, *parts) if part.at >= after], minutes, session)


def _together(parts: Iterable[Candle], minutes: int, session: Opening | None) -> list[Candle]:
    """Longer bars of shorter ones, which are in the order of time."""
    made: dict[int, Candle] = {}
    for part in parts:
        at = bar_start(part.at * SECOND, minutes, session) // SECOND
        one = made.get(at)
        if one is None:
            made[at] = msgspec.structs.replace(part, at=at)
            continue
        volumes = [volume for volume in (one.volume, part.volume) if volume is not None]
        high, low = max(one.high, part.high), min(one.low, part.low)
        made[at] = Candle(at, one.open, high, low, part.close, sum(volumes) if volumes else None)
    return list(made.values())


def _of_bar(bar: Document) -> Candle:
    at, volume = micros(bar["start"]) // SECOND, number(bar.get("volume"))
    return Candle(at, float(bar["open"]), float(bar["high"]), float(bar["low"]), float(bar["close"]), volume)


def _of_cell(start_us: int, cell: Cell) -> Candle:
    running = RunningBar(0)
    running.cells.append(cell)
    content = running.content()
    at = start_us // SECOND
    return Candle(at, content.open, content.high, content.low, content.close, content.volume)


def _moment_us(seconds: int) -> int:
    """A moment in microseconds. Raises `Refusal` (422) for one that MongoDB has no date for."""
    if not 0 <= seconds < 2**33:
        raise Refusal(422, f"seconds since 1970 were expected, got {seconds}")
    return seconds * SECOND
