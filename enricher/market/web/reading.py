"""What the screens read: the caches of the worker, and where those have run out what is stored.

Everything that a screen asks for is bounded, and held for a moment: many browsers that look at one product
cost as much as one of them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import anyio
import msgspec

from enricher.clock import SECOND, Zones, to_date
from enricher.engine.effects import DOCUMENTS
from enricher.engine.ports import Clock
from enricher.errors import SinkUnavailable
from enricher.market.documents import BARS, CHAINS, STATE, SURFACES, micros
from enricher.market.products import Contracts
from enricher.market.settings import MarketSettings
from enricher.system import Host
from enricher.web.requests import Refusal

MOST_PRODUCTS = 2000
_PATIENCE = 3.0
_AT_ONCE = 8
_NEVER = 2**62

T = TypeVar("T")
Document = Mapping[str, Any]


class Last(msgspec.Struct, frozen=True):
    """The last price of a product, when it was, and the price that its change is from.

    ``base`` is the close of the day before, or with ``from_open`` the first price of the day, where nothing
    is stored of a day before.
    """

    price: float
    at: datetime
    base: float | None = None
    from_open: bool = False

    @property
    def change(self) -> float | None:
        return None if self.base is None else self.price - self.base

    @property
    def share(self) -> float | None:
        """The change as a fraction of the base."""
        return None if not self.base else self.price / self.base - 1


class Held:
    """What was read a moment ago, by the clock; ``most`` things of it."""

    def __init__(self, clock: Clock, most: int = 2000) -> None:
        self._clock = clock
        self._most = most
        self._held: dict[Hashable, tuple[int, Any]] = {}

    async def get(self, key: Hashable, seconds: float, load: Callable[[], Awaitable[T]]) -> T:
        """What ``load`` said in the last ``seconds``; None, which may change any moment, in the last one."""
        at_us, value = self._held.get(key, (-_NEVER, None))
        # A clock that was set back holds nothing for longer.
        if 0 <= self._clock() - at_us < (seconds if value is not None else min(seconds, 1)) * SECOND:
            return value  # type: ignore[no-any-return]
        loaded = await load()
        if len(self._held) >= self._most:
            self._held.clear()
        self._held[key] = self._clock(), loaded
        return loaded


class Reading:
    """Reads for the screens; all of it raises `SinkUnavailable` while a server is away."""

    def __init__(self, section: MarketSettings, host: Host) -> None:
        self.settings = section
        self.host = host
        self.contracts = Contracts(section.products)
        self.held = Held(host.clock)
        self._zones = Zones(host.settings.feed.timezone, section.timezones)

    # -- ways to read ------------------------------------------------------------------------------

    async def find(
        self, collection: str, query: Document, *, sort: Sequence[tuple[str, int]] = (), limit: int
    ) -> list[dict[str, Any]]:
        """Documents, but not for longer than a page may take."""
        try:
            with anyio.fail_after(_PATIENCE):
                return await self.host.reader.find(collection, query, sort=sort, limit=limit)
        except TimeoutError:
            raise SinkUnavailable(DOCUMENTS, f"no answer within {_PATIENCE:g} s") from None

    async def newest(self, collection: str, query: Document, field: str = "timestamp") -> Document | None:
        """The newest of the documents."""
        found = await self.find(collection, query, sort=[(field, -1)], limit=1)
        return found[0] if found else None

    async def cached(self, *keys: str) -> list[Any]:
        """Values of Redis, read as JSON."""
        values = await self.host.cached(*keys)
        return [None if value is None else msgspec.json.decode(value) for value in values]

    async def each(self, items: Sequence[T], work: Callable[[T], Awaitable[None]]) -> None:
        """Work on all items, a few at a time."""
        limit = anyio.CapacityLimiter(_AT_ONCE)

        async def one(item: T) -> None:
            async with limit:
                await work(item)

        try:
            async with anyio.create_task_group() as tasks:
                for item in items:
                    tasks.start_soon(one, item)
        except* SinkUnavailable as group:
            raise group.exceptions[0] from None

    def moment(self, product: str, value: object) -> datetime:
        """A time as it was sent or stored; one without an offset is read in the product's zone."""
        at = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
        return (at if at.tzinfo else at.replace(tzinfo=self._zones.of(product))).astimezone(UTC)

    # -- what there is -----------------------------------------------------------------------------

    async def names(self) -> list[str]:
        """The products of which anything is known, by name."""

        async def load() -> list[str]:
            return sorted(
                document["_id"] for document in await self.find(STATE, {}, limit=MOST_PRODUCTS)
            )

        return await self.held.get("names", 5, load)

    async def last(self, product: str) -> Last | None:
        """The last price; None when nothing was ever stored of this product."""
        return (await self.lasts([product])).get(product)

    async def lasts(self, products: Sequence[str]) -> dict[str, Last]:
        """The last prices by product."""
        if not products:
            return {}
        ticks = await self.cached(*(f"latest:underlying:{product}" for product in products))
        found: dict[str, Last] = {}

        async def one(pair: tuple[str, Any]) -> None:
            product, tick = pair
            if tick is None:
                bar = await self.held.get(
                    ("last bar", product), 5, lambda: self.newest(BARS, {"product": product}, "start")
                )
                if bar is None:
                    return
                last = Last(float(bar["close"]), bar["end"])
            else:
                last = Last(float(tick["price"]), self.moment(product, tick["timestamp"]))
            base, from_open = await self._base(product, last.at) or (None, False)
            found[product] = msgspec.structs.replace(last, base=base, from_open=from_open)

        await self.each(list(zip(products, ticks, strict=True)), one)
        return found

    async def _base(self, product: str, at: datetime) -> tuple[float, bool] | None:
        """What the change of a price at a moment is from, and whether that is the first price of its day."""
        day = to_date(self.contracts.of(product).session(micros(at)).start_us)
        bars = {"product": product, "window_minutes": min(self.settings.windows)}

        async def load() -> tuple[float, bool] | None:
            before = await self.newest(BARS, {**bars, "start": {"$lt": day}}, "start")
            if before is not None:
                return float(before["close"]), False
            first = await self.find(BARS, {**bars, "start": {"$gte": day}}, sort=[("start", 1)], limit=1)
            return (float(first[0]["open"]), True) if first else None

        return await self.held.get(("base", product, day), 60, load)

    async def surface(self, product: str) -> Document:
        """The volatility surface as it was drawn last; empty without one."""

        async def load() -> Document:
            (drawn,) = await self.cached(f"volatility_surface:{product}")
            return drawn or await self.newest(SURFACES, {"product": product}) or {}

        return await self.held.get(("surface", product), 2, load)

    async def expiries(self, product: str) -> list[str]:
        """The expiries of which something is known, the nearest first."""

        async def load() -> list[str]:
            drawn = await self.surface(product)
            rows = [*drawn.get("expiries", ()), *drawn.get("smiles", ())]
            named = {str(row["expiry"]) for row in rows}
            if not named and (chain := await self.newest(CHAINS, {"product": product})) is not None:
                named = {str(chain["expiry"])}
            return sorted(named)

        return await self.held.get(("expiries", product), 5, load)

    async def chain(self, product: str, expiry: str) -> Document | None:
        """The newest chain of an expiry."""

        async def load() -> Document | None:
            (shown,) = await self.cached(f"latest:chain:{product}:{expiry}")
            return shown or await self.newest(CHAINS, {"product": product, "expiry": expiry})

        return await self.held.get(("chain", product, expiry), 1, load)

    async def first_chain(self, product: str, expiry: str, moment_us: int) -> Document | None:
        """The first chain of the local day that a moment belongs to."""
        day = self.contracts.of(product).session(moment_us).start_us
        field, since = self.since(day)

        async def load() -> Document | None:
            query = {"product": product, "expiry": expiry, field: {"$gte": since}}
            found = await self.find(CHAINS, query, sort=[(field, 1)], limit=1)
            return found[0] if found else None

        return await self.held.get(("first chain", product, expiry, day), 60, load)

    def since(self, moment_us: int) -> tuple[str, datetime | int]:
        """The field by which ticks and chains are found by their event time, and a moment as it has it."""
        if self.host.settings.feed.naive_dates == "as_sent":
            return "event_us", moment_us
        return "timestamp", to_date(moment_us)

    async def chosen(self, product: str, expiry: str) -> tuple[str, list[str]]:
        """The expiry that is asked for, the nearest without one ("" for none), and all of them."""
        known = await self.expiries(product)
        if expiry and expiry not in known:
            there = ", ".join(known) or "none"
            raise Refusal(404, f"{product} has no expiry {expiry!r:.40}: there are {there}")
        return expiry or (known[0] if known else ""), known


def number(value: object) -> float | None:
    """A number of a leg as it was sent; None for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        return value
    return None

