"""The products: last price, change, figures of the whole and the last hour as a line."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import msgspec

from enricher.clock import to_date
from enricher.market.documents import BARS
from enricher.market.web.reading import Last, Reading
from enricher.web.views import Asked

PAGE = 50
_LINE = 60


class OfProducts(msgspec.Struct, frozen=True):
    """Products whose name has ``q`` in it, after the one named ``after``."""

    q: str = ""
    after: str = ""


class Product(msgspec.Struct, frozen=True):
    """A row of the list; ``line`` are closes of the last hour, oldest first. Unknown figures are None."""

    name: str
    last: Last | None
    line: list[float]
    status: str | None
    expiries: int | None
    atm_iv: float | None
    pcr: float | None
    call_oi: float | None
    put_oi: float | None
    resistance: float | None
    support: float | None


class Products(msgspec.Struct, frozen=True):
    """One page of products, how many there are, and what to ask for after it ("" at the end)."""

    products: list[Product]
    total: int
    found: int
    next: str


class ProductViews:
    """The view of all products."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def products(self, asked: Asked[OfProducts]) -> Products:
        """A page of products."""
        wanted, every = asked.parameters, await self._reading.names()
        text = wanted.q.casefold()
        found = [name for name in every if text in name.casefold()]
        later = [name for name in found if name > wanted.after]
        page = later[:PAGE]
        rows = await self._reading.held.get(("products", *page), 1, lambda: self._rows(page))
        return Products(rows, len(every), len(found), page[-1] if len(later) > PAGE else "")

    async def _rows(self, names: list[str]) -> list[Product]:
        reading = self._reading
        if not names:
            return []
        lasts = await reading.lasts(names)
        lines = await reading.held.get(("lines", *names), 10, lambda: self._lines(names))
        keys = [f"latest:product:{name}" for name in names] + [f"feed:health:{name}" for name in names]
        values = await reading.cached(*keys)
        return [
            _row(name, lasts.get(name), lines.get(name, []), whole or {}, health or {})
            for name, whole, health in zip(names, values[: len(names)], values[len(names) :], strict=True)
        ]

    async def _lines(self, names: list[str]) -> dict[str, list[float]]:
        """Closes of the last hour by product."""
        since: datetime = to_date(self._reading.host.clock()) - timedelta(minutes=_LINE)
        least = min(self._reading.settings.windows)
        query = {"product": {"$in": names}, "window_minutes": least, "start": {"$gte": since}}
        bars = await self._reading.find(BARS, query, limit=len(names) * _LINE)
        lines: dict[str, list[tuple[datetime, float]]] = {}
        for bar in bars:
            lines.setdefault(bar["product"], []).append((bar["start"], float(bar["close"])))
        return {name: [close for _, close in sorted(points)] for name, points in lines.items()}


def _row(name: str, last: Last | None, line: list[float], whole: Any, health: Any) -> Product:
    closes = line if last is None or not line else [*line, last.price]
    tops = [(whole.get(side) or [{}])[0].get("strike") for side in ("resistance", "support")]
    return Product(
        name=name,
        last=last,
        line=closes,
        status=health.get("status"),
        expiries=whole.get("expiries"),
        atm_iv=whole.get("front_atm_iv"),
        pcr=whole.get("pcr_oi"),
        call_oi=whole.get("total_call_oi"),
        put_oi=whole.get("total_put_oi"),
        resistance=tops[0],
        support=tops[1],
    )
