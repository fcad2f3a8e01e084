"""What `benchmarks.least` is made of: the messages as it reads them, windows, numbers of a chain, times."""

from __future__ import annotations

import hashlib
from bisect import bisect_right, insort
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

MINUTE = 60_000_000
WINDOWS = (1, 5, 15)

Text = Annotated[str, Meta(min_length=1)]
Amount = Annotated[int, Meta(ge=0)] | Annotated[float, Meta(ge=0, le=1e100)]
Option = Literal["CALL", "PUT"]


encode = msgspec.json.Encoder().encode
"""JSON as bytes. orjson is as fast, but leaves each result with the 4 KiB that it was written into."""


class Tick(msgspec.Struct, gc=False):
    """What is needed of a tick."""

    product: Text
    price: Amount
    timestamp: str
    tick_id: int | str | None = None


class Quote(msgspec.Struct, gc=False):
    """What is needed of a quote, the rest only checked."""

    symbol: Text
    product: Text
    strike: Amount
    expiry: str
    option_type: Option
    timestamp: str
    bid: Amount | None = None
    ask: Amount | None = None
    last: Amount | None = None
    iv: float | None = None


class Leg(msgspec.Struct, gc=False):
    """What is needed of a leg."""

    strike: Amount
    bid: Amount | None = None
    ask: Amount | None = None
    last: Amount | None = None
    volume: Amount | None = None
    open_interest: Amount | None = None
    iv: float | None = None


class Chain(msgspec.Struct):
    """What is needed of a chain."""

    product: Text
    expiry: str
    spot_price: Amount
    timestamp: str
    calls: list[Leg]
    puts: list[Leg]
    strikes: list[Amount] = []


class Decoded(msgspec.Struct):
    """A batch, each message with its event time (microseconds) and as a date without zone, in UTC."""

    ticks: list[tuple[Tick, bytes, int, datetime]]
    quotes: list[tuple[Quote, dict[str, Any], bytes, int, datetime]]
    chains: list[tuple[Chain, dict[str, Any], bytes, int, datetime]]


class Window:
    """The ticks of one product in 15 minutes, with staircases of the prices that no later one reaches."""

    __slots__ = ("events", "high_at", "highs", "latest", "low_at", "lows", "prices")

    def __init__(self) -> None:
        self.events: list[int] = []
        self.prices: list[float] = []
        self.highs: list[float] = []
        self.high_at: list[int] = []
        self.lows: list[float] = []
        self.low_at: list[int] = []
        self.latest = ""

    def late(self, us: int, price: float) -> None:
        """Put a tick in its place; the staircases are built anew, for it happens seldom."""
        every = list(zip(self.events, self.prices, strict=True))
        insort(every, (us, price))
        for column in (self.events, self.prices, self.highs, self.high_at, self.lows, self.low_at):
            column.clear()
        for at, value in every:
            self.add(at, value)

    def add(self, us: int, price: float) -> None:
        """Append a tick that is not older than the last."""
        highs, high_at, lows, low_at = self.highs, self.high_at, self.lows, self.low_at
        self.events.append(us)
        self.prices.append(price)
        while highs and highs[-1] <= price:
            highs.pop()
            high_at.pop()
        highs.append(price)
        high_at.append(us)
        while lows and lows[-1] >= price:
            lows.pop()
            low_at.pop()
        lows.append(price)
        low_at.append(us)

    def forget(self) -> None:
        """Drop what has left the longest window, when that is worth a move."""
        edge = self.events[-1] - max(WINDOWS) * MINUTE
        if bisect_right(self.events, edge) * 8 > len(self.events):
            for times, values in (
                (self.events, self.prices),
                (self.high_at, self.highs),
                (self.low_at, self.lows),
            ):
                cut = bisect_right(times, edge)
                del times[:cut], values[:cut]

    def shown(self, product: str, minutes: int) -> bytes:
        """The window of so many minutes as JSON."""
        events = self.events
        edge = events[-1] - minutes * MINUTE
        first = bisect_right(events, edge)
        return encode(
            {
                "product": product,
                "window_minutes": minutes,
                "open": self.prices[first],
                "high": self.highs[bisect_right(self.high_at, edge)],
                "low": self.lows[bisect_right(self.low_at, edge)],
                "close": self.prices[-1],
                "start_time": text_of(events[first]),
                "end_time": text_of(events[-1]),
                "num_ticks": len(events) - first,
            }
        )


def analysed(chain: Chain) -> dict[str, Any]:
    """The contract's numbers of a chain; sums of prefixes make max pain linear in the strikes."""
    calls = {leg.strike: leg for leg in chain.calls}
    puts = {leg.strike: leg for leg in chain.puts}
    strikes = sorted({*chain.strikes, *calls, *puts})
    spot = chain.spot_price
    call_oi = {k: leg.open_interest or 0 for k, leg in calls.items()}
    put_oi = {k: leg.open_interest or 0 for k, leg in puts.items()}
    total_call, total_put = sum(call_oi.values()), sum(put_oi.values())
    call_volume = sum([leg.volume or 0 for leg in chain.calls])
    put_volume = sum([leg.volume or 0 for leg in chain.puts])
    atm = min(strikes, key=lambda k: (abs(k - spot), k))
    call, put = calls.get(atm), puts.get(atm)
    straddle = None
    if call is not None and put is not None and call.last is not None and put.last is not None:
        straddle = round(call.last + put.last, 2)
    return {
        "pcr_oi": round(total_put / total_call, 4) if total_call else None,
        "pcr_volume": round(put_volume / call_volume, 4) if call_volume else None,
        "atm_strike": atm,
        "atm_straddle_price": straddle,
        "max_pain_strike": max_pain(strikes, call_oi, put_oi) if total_call + total_put else None,
        "total_call_oi": total_call,
        "total_put_oi": total_put,
        "call_buildup_otm": sum([oi for k, oi in call_oi.items() if k > spot]),
        "put_buildup_otm": sum([oi for k, oi in put_oi.items() if k < spot]),
    }


def max_pain(strikes: list[float], call_oi: dict[float, float], put_oi: dict[float, float]) -> float:
    """The strike at which writers pay least: between two strikes the pain changes by a known slope."""
    slope = -sum(put_oi.values())
    pain = least = 0.0
    best = before = strikes[0]
    for strike in strikes:
        pain += slope * (strike - before)
        if pain < least:
            least, best = pain, strike
        slope += call_oi.get(strike, 0) + put_oi.get(strike, 0)
        before = strike
    return best


def appended(body: bytes, raw: dict[str, Any], fields: dict[str, Any]) -> bytes:
    """The message with fields added: behind the bytes that came, unless one of the names is taken."""
    if body.endswith(b"}") and raw.keys().isdisjoint(fields):
        return b"%b,%b" % (body[:-1], encode(fields)[1:])
    return encode({**raw, **fields})


def digest(body: bytes) -> str:
    """24 hexadecimal digits that stand for these bytes."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def text_of(us: int) -> str:
    """A moment as UTC text."""
    return datetime.fromtimestamp(us / 1e6, UTC).isoformat()


def time_of(text: str) -> tuple[int, datetime]:
    """Microseconds since 1970 and the date without zone, in UTC; ValueError for what is no date and time."""
    moment = datetime.fromisoformat(text.removesuffix("+00:00"))
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    span = moment - _EPOCH
    return (span.days * 86_400 + span.seconds) * 1_000_000 + span.microseconds, moment


_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001  naive and in UTC, like all dates here
