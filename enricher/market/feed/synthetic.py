"""A seeded options market that makes the messages of a real feed.

The same seed and the same handed-in times give the same bytes; nothing here reads a clock.
Volatilities are decimals (0.15 is 15 %), vega is per volatility point, theta per calendar day.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson

from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING, Message
from enricher.market.feed.defects import NONE, Defects
from enricher.market.feed.smile import price, smile

NAMES = ("NIFTY", "BANKNIFTY", "FINNIFTY", "MIDCPNIFTY", "SENSEX", "BANKEX")
SPOTS = (22_000.0, 48_000.0, 21_500.0, 11_000.0, 72_500.0, 55_000.0)
TICK = 0.05
STEP_SECONDS = 1.0
YEAR_SECONDS = 365.0 * 86_400.0
QUOTES_PER_ROUND = 6
ROUNDS_PER_CHAIN = 5
EXPIRY_HOUR_UTC = 10  # 15:30 in India

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Contract:
    """What an option carries from one quote to the next."""

    symbol: str
    open_interest: int
    volume: int = 0


@dataclass(slots=True)
class _Product:
    """One underlying: where it stands and what it carries from one message to the next."""

    name: str
    anchor: float
    spot: float
    open: float
    high: float
    low: float
    volatility: float
    step: float
    volume: int = 0
    tick_id: int = 0
    rounds: int = 0
    contracts: dict[tuple[date, float, bool], _Contract] = field(default_factory=dict)


class _Listing:
    """An expiry at a moment: what all options of one message have in common."""

    __slots__ = ("expiry", "stamp", "text", "years")

    def __init__(self, expiry: date, now_us: int) -> None:
        close = datetime(expiry.year, expiry.month, expiry.day, EXPIRY_HOUR_UTC, tzinfo=UTC)
        self.expiry = expiry
        self.text = expiry.isoformat()
        self.stamp = iso(now_us)
        self.years = max(60.0, (close - at(now_us)).total_seconds()) / YEAR_SECONDS


class SyntheticMarket:
    """Ticks, quotes and chains of ``products`` (a number, or names) in the shapes of the feed.

    ``strikes`` (per expiry, around the spot) and ``expiries`` (weekly) give the size of a chain.
    Each tick moves its product by one second's worth of a mean-reverting random walk, however
    often ticks are made. ``defects`` are the shares of messages spoilt on purpose. ``made``
    counts what was made, by channel and by defect.
    """

    def __init__(
        self,
        products: int | Sequence[str] = 4,
        *,
        strikes: int = 21,
        expiries: int = 2,
        seed: int = 7,
        defects: Defects = NONE,
    ) -> None:
        names = _names(products) if isinstance(products, int) else tuple(products)
        if not names or strikes < 1 or expiries < 1:
            raise ValueError("a market needs at least one product, one strike and one expiry")
        self.strikes = strikes
        self.expiries = expiries
        self.defects = defects
        self.made: Counter[str] = Counter()
        self._random = random.Random(seed)
        # Defects draw from a source of their own: spoiling does not change the market's path.
        self._spoiler = random.Random(f"{seed}/defects")
        self._products = {name: self._new_product(name, i) for i, name in enumerate(names)}

    @property
    def products(self) -> tuple[str, ...]:
        return tuple(self._products)

    def mix(self, now_us: int) -> Iterator[Message]:
        """One round at ``now_us``: per product a tick and six quotes, every fifth time a chain."""
        return self._round(lambda: now_us)

    def stream(self, clock: Callable[[], int]) -> Iterator[Message]:
        """Rounds without end; ``clock`` (microseconds since 1970 UTC) is asked per message."""
        while True:
            yield from self._round(clock)

    def tick(self, product: str, now_us: int) -> dict[str, Any]:
        """The next tick of ``product``, as a message before it is encoded."""
        state = self._products[product]
        self._move(state)
        state.tick_id += 1
        state.volume += self._random.randrange(0, 400)
        return {
            "type": "UNDERLYING",
            "product": state.name,
            "price": state.spot,
            "timestamp": iso(now_us),
            "tick_id": state.tick_id,
            "volume": state.volume,
            "open": state.open,
            "high": state.high,
            "low": state.low,
            "close": state.spot,
            "change": round(state.spot - state.open, 2),
        }

    def quote(self, product: str, now_us: int) -> dict[str, Any]:
        """A quote of some listed option of ``product``; strikes near the spot trade more often."""
        state = self._products[product]
        listing = _Listing(self._random.choice(self._expiries(now_us)), now_us)
        index = round(self._random.gauss((self.strikes - 1) / 2.0, self.strikes / 6.0))
        strike = self._strike(state, max(0, min(self.strikes - 1, index)))
        return self._leg(state, listing, strike, call=self._random.random() < 0.5)

    def chain(self, product: str, now_us: int) -> dict[str, Any]:
        """The whole chain of one expiry of ``product``; the expiries take turns."""
        state = self._products[product]
        expiries = self._expiries(now_us)
        expiry = expiries[state.rounds // ROUNDS_PER_CHAIN % len(expiries)]
        listing = _Listing(expiry, now_us)
        strikes = self._strikes(state)
        return {
            "product": state.name,
            "expiry": listing.text,
            "spot_price": state.spot,
            "strikes": strikes,
            "calls": [self._leg(state, listing, strike, call=True) for strike in strikes],
            "puts": [self._leg(state, listing, strike, call=False) for strike in strikes],
            "timestamp": listing.stamp,
        }

    def _round(self, clock: Callable[[], int]) -> Iterator[Message]:
        for state in self._products.values():
            yield from self._emit(UNDERLYING, self.tick, state.name, clock)
            for _ in range(QUOTES_PER_ROUND):
                yield from self._emit(OPTION_QUOTE, self.quote, state.name, clock)
            if state.rounds % ROUNDS_PER_CHAIN == 0:
                yield from self._emit(OPTION_CHAIN, self.chain, state.name, clock)
            state.rounds += 1

    def _emit(
        self, channel: str, make: Callable[[str, int], dict[str, Any]], product: str, clock: Callable[[], int]
    ) -> Iterator[Message]:
        now_us = clock()
        if self.defects is NONE:
            self.made[channel] += 1
            yield channel, orjson.dumps(make(product, now_us))
            return
        spoilt = self.defects.draw(self._spoiler)
        message = make(product, spoilt.backdate(now_us, self._spoiler))
        body = spoilt.encode(message, self._spoiler)
        for _ in range(spoilt.copies):
            self.made[channel] += 1
            yield channel, body
        if spoilt.kind is not None:
            self.made[spoilt.kind] += 1

    def _new_product(self, name: str, index: int) -> _Product:
        known = index < len(SPOTS)
        spot = SPOTS[index] if known else round(self._random.uniform(100.0, 5_000.0), 0)
        spot = _on_grid(spot * self._random.uniform(0.98, 1.02))
        return _Product(
            name=name,
            anchor=spot,
            spot=spot,
            open=spot,
            high=spot,
            low=spot,
            volatility=self._random.uniform(0.11, 0.24),
            step=strike_step(spot),
        )

    def _move(self, state: _Product) -> None:
        """One second of a random walk in ln(price) that is pulled back over some hours."""
        draw = self._random.gauss(0.0, 1.0)
        size = state.volatility * math.sqrt(STEP_SECONDS / YEAR_SECONDS)
        pull = 1e-4 * math.log(state.anchor / state.spot)
        state.spot = _on_grid(state.spot * math.exp(size * draw + pull))
        state.high = max(state.high, state.spot)
        state.low = min(state.low, state.spot)
        # Volatility rises when prices fall.
        drift = 0.002 * (0.16 - state.volatility) - 4e-4 * draw * state.volatility
        state.volatility = max(0.06, min(0.9, state.volatility + drift))

    def _expiries(self, now_us: int) -> list[date]:
        today = at(now_us).date()
        first = today + timedelta(days=(3 - today.weekday()) % 7 or 7)
        return [first + timedelta(weeks=i) for i in range(self.expiries)]

    def _strikes(self, state: _Product) -> list[float]:
        return [self._strike(state, index) for index in range(self.strikes)]

    def _strike(self, state: _Product, index: int) -> float:
        lowest = max(1, round(state.spot / state.step) - (self.strikes - 1) // 2)
        return round((lowest + index) * state.step, 4)

    def _leg(self, state: _Product, listing: _Listing, strike: float, *, call: bool) -> dict[str, Any]:
        contract = state.contracts.get((listing.expiry, strike, call))
        if contract is None:
            contract = self._list(state, listing.expiry, strike, call)
        years = listing.years
        volatility = smile(state.volatility, strike, state.spot, years)
        value = price(call, state.spot, strike, years, volatility)
        half_spread = max(TICK / 2.0, 0.004 * value.price)
        bid = max(0.0, math.floor((value.price - half_spread) / TICK) * TICK)
        ask = max(TICK, math.ceil((value.price + half_spread) / TICK) * TICK)
        last = bid + self._random.random() * (ask - bid)
        contract.volume += int(self._random.random() * 40.0)
        change = int(self._random.random() * 43.0) - 20
        contract.open_interest = max(0, contract.open_interest + change)
        return {
            "symbol": contract.symbol,
            "product": state.name,
            "strike": strike,
            "expiry": listing.text,
            "option_type": "CALL" if call else "PUT",
            "bid": round(bid, 2),
            "ask": round(ask, 2),
            "last": max(TICK, _on_grid(last)),
            "volume": contract.volume,
            "open_interest": contract.open_interest,
            "delta": round(value.delta, 6),
            "gamma": round(value.gamma, 8),
            "vega": round(value.vega, 4),
            "theta": round(value.theta, 4),
            "iv": round(volatility, 6),
            "timestamp": listing.stamp,
        }

    def _list(self, state: _Product, expiry: date, strike: float, call: bool) -> _Contract:
        """A contract seen for the first time: interest is written out of the money."""
        distance = (strike - state.spot) / (state.step * 5.0)
        side = distance if call else -distance
        weight = math.exp(-((side - 0.6) ** 2) / 2.0)
        interest = int(self._random.uniform(20_000, 60_000) * weight) + 50
        symbol = f"{state.name}{expiry:%y%m%d}{'C' if call else 'P'}{strike:.10g}"
        contract = _Contract(symbol, interest, int(interest * self._random.uniform(0.2, 2.0)))
        state.contracts[expiry, strike, call] = contract
        return contract


def strike_step(spot: float) -> float:
    """The round distance between strikes for a spot: 1, 2.5 or 5 times a power of ten."""
    wanted = spot * 0.0025
    power = 10.0 ** math.floor(math.log10(wanted))
    return float(next(f for f in (1.0, 2.5, 5.0, 10.0) if wanted <= f * power * 1.3) * power)


def at(us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=us)


def iso(us: int) -> str:
    """The moment as UTC text, always with six decimals and ``+00:00``."""
    return at(us).isoformat(timespec="microseconds")


def _on_grid(value: float) -> float:
    return round(round(value / TICK) * TICK, 2)


def _names(count: int) -> tuple[str, ...]:
    return tuple(NAMES[i] if i < len(NAMES) else f"PRODUCT{i + 1:03}" for i in range(count))
