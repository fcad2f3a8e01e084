"""How a market message looks on the wire: its fields, their types and ranges.

What is clean is read in one step; whatever is not, is read again with care, which says what is wrong. Types
are msgspec's to check; its error path becomes ours (`enricher.messages.json_decoding`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from enricher.errors import BadMessage
from enricher.messages.doubts import FUTURE_NONE, NO_VALUE, UNIT_UNKNOWN
from enricher.messages.json_decoding import LARGEST, check_depth, explained, object_in, parse, shown
from enricher.messages.leg import Leg, Number
from enricher.messages.leg_values import check_strike, is_word, known, without_words

Text = Annotated[str, Meta(min_length=1)]
T = TypeVar("T")
U = TypeVar("U", bound=str)


class TickWire(msgspec.Struct, frozen=True, gc=False):
    """``market:underlying`` as sent."""

    product: Text
    price: Number
    timestamp: str
    tick_id: int | str | None = None
    volume: Number | None = None
    open: Number | None = None
    high: Number | None = None
    low: Number | None = None
    close: Number | None = None
    change: Number | None = None


_INT64 = 2**63 - 1
# Up to 2^63 the range check runs in C; what lies outside takes the slow, careful path.
_Amount = Annotated[int, Meta(ge=0, le=_INT64)] | Annotated[float, Meta(ge=0, le=1e100)]
_BELOW_LIMITS = 2**31 - 2  # what lies beyond may be the end of some integer, which stands for no value
_Price = Annotated[int, Meta(gt=0, le=_BELOW_LIMITS)] | Annotated[float, Meta(gt=0, le=_BELOW_LIMITS)]
MOST_IV: Final = 1000
"""A volatility beyond it is none, in percent or as a decimal."""
_Volatility = Annotated[int, Meta(gt=0, le=MOST_IV)] | Annotated[float, Meta(gt=0, le=MOST_IV)]
_Traded = Annotated[int, Meta(ge=0, le=_BELOW_LIMITS)] | Annotated[float, Meta(ge=0, le=_BELOW_LIMITS)]
_Signed = Annotated[int, Meta(ge=-_INT64, le=_INT64)] | Annotated[float, Meta(ge=-1e100, le=1e100)]


class CleanTick(TickWire, frozen=True, gc=False, forbid_unknown_fields=True):
    """A tick of nothing but known fields, each of them in range and fit for a 64-bit store, no price of 0."""

    price: _Price
    type: str | None = None
    tick_id: Annotated[int, Meta(ge=-_INT64, le=_INT64)] | str | None = None
    volume: _Traded | None = None
    open: _Price | None = None
    high: _Price | None = None
    low: _Price | None = None
    close: _Price | None = None
    change: _Signed | None = None


class QuoteWire(msgspec.Struct, frozen=True, gc=False):
    """``market:option_quote`` as sent."""

    symbol: Text
    product: Text
    strike: Number
    expiry: str
    option_type: Literal["CALL", "PUT"]
    timestamp: str
    bid: Number | None = None
    ask: Number | None = None
    last: Number | None = None
    volume: Number | None = None
    open_interest: Number | None = None
    delta: Number | None = None
    gamma: Number | None = None
    vega: Number | None = None
    theta: Number | None = None
    iv: Number | None = None


class _CleanQuote(QuoteWire, frozen=True, gc=False):
    strike: _Amount
    bid: _Traded | None = None
    ask: _Traded | None = None
    last: _Traded | None = None
    volume: _Traded | None = None
    open_interest: _Traded | None = None
    iv: _Volatility | None = None


class _PlainQuote(_CleanQuote, frozen=True, gc=False, forbid_unknown_fields=True):
    type: str | None = None
    delta: _Signed | None = None
    gamma: _Signed | None = None
    vega: _Signed | None = None
    theta: _Signed | None = None


class _CleanLeg(Leg, frozen=True, gc=False):
    strike: _Amount
    bid: _Traded | None = None
    ask: _Traded | None = None
    last: _Traded | None = None
    volume: _Traded | None = None
    open_interest: _Traded | None = None
    iv: _Traded | None = None
    delta: _Signed | None = None
    gamma: _Signed | None = None
    vega: _Signed | None = None
    theta: _Signed | None = None
    change_in_oi: _Signed | None = None
    oi_change: _Signed | None = None
    nse_oi_change: _Signed | None = msgspec.field(name="changeinOpenInterest", default=None)


# A million of these add up to less than 2^63, so what is summed fits a 64-bit store, too.
_Change = (
    Annotated[int, Meta(ge=-_BELOW_LIMITS, le=_BELOW_LIMITS)]
    | Annotated[float, Meta(ge=-_BELOW_LIMITS, le=_BELOW_LIMITS)]
)


class _PlainLeg(_CleanLeg, frozen=True, gc=False, forbid_unknown_fields=True):
    change_in_oi: _Change | None = None
    oi_change: _Change | None = None
    nse_oi_change: _Change | None = msgspec.field(name="changeinOpenInterest", default=None)
    symbol: str | None = None
    product: str | None = None
    expiry: str | None = None
    timestamp: str | None = None
    last_trade_time: str | None = None


class ChainWire(msgspec.Struct, frozen=True):
    """``market:option_chain`` as sent; of ``future_price`` only a number above 0 counts.

    ``oi_unit`` and ``price_unit`` are of this message's numbers, whatever the contract says.
    """

    product: Text
    expiry: str
    spot_price: Number
    timestamp: str
    calls: list[Leg]
    puts: list[Leg]
    strikes: list[Number] | None = None
    future_price: Any = None
    oi_unit: Any = None
    price_unit: Any = None


class _CleanChain(ChainWire, frozen=True):
    calls: list[_CleanLeg]  # type: ignore[assignment]  # read only, so covariance is safe
    puts: list[_CleanLeg]  # type: ignore[assignment]
    strikes: list[_Amount] | None = None


class _PlainChain(_CleanChain, frozen=True, forbid_unknown_fields=True):
    spot_price: _Amount
    calls: list[_PlainLeg]  # type: ignore[assignment]
    puts: list[_PlainLeg]  # type: ignore[assignment]
    future_price: _Amount | None = None
    oi_unit: Literal["contracts", "units"] | None = None
    price_unit: Literal["quote", "underlying"] | None = None
    type: str | None = None


def parse_chain(body: bytes, flags: dict[str, str]) -> tuple[dict[str, Any], ChainWire, bool]:
    """The JSON object in these bytes, the chain in it as by `read_chain`, and whether it is clean.

    A clean one has nothing but known fields, each in range; none nests, and every number and sum of numbers
    fits a 64-bit store. What holds for all of them by its types need not be looked for.
    """
    raw, nines = object_in(body), b"99999" in body and may_hold_nines(body)
    if not nines:
        try:
            plain = msgspec.convert(raw, _PlainChain)
        except msgspec.ValidationError:
            pass
        else:
            if plain.strikes is not None or "strikes" not in raw:
                return raw, plain, True
    check_depth(raw, body)
    return raw, read_chain(raw, flags, nines), False


def may_hold_nines(body: bytes) -> bool:
    """Whether a number in bytes with 99999 may be one of `doubts.NINES`, which may stand for no value.

    Such a number begins with its nines, or has an exponent. In 0.99999, a delta, they only follow.
    """
    return _NINES.search(body) is not None


def read_tick(body: bytes, flags: dict[str, str]) -> TickWire:
    """The tick in these bytes, or ``BadMessage``; a `CleanTick` when it could be read in one step.

    That is a tick of plain ASCII with nothing but known fields. All else (escapes, which may hide half of a
    surrogate pair, fields nobody knows, digits of what stands for no value, whatever is wrong) is read with
    more care.
    """
    # `find`, and a byte instead of bytes: twice and six times as fast as `in` with bytes.
    nines = body.find(b"99999") >= 0 and may_hold_nines(body)
    if not nines and _BACKSLASH not in body and body.isascii():
        try:
            return _TICK.decode(body)
        except (msgspec.DecodeError, RecursionError):
            pass  # the slow path says what is wrong
    sent = _read_numbers(parse(body), TickWire, _TICK_NUMBERS, flags)
    check_prices(
        (sent.price, "price"), (sent.open, "open"), (sent.high, "high"), (sent.low, "low"),
        (sent.close, "close"),
    )  # fmt: skip
    return sent


def parse_quote(body: bytes) -> tuple[dict[str, Any], QuoteWire, dict[str, str] | None, bool]:
    """The JSON object in these bytes, the quote in it, its flags, and whether it is clean.

    A clean one has nothing but known fields, each of them in range and fit for a 64-bit store. Flags are None
    where all numbers are in range, else {field: reason} of what is no number, and others may stand for no
    value.
    """
    raw = object_in(body)
    try:
        return raw, msgspec.convert(raw, _PlainQuote), None, True
    except msgspec.ValidationError:
        check_depth(raw, body)
    try:
        return raw, msgspec.convert(raw, _CleanQuote), None, False
    except msgspec.ValidationError:
        pass
    flags: dict[str, str] = {}
    sent = _read_numbers(raw, QuoteWire, _QUOTE_NUMBERS, flags)
    check_prices((sent.strike, "strike"), (sent.bid, "bid"), (sent.ask, "ask"), (sent.last, "last"))
    return raw, sent, flags, False


_TICK_NUMBERS: Final = ("volume", "open", "high", "low", "close", "change")
_QUOTE_NUMBERS: Final = (
    "bid", "ask", "last", "volume", "open_interest", "delta", "gamma", "vega", "theta", "iv"
)  # fmt: skip


def _read_numbers(
    raw: dict[str, Any], kind: type[T], optional: tuple[str, ...], flags: dict[str, str]
) -> T:
    """The object as ``kind``, where a text that stands for no number is none in the ``optional`` fields."""
    words = [name for name in optional if type(text := raw.get(name)) is str and is_word(text)]
    for name in words:
        NO_VALUE.put(flags, name, value=shown(raw[name]))
    return read({**raw, **dict.fromkeys(words)} if words else raw, kind)


def read(raw: dict[str, Any], kind: type[T]) -> T:
    """The object as ``kind``, or ``BadMessage`` with the path of the first wrong field."""
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise explained(raw, str(error)) from error


def read_chain(raw: dict[str, Any], flags: dict[str, str], nines: bool = True) -> ChainWire:
    """The chain with every leg number that is none turned to None and flagged (`messages.leg_values`).

    ``nines`` is `may_hold_nines` of its bytes. Raises ``BadMessage`` for wrong types and for a strike that is
    negative or not finite.
    """
    if not nines:
        try:
            clean: ChainWire = msgspec.convert(raw, _CleanChain)
        except msgspec.ValidationError:
            pass
        else:
            if "strikes" not in raw or raw["strikes"] is not None:
                return clean
    try:
        sent = msgspec.convert(raw, ChainWire)
    except msgspec.ValidationError:
        sent = read(without_words(raw, flags), ChainWire)
    if "strikes" in raw and sent.strikes is None:
        raise BadMessage("$.strikes", "a list", "null")
    for index, strike in enumerate(sent.strikes or ()):
        check_strike(f"$.strikes[{index}]", strike)
    calls = known(sent.calls, "calls", sent.spot_price, flags)
    puts = known(sent.puts, "puts", sent.spot_price, flags)
    return msgspec.structs.replace(sent, calls=calls, puts=puts)


def unit(field: str, sent: object, units: Mapping[str, U], flags: dict[str, str]) -> U | None:
    """A unit that a chain names for its numbers; what is none that is known here is flagged."""
    if isinstance(sent, str) and sent in units:
        return units[sent]
    UNIT_UNKNOWN.put(flags, field, value=shown(sent))
    return None


def future_price(sent: object, flags: dict[str, str]) -> float | None:
    """The price of a future, if it is one; what is none is flagged, for a chain does not depend on it."""
    if isinstance(sent, int | float) and not isinstance(sent, bool) and 0 < sent <= LARGEST:
        return float(sent)
    FUTURE_NONE.put(flags)
    return None


def check_prices(*prices: tuple[Number | None, str]) -> None:
    """Raises ``BadMessage`` for the first (value, name) that is negative or beyond a double."""
    for value, name in prices:
        if value is not None and not 0 <= value <= LARGEST:
            raise BadMessage(f"$.{name}", "a finite number that is not negative", shown(value))


_TICK = msgspec.json.Decoder(CleanTick)
_BACKSLASH: Final = ord("\\")
_NINES = re.compile(rb"99999(?:(?<![\d.]99999)|\d*[eE])")


def flag(flags: dict[str, str], field: str, reason: str) -> None:
    """Adds a reason to those that a field has."""
    flags[field] = f"{flags[field]}; {reason}" if field in flags else reason
