"""Which product has which option contract: the shipped table, what a configuration changes, and the look-up.

The rates, yields, lots and tick sizes shipped are round figures that age: `ProductSettings` replaces any of
them. The units are those of `enricher.analytics.contracts.Contract`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import date
from functools import lru_cache
from types import MappingProxyType
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from enricher.analytics.contracts import Contract, Exercise, Settlement
from enricher.analytics.lots import INDIAN
from enricher.config.types import Section, did_you_mean, zone_problem
from enricher.market.product_names import entry_of, name_of
from enricher.messages.leg import OiUnit, PriceUnit

DEFAULT: Final = "default"

_CLOCK = re.compile(r"(?:[01]\d|2[0-3]):[0-5]\d|24:00")
_PAIR = re.compile(r"[-_/]USD")
_ALWAYS = (0, 1, 2, 3, 4, 5, 6)
_KEPT = 4096


class ProductSettings(Section, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the configuration says otherwise about one product; a field left out keeps the shipped value.

    ``like`` names the shipped entry to start from, such as ``US_STOCK``. ``lot`` holds for every expiry.
    """

    like: str | None = None
    zone: str | None = None
    expiry_time: str | None = None
    settlement: Settlement | None = None
    exercise: Exercise | None = None
    rate: Annotated[float, Meta(ge=-1, le=1)] | None = None
    dividend_yield: Annotated[float, Meta(ge=-1, le=1)] | None = None
    dividends: tuple[tuple[str, Annotated[float, Meta(ge=0)]], ...] | None = None
    tick_size: Annotated[float, Meta(gt=0)] | None = None
    lot: Annotated[float, Meta(gt=0)] | None = None
    multiplier: Annotated[float, Meta(gt=0)] | None = None
    oi_unit: OiUnit | None = None
    price_unit: PriceUnit | None = None
    currency: str | None = None
    strike_step: Annotated[float, Meta(gt=0)] | None = None
    session_open: str | None = None
    session_close: str | None = None
    weekdays: tuple[Annotated[int, Meta(ge=0, le=6)], ...] | None = None
    holidays: tuple[str, ...] | None = None
    closed_weight: Annotated[float, Meta(ge=0, le=1)] | None = None
    buildup_min_age: Annotated[float, Meta(ge=0)] | None = None
    spot_apart: Annotated[float, Meta(ge=0)] | None = None
    unit_within: Annotated[float, Meta(ge=0)] | None = None

    def validate(self) -> Iterable[tuple[str, str]]:
        if self.like is not None and self.like not in SHIPPED:
            yield "like", f"a shipped entry: {', '.join(SHIPPED)}{did_you_mean(self.like, SHIPPED)}"
        if self.zone is not None and (problem := zone_problem(self.zone)):
            yield "zone", problem
        for key in ("expiry_time", "session_open", "session_close"):
            clock = getattr(self, key)
            if clock is not None and not _CLOCK.fullmatch(clock):
                yield key, "a time of day as HH:MM, at most 24:00"
        if (self.session_open is None) != (self.session_close is None):
            yield "session_open", "given together with session_close"
        elif self.session_open is not None and self.session_open >= (self.session_close or ""):
            yield "session_close", f"later than session_open, which is {self.session_open}"
        if any(not _is_date(day) for day in self.holidays or ()):
            yield "holidays", "a list of dates as YYYY-MM-DD"
        if any(not _is_date(day) for day, _ in self.dividends or ()):
            yield "dividends", 'a list of dates as YYYY-MM-DD and amounts, such as [["2025-08-11", 0.26]]'

    def over(self, base: Contract, name: str) -> Contract:
        """The contract ``name``: ``base`` with what is set here."""
        given = {key: getattr(self, key) for key in self.__struct_fields__ if key != "like"}
        changes = {key: value for key, value in given.items() if value is not None}
        if "lot" in changes:
            changes["lots"] = None
        if "oi_unit" in changes:
            changes["oi_stated"] = True
        # What exposures are worth depends on the lot, unless the feed counts units.
        assumed = base.assumed and self.lot is None and self.oi_unit != "units"
        return msgspec.structs.replace(base, name=name, assumed=assumed, **changes)


class Contracts:
    """The contract of every product: the shipped table with what the configuration says otherwise.

    A name is looked up as written, in the table and in ``names`` {name: entry}; then in capitals without its
    exchange (``NSE:``), as an entry or as a vendor's name of one (`enricher.market.product_names`), alone or
    before an expiry (``NIFTY25OCT``, ``BTC-27DEC24``). What is left has the class of its exchange, else
    ``default``, and its terms are assumed.
    """

    def __init__(
        self,
        products: Mapping[str, ProductSettings] = MappingProxyType({}),
        names: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._table = dict(SHIPPED)
        self._names = names
        self._found: dict[str, Contract] = {}
        # The default first, for products start from it; then in any order, since ``like`` names shipped ones.
        for name in sorted(products, key=lambda name: name != DEFAULT):
            like = products[name].like
            base = SHIPPED[like] if like is not None else self.of(name)
            self._found.clear()
            self._table[name] = products[name].over(base, name)

    def of(self, product: str) -> Contract:
        """The contract of this product; never fails, see `Contract.assumed`."""
        contract = self._found.get(product)
        if contract is None:
            if len(self._found) >= _KEPT:  # names come from messages, so they may be endless
                self._found.clear()
            contract = self._found[product] = self._look_up(product)
        return contract

    def _look_up(self, product: str) -> Contract:
        product = self._names.get(product, product)
        if product in self._table:
            return self._table[product]
        name = name_of(product)
        found = entry_of(name, self._table, _COINS)
        if found is not None:
            return self._table[found]
        entry_class = _CLASSES.get(name.exchange, DEFAULT)
        if entry_class == "DERIBIT" and _PAIR.search(name.text):
            entry_class = "DERIBIT_USDC"
        return _assumed(self._table[entry_class])


@lru_cache(maxsize=64)
def _assumed(contract: Contract) -> Contract:
    """The terms for a product that nobody named: one object for all of them."""
    return msgspec.structs.replace(contract, assumed=True)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _entries() -> dict[str, Contract]:
    india = Contract(
        name="NSE_STOCK", zone="Asia/Kolkata", expiry_time="15:30", settlement="closing_average",
        rate=0.065, dividend_yield=0.012, tick_size=0.05, currency="INR",
        session_open="09:15", session_close="15:30", assumed=True,  # every stock has a lot of its own
    )  # fmt: skip
    america = Contract(
        name="US_INDEX", zone="America/New_York", expiry_time="16:00", settlement="close", rate=0.04,
        dividend_yield=0.012, tick_size=0.05, lot=100.0, currency="USD",
        session_open="09:30", session_close="16:00",
    )  # fmt: skip
    deribit = Contract(
        name="DERIBIT", expiry_time="08:00", settlement="half_hour_average", tick_size=0.0001,
        price_unit="underlying", currency="USD", session_open="00:00", session_close="24:00",
        weekdays=_ALWAYS,
    )  # fmt: skip

    def like(base: Contract, name: str, **terms: Any) -> Contract:
        return msgspec.structs.replace(base, name=name, assumed=False, **terms)

    morning = {"expiry_time": "09:30", "settlement": "opening"}
    stock = like(america, "US_STOCK", exercise="american", dividend_yield=0.0, tick_size=0.01)
    linear = like(deribit, "DERIBIT_USDC", price_unit="quote", tick_size=0.1, currency="USDC")

    def index(name: str, step: float) -> Contract:
        lots = INDIAN[name]
        return like(india, name, lot=lots.lot, lots=lots, strike_step=step)

    entries = (
        Contract(name=DEFAULT, assumed=True),
        india,
        index("NIFTY", 50.0),
        index("BANKNIFTY", 100.0),
        index("FINNIFTY", 50.0),
        index("MIDCPNIFTY", 25.0),
        index("NIFTYNXT50", 100.0),
        index("SENSEX", 100.0),
        index("BANKEX", 100.0),
        america,
        stock,
        like(america, "SPX", **morning, strike_step=5.0),
        like(america, "SPXW", strike_step=5.0),
        like(america, "XSP", tick_size=0.01, strike_step=1.0),
        like(america, "NDX", **morning, dividend_yield=0.006, strike_step=25.0),
        like(america, "NDXP", dividend_yield=0.006, strike_step=10.0),
        like(america, "RUT", **morning, strike_step=5.0),
        like(america, "RUTW", strike_step=5.0),
        like(america, "DJX", **morning, dividend_yield=0.016, tick_size=0.01, strike_step=1.0),
        like(america, "OEX", exercise="american", strike_step=5.0),
        like(america, "XEO", strike_step=5.0),
        # The volatility index cannot be held, so its forward is its future, or parity, and never its spot.
        like(america, "VIX", **morning, dividend_yield=None, tick_size=0.01, strike_step=1.0),
        like(america, "VIXW", **morning, dividend_yield=None, tick_size=0.01, strike_step=0.5),
        like(stock, "SPY", dividend_yield=0.012, strike_step=1.0),
        like(stock, "QQQ", dividend_yield=0.006, strike_step=1.0),
        like(stock, "IWM", dividend_yield=0.011, strike_step=1.0),
        like(stock, "DIA", dividend_yield=0.016, strike_step=1.0),
        deribit,
        linear,
        like(deribit, "BTC", strike_step=500.0),
        like(deribit, "ETH", strike_step=25.0),
        like(linear, "BTC_USDC", strike_step=500.0),
        like(linear, "ETH_USDC", strike_step=25.0),
        # OKX: a contract is of 0.01 bitcoins or 0.1 ethers.
        like(deribit, "BTC-USD", lot=0.01, tick_size=0.0005, strike_step=500.0),
        like(deribit, "ETH-USD", lot=0.1, tick_size=0.0005, strike_step=25.0),
        *(
            like(linear, f"{coin}USDT", tick_size=tick, currency="USDT")  # Binance: a contract is of one coin
            for coin, tick in (("BTC", 5.0), ("ETH", 0.2), ("BNB", 0.1), ("SOL", 0.01), ("XRP", 0.0001))
        ),
    )
    return {entry.name: entry for entry in entries}


SHIPPED: Final[Mapping[str, Contract]] = MappingProxyType(_entries())
_COINS: Final = frozenset({"BTC", "ETH"})
_CLASSES: Final = MappingProxyType(
    dict.fromkeys(("NSE", "NFO", "NSE_FO", "BSE", "BFO", "BSE_FO"), "NSE_STOCK")
    | dict.fromkeys(("US", "NYSE", "NASDAQ", "AMEX", "ARCA", "OPRA"), "US_STOCK")
    | {"CBOE": "US_INDEX", "DERIBIT": "DERIBIT"}
)
