"""What the screens read: the caches of the worker, and where those have run out what is stored.

Everything that a screen asks for is bounded, and held for a moment: many browsers that look at one product
cost as much as one of them.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import anyio
import msgspec

from enricher.clock import SECOND, Zones, to_date
from enricher.engine.effects import DOCUMENTS
from enricher.errors import SinkUnavailable
from enricher.market.documents import BARS, CHAINS, STATE, SURFACES, TICKS, micros
from enricher.market.products import Contracts
from enricher.market.settings import MarketSettings
from enricher.market.web.held import Held
from enricher.system import Host
from enricher.web.requests import Refusal

MOST_PRODUCTS = 2000
_PATIENCE = 3.0
_AT_ONCE = 8
HOUR_US = 3600 * SECOND
_DAYS = (4 * 24 * HOUR_US, 16 * 24 * HOUR_US)  # over a weekend; over more holidays than that
_LATER_US = 120 * SECOND  # how far a checkpoint may be behind what is stored

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

    async def latest(
        self,
        collection: str,
        query: Document,
        field: str,
        until_us: int,
        spans_us: Sequence[int],
        limit: int = 1,
    ) -> list[dict[str, Any]]:
        """The last documents before a moment, newest first, looked for in the first span that has enough.

        Some servers go through all that matches before they limit it: it must not be everything.
        """
        found: list[dict[str, Any]] = []
        for span_us in spans_us:
            name, since = self.since(until_us - span_us, field)
            _, until = self.since(until_us, field)
            within = {**query, name: {"$gte": since, "$lt": until}}
            found = await self.find(collection, within, sort=[(name, -1)], limit=limit)
            if len(found) >= limit:
                break
        return found

    def since(self, moment_us: int, field: str = "timestamp") -> tuple[str, datetime | int]:
        """The field by which documents are found by their time, and a moment as it has it.

        Dates of messages that are stored as they were sent say no moment: those are found by another field.
        """
        if field == "timestamp" and self.host.settings.feed.naive_dates == "as_sent":
            return "event_us", moment_us
        return field, to_date(moment_us)

    async def cached(self, *keys: str) -> list[Any]:
        """Values of Redis, read as JSON."""
        values = await self.host.cached(*keys)
        return [None if value is None else msgspec.json.decode(value) for value in values]

    async def each(
        self, items: Sequence[T], work: Callable[[T], Awaitable[None]], patience: float = math.inf
    ) -> None:
        """Work on all items, a few at a time; leave those not done within ``patience`` seconds."""
        limit = anyio.CapacityLimiter(_AT_ONCE)

        async def one(item: T) -> None:
            async with limit:
                await work(item)

        try:
            with anyio.move_on_after(patience):
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

    async def checkpoint(self, product: str) -> Document | None:
        """What a restart begins with: the newest messages, a minute ago, and which chains count."""

        async def load() -> Document | None:
            found = await self.find(STATE, {"_id": product}, limit=1)
            return found[0] if found else None

        return await self.held.get(("checkpoint", product), 2, load)

    async def last(self, product: str) -> Last | None:
        """The last price; None when nothing was ever stored of this product."""
        (tick,) = await self.cached(f"latest:underlying:{product}")
        return await self.last_of(product, self.shown(product, tick))

    def shown(self, product: str, tick: Any) -> Last | None:
        """The price of a cached tick, if there is one."""
        return None if tick is None else Last(float(tick["price"]), self.moment(product, tick["timestamp"]))

    async def last_of(self, product: str, shown: Last | None) -> Last | None:
        """The last price, cached or stored, with what its change is from."""
        last = shown or await self.held.get(("stored", product), 5, lambda: self._stored(product))
        if last is None:
            return None
        base, from_open = await self._base(product, last.at) or (None, False)
        return msgspec.structs.replace(last, base=base, from_open=from_open)

    async def _stored(self, product: str) -> Last | None:
        """The last price that is stored, if there is no other."""
        known = await self.checkpoint(product)
        if known is None or not known.get("ticks_us"):
            return None
        field, since = self.since(int(known["ticks_us"]))
        query = {"product": product, field: {"$gte": since}}
        ticks = await self.find(TICKS, query, sort=[(field, -1)], limit=1)
        return Last(float(ticks[0]["price"]), to_date(int(ticks[0]["event_us"]))) if ticks else None

    async def _base(self, product: str, at: datetime) -> tuple[float, bool] | None:
        """What the change of a price at a moment is from, and whether that is the first price of its day."""
        session, windows = self.contracts.of(product).session(micros(at)), self.settings.windows

        async def load() -> tuple[float, bool] | None:
            longest = {"product": product, "window_minutes": max(windows)}
            before = await self.latest(BARS, longest, "start", session.start_us, _DAYS)
            if before:
                return float(before[0]["close"]), False
            day = {"$gte": to_date(session.start_us), "$lt": to_date(session.end_us)}
            query = {"product": product, "window_minutes": min(windows), "start": day}
            first = await self.find(BARS, query, sort=[("start", 1)], limit=1)
            return (float(first[0]["open"]), True) if first else None

        return await self.held.get(("base", product, session.day), 600, load)

    async def surface(self, product: str) -> Document:
        """The volatility surface as it was drawn last; empty without one."""

        async def load() -> Document:
            (drawn,) = await self.cached(f"volatility_surface:{product}")
            known = None if drawn is not None else await self.checkpoint(product)
            if known is None:
                return drawn or {}
            stored = {"product": product}
            after_us = int(known["options_us"]) + _LATER_US
            found = await self.latest(SURFACES, stored, "timestamp", after_us, (HOUR_US, _DAYS[0]))
            return found[0] if found else {}

        return await self.held.get(("surface", product), 2, load)

    async def expiries(self, product: str) -> list[str]:
        """The expiries of which something is known, the nearest first."""
        drawn, known = await self.surface(product), await self.checkpoint(product) or {}
        contract, newest_us = self.contracts.of(product), int(known.get("options_us", 0))
        named = {str(row["expiry"]) for name in ("expiries", "smiles") for row in drawn.get(name, ())}
        chains = known.get("chains") or {}
        named |= {expiry for expiry in chains if contract.expiry_us(expiry) > newest_us}
        return sorted(named) or sorted(chains)[-1:]

    async def chain(self, product: str, expiry: str) -> Document | None:
        """The newest chain of an expiry."""

        async def load() -> Document | None:
            (shown,) = await self.cached(f"latest:chain:{product}:{expiry}")
            return shown or await self._stored_chain(product, expiry)

        return await self.held.get(("chain", product, expiry), 1, load)

    async def _stored_chain(self, product: str, expiry: str) -> Document | None:
        """The newest since shortly before the checkpoint, else the one that is named there."""
        known = await self.checkpoint(product)
        if known is None:
            return None
        field, since = self.since(int(known["options_us"]) - _LATER_US)
        query = {"product": product, "expiry": expiry, field: {"$gte": since}}
        found = await self.find(CHAINS, query, sort=[(field, -1)], limit=1)
        return found[0] if found else await self._named(known, "chains", expiry)

    async def first_chain(self, product: str, expiry: str, moment_us: int) -> Document | None:
        """The first chain of the local day that a moment belongs to; None until a checkpoint names it."""
        session = self.contracts.of(product).session(moment_us)

        async def load() -> Document | None:
            first = await self._named(await self.checkpoint(product) or {}, "firsts", expiry)
            return first if first and session.start_us <= int(first["event_us"]) < session.end_us else None

        return await self.held.get(("first chain", product, expiry, session.day), 60, load)

    async def _named(self, checkpoint: Document, what: str, expiry: str) -> Document | None:
        identity = (checkpoint.get(what) or {}).get(expiry)
        found = [] if identity is None else await self.find(CHAINS, {"_id": identity}, limit=1)
        return found[0] if found else None

    async def chosen(self, product: str, expiry: str) -> tuple[str, list[str]]:
        """The expiry that is asked for, the nearest without one ("" for none), and all of them."""
        known = await self.expiries(product)
        if expiry and expiry not in known:
            there = ", ".join(known) or "none"
            raise Refusal(404, f"{product} has no expiry {expiry!r:.40}: there are {there}")
        return expiry or (known[0] if known else ""), known
