"""The chains of one snapshot, gathered leg by leg from the rows of a vendor."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from enricher.market.feed.recording import Recorded
from enricher.market.files.chains import ChainLegs
from enricher.market.files.contract import Notes, OptionNeeded, Options
from enricher.market.files.source import Source
from enricher.market.files.values import Cell
from enricher.market.files.vendors.fields import when
from enricher.market.files.vendors.option_names import OptionName, in_month
from enricher.messages.leg import OiUnit

_LACKING = {
    "product": ("name of the underlying", "--product"),
    "expiry": ("expiry", "--expiry"),
    "spot": ("price of the underlying", "--spot"),
    "timestamp": ("time", "--time"),
}

_APART = 1.01  # times: prices of an underlying in one snapshot that differ by more are not of one moment

Key = tuple[str, str]  # product and expiry


class Snapshot:
    """What was seen at one moment: one chain for each product and expiry.

    ``title`` names the layout in a sentence, ``oi_unit`` is that of its open interest, None without any.
    ``lacks`` says which of `_LACKING` no such file has, and raises OptionNeeded with all that the options do
    not give. With ``options.product`` only the chains of that product are kept.
    """

    def __init__(
        self,
        source: Source,
        options: Options,
        notes: Notes,
        title: str,
        oi_unit: OiUnit | None,
        lacks: Sequence[str] = (),
    ) -> None:
        self._path = source.path
        self._options = options
        self._notes = notes
        self._title = title
        self._oi_unit = oi_unit
        self._legs: dict[Key, dict[tuple[str, float], dict[str, Any]]] = {}
        self._extra: dict[Key, dict[str, Any]] = {}
        self._spots: dict[str, float] = {}
        self._moment: tuple[str, int] | None = None
        self._others: set[str] = set()
        if missing := [name for name in lacks if getattr(options, name) is None]:
            raise self._needed(*missing)

    def saw(self, moment: tuple[str, int]) -> None:
        """A time of the snapshot (text, microseconds); the newest is that of its chains."""
        if self._moment is None or moment[1] > self._moment[1]:
            self._moment = moment

    def spot(self, product: str, value: float | None) -> None:
        """The price of the underlying; nothing where it is not known."""
        if value is None:
            return
        before = self._spots.setdefault(product, value)
        if not 1 / _APART < value / before < _APART:
            doubt = f"{product} has two prices, {before:.10g} and {value:.10g}: the last one counts (--spot)"
            if doubt not in self._notes.doubts:
                self._notes.doubt(doubt)
        self._spots[product] = value

    def leg(self, option: OptionName, values: Mapping[str, Any], symbol: str | None, where: Cell) -> None:
        """One leg; raises BadRecord (at ``where``) if another one at its place says something else."""
        product, expiry, strike, kind = option
        wanted = self._options.product
        if wanted is not None and wanted.upper() != product.upper():
            self._others.add(product)
            return
        leg = {"symbol": symbol, **values}
        if self._legs.setdefault((product, expiry), {}).setdefault((kind, strike), leg) != leg:
            place = f"{kind.lower()} of {product} {expiry} at {strike}"
            raise where.error(f"one {place}, not two that differ")

    def add(self, product: str, expiry: str, **fields: Any) -> None:
        """Fields of a chain: ``future_price`` of its expiry, ``price_unit``; None is unknown."""
        known = {name: value for name, value in fields.items() if value is not None}
        self._extra.setdefault((product, expiry), {}).update(known)

    def recorded(self) -> Iterator[Recorded]:
        """The chains, nearest expiry first; raises OptionNeeded for what neither file nor options say."""
        if not self._legs and self._others:
            wanted = self._options.product
            raise OptionNeeded(f"{self._path}: no option of {wanted} in it; there is {_few(self._others)}")
        spots = {key: self._spot(key) for key in self._legs}
        time = self._time()
        lacks = ["spot"] if None in spots.values() else []
        if time is None:
            lacks.append("timestamp")
        for key in sorted(self._legs, key=lambda key: (key[1], key[0])):
            spot = spots[key]
            if time is None or spot is None:
                raise self._needed(*lacks)
            chain = ChainLegs(*key, spot, time)
            chain.extra.update(self._extra.get(key, {}))
            if self._oi_unit is not None:
                chain.extra["oi_unit"] = self._oi_unit
            for (kind, strike), leg in self._legs[key].items():
                chain.add(kind, strike, {name: leg[name] for name in leg if name != "symbol"}, leg["symbol"])
            yield chain.recorded()

    def product(self) -> str:
        """The product, where only the options say it."""
        if self._options.product is None:
            raise self._needed("product")
        return self._options.product

    def expiry(self) -> str:
        """The expiry, where only the options say it."""
        if self._options.expiry is None:
            raise self._needed("expiry")
        return self._options.expiry

    def dated(self, option: OptionName, listed: Iterable[str] = ()) -> OptionName | None:
        """The option with the day of its expiry: the last of those ``listed`` in its month, else as given.

        None for another month than that of ``options.expiry``.
        """
        if option.dated:
            return option
        given = in_month(option.expiry, listed) or self.expiry()
        return option._replace(expiry=given) if given.startswith(option.expiry) else None

    def _needed(self, *names: str) -> OptionNeeded:
        """The error that these are missing, which options give."""
        what = " and no ".join(_LACKING[name][0] for name in names)
        give = " ".join(_LACKING[name][1] for name in names)
        return OptionNeeded(f"{self._path}: this looks like {self._title}; it has no {what}: give {give}")

    def _time(self) -> tuple[str, int] | None:
        if self._options.timestamp is not None:
            given = Cell(self._path, None, "option timestamp", self._options.timestamp)
            return when(given, self._options)
        return self._moment

    def _spot(self, key: Key) -> float | None:
        product = key[0]
        if self._options.spot is not None and self._options.product is None:
            products = {name for name, _ in self._legs}
            if len(products) > 1:
                raise OptionNeeded(
                    f"{self._path}: --spot is the price of one product, and there are {_few(products)}: "
                    "choose one by --product"
                )
        if self._options.spot is not None:
            return self._options.spot
        if product in self._spots:
            return self._spots[product]
        if "future_price" not in self._extra.get(key, {}):
            return None
        doubt = "no price of the underlying, only its forward: spot_price is 0, which is unknown (--spot)"
        if doubt not in self._notes.doubts:
            self._notes.doubt(doubt)
        return 0


def _few(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ", ".join(shown[:8]) + (f" and {len(shown) - 8:,} more" if len(shown) > 8 else "")
