"""The products: last price, change, figures of the whole and the last hour as a line."""

from __future__ import annotations

from typing import Any

import msgspec

from enricher.clock import MINUTE
from enricher.market.documents import BARS
from enricher.market.web.reading import Last, Reading
from enricher.web.views import Asked

PAGE = 50
_LINE = 60
_PATIENCE = 0.15


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
        """The rows, with what MongoDB says within a moment; the rest is held for those who ask again."""
        if not names:
            return []
        kinds = ("latest:underlying:", "latest:product:", "feed:health:")
        values = await self._reading.cached(*(kind + name for kind in kinds for name in names))
        ticks, wholes, healths = (values[at : at + len(names)] for at in range(0, len(values), len(names)))
        lasts = {n: self._reading.shown(n, tick) for n, tick in zip(names, ticks, strict=True)}
        lines: dict[str, list[float]] = {}

        async def one(name: str) -> None:
            lasts[name] = await self._reading.last_of(name, lasts[name])
            lines[name] = await self._reading.held.get(("line", name), 20, lambda: self._line(name))

        await self._reading.each(names, one, _PATIENCE)
        return [
            _row(name, lasts[name], lines.get(name, []), whole or {}, health or {})
            for name, whole, health in zip(names, wholes, healths, strict=True)
        ]

    async def _line(self, name: str) -> list[float]:
        """Closes of the last hour."""
        reading = self._reading
        query = {"product": name, "window_minutes": min(reading.settings.windows)}
        spans = (_LINE * MINUTE,)
        bars = await reading.latest(BARS, query, "start", reading.host.clock(), spans, _LINE)
        return [float(bar["close"]) for bar in reversed(bars)]


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
