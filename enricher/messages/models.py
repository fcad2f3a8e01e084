"""The three market events as frozen structs, and the decoding that says exactly what is wrong.

``decode_tick``, ``decode_quote`` and ``decode_chain`` take the bytes of a message to a validated
event or raise ``BadMessage`` with the JSON path, what should have stood there and what did. The
clock at receipt is handed in (``now_us``) and serves only the far-future check.
"""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, date, datetime, tzinfo
from functools import lru_cache
from typing import Any, Final, Literal

import msgspec

from enricher.clock import SECOND, OutsideYears, read_moment, render
from enricher.errors import BadMessage
from enricher.messages import schema as wire
from enricher.messages.json_decoding import parse, shown
from enricher.messages.leg import OI_UNITS, PRICE_UNITS, Leg, Number, OiUnit, PriceUnit
from enricher.messages.leg_checks import flag_strangers, side, union

__all__ = ["Chain", "Event", "Leg", "Number", "Quote", "Tick", "decode_chain", "decode_quote"]
__all__ += ["decode_tick", "digest", "peek_product", "peek_series", "peek_symbol"]

FUTURE_US: Final = 5 * SECOND
MAX_FUTURE_US: Final = 60 * SECOND

_UNSET: Final = 86_400 * SECOND  # so near to 1970 in any zone, a clock was not set or a time not known

OptionType = Literal["CALL", "PUT"]
TickId = int | str | None
_ISO_DATE_LENGTH = 10


class FarAhead(ValueError):
    """Why a message is bad: its time is ``ahead_us`` ahead of the clock; ``naive`` without an offset."""

    def __init__(self, ahead_us: int, naive: bool) -> None:
        self.ahead_us = ahead_us
        self.naive = naive
        super().__init__(ahead_us, naive)


class Event(msgspec.Struct, frozen=True, kw_only=True):
    """What every market event carries.

    ``timestamp`` is the message's own text, ``event_us`` the same moment in microseconds since
    1970 UTC, ``moment`` as the aware date that is stored, ``naive`` whether the text had no offset,
    ``ahead_us`` by how much it lies ahead of the clock at receipt (0 when it does not).
    """

    product: str
    timestamp: str
    event_us: int
    moment: datetime
    naive: bool
    ahead_us: int

    @property
    def future(self) -> bool:
        """More than 5 s ahead: stored and published, but moves neither watermark nor latest."""
        return self.ahead_us > FUTURE_US


class Tick(Event, frozen=True):
    """One price of an underlying. Numbers are as sent, int or float; absent ones are None.

    ``clean`` says that nothing was sent but known fields, whole numbers of at most 64 bits, plain text.
    ``flags`` says {field: reason} what was sent that is no number.
    """

    price: Number
    clean: bool = False
    tick_id: TickId = None
    volume: Number | None = None
    open: Number | None = None
    high: Number | None = None
    low: Number | None = None
    close: Number | None = None
    change: Number | None = None
    flags: dict[str, str] | None = None

    def document_id(self, body: bytes) -> str:
        """What makes it this tick, as one text: two ticks with an equal one are one.

        ``1`` and ``"1"`` are the same tick_id. The length keeps a product with colons apart.
        """
        tail = "#" + digest(body) if self.tick_id is None else f":{self.tick_id}"
        return f"{self.event_us}:{len(self.product)}:{self.product}{tail}"


class Quote(Event, frozen=True):
    """One option quote; ``raw`` is the message as sent, unknown fields too.

    ``flags`` says {field: reason} what was sent that is no number; None where every number is in range.
    ``clean`` says that nothing was sent but known fields, in range, whose whole numbers fit 64 bits.
    """

    symbol: str
    strike: Number
    expiry: str
    option_type: OptionType
    raw: dict[str, Any]
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
    flags: dict[str, str] | None = None
    clean: bool = False

    def document_id(self, body: bytes) -> str:
        """What makes it this quote, as one text: symbol, moment and digest of the bytes."""
        return f"{self.event_us}:{self.symbol}#{digest(body)}"


class Chain(Event, frozen=True, kw_only=True):
    """One option chain, with the legs twice: as sent, and checked for computing.

    ``calls`` and ``puts`` are the legs as sent, in the order sent, without exact repetitions.
    ``strikes`` is the ascending union of the listed strikes and those of both sides; ``call_at``
    and ``put_at`` give the checked leg of a strike, with null for what was negative or not finite.
    ``flags`` says {field: reason} what is missing or was set aside. ``future_price`` is that of the future of
    this expiry, ``oi_unit`` and ``price_unit`` what its numbers are in; None unless sent. ``clean`` says that
    nothing was sent but known fields, in range, whose numbers and sums fit 64 bits.
    """

    expiry: str
    spot_price: Number
    strikes: tuple[Number, ...]
    calls: list[dict[str, Any]]
    puts: list[dict[str, Any]]
    call_at: dict[Number, Leg]
    put_at: dict[Number, Leg]
    flags: dict[str, str]
    future_price: float | None = None
    oi_unit: OiUnit | None = None
    price_unit: PriceUnit | None = None
    clean: bool = False

    @property
    def spot(self) -> Number | None:
        """The price of the underlying; None where a 0 was sent, which is no price."""
        return self.spot_price or None

    def document_id(self, body: bytes) -> str:
        """What makes it this chain, as one text: product, expiry, moment and digest of the bytes."""
        head = f"{self.event_us}:{len(self.product)}:{self.product}"
        return f"{head}:{self.expiry}#{digest(body)}"


def digest(body: bytes) -> str:
    """24 hexadecimal digits that stand for exactly these bytes (BLAKE2b, 96 bits)."""
    return hashlib.blake2b(body, digest_size=12).hexdigest()


def peek_product(body: bytes) -> str | None:
    """The top-level ``product`` of a message without building the rest; None if there is none.

    A large body is not read to its end when the name stands near its start. So of one that is no JSON, or
    that names two products, this may be the first; decoding refuses the one, handlers the other.
    """
    if len(body) > _LARGE and (named := _NAMED_FIRST.match(body, 0, _LARGE)):
        return named[1].decode("ascii")
    try:
        return _PEEK.decode(body).product or None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    # What strict JSON refuses (NaN in a leg) may be a message all the same, and belongs to its product.
    try:
        product = parse(body).get("product")
    except BadMessage:
        return None
    return product if isinstance(product, str) and product else None


def peek_series(body: bytes) -> str:
    """Expiry and product of a chain as one text; raises `msgspec.DecodeError` when there is no reading them.

    As `peek_product` it does not read a large body to its end when the names stand near its start.
    """
    if len(body) > _LARGE and (expiry := _EXPIRY_FIRST.match(body, 0, _LARGE)):
        return f"{expiry[1].decode('ascii')}:{peek_product(body)}"
    names = _NAMES.decode(body)
    return f"{names.expiry}:{names.product}"


def peek_symbol(body: bytes) -> str:
    """The top-level ``symbol`` of a quote, empty without one; raises `msgspec.DecodeError`."""
    return _NAMES.decode(body).symbol


def decode_tick(body: bytes, *, zone: tzinfo = UTC, now_us: int, max_future_us: int = MAX_FUTURE_US) -> Tick:
    """The tick in these bytes, or ``BadMessage``."""
    flags: dict[str, str] = {}
    sent = wire.read_tick(body, flags)
    if sent.product.isspace():
        raise _blank(sent.product, "product")
    us, naive, moment, ahead = _moment(sent.timestamp, zone, now_us, max_future_us)
    return Tick(
        # By their places, for Python takes more than 15 names slowly.
        sent.price,
        type(sent) is wire.CleanTick,
        # An empty id names nothing: two such ticks of one moment would pass for one.
        None if sent.tick_id == "" else sent.tick_id,
        sent.volume,
        sent.open,
        sent.high,
        sent.low,
        sent.close,
        sent.change,
        flags or None,
        product=sent.product,
        timestamp=sent.timestamp,
        event_us=us,
        moment=moment,
        naive=naive,
        ahead_us=ahead,
    )


def decode_quote(
    body: bytes, *, zone: tzinfo = UTC, now_us: int, max_future_us: int = MAX_FUTURE_US
) -> Quote:
    """The option quote in these bytes, or ``BadMessage``."""
    raw, sent, flags, clean = wire.parse_quote(body)
    if sent.product.isspace():
        raise _blank(sent.product, "product")
    if sent.symbol.isspace():
        raise _blank(sent.symbol, "symbol")
    _check_expiry(sent.expiry)
    us, naive, moment, ahead = _moment(sent.timestamp, zone, now_us, max_future_us)
    return Quote(
        # By their places, for Python takes more than 15 names slowly.
        sent.symbol,
        sent.strike,
        sent.expiry,
        sent.option_type,
        raw,
        sent.bid,
        sent.ask,
        sent.last,
        sent.volume,
        sent.open_interest,
        sent.delta,
        sent.gamma,
        sent.vega,
        sent.theta,
        sent.iv,
        flags,
        clean,
        product=sent.product,
        timestamp=sent.timestamp,
        event_us=us,
        moment=moment,
        naive=naive,
        ahead_us=ahead,
    )


def decode_chain(
    body: bytes, *, zone: tzinfo = UTC, now_us: int, max_future_us: int = MAX_FUTURE_US
) -> Chain:
    """The option chain in these bytes, or ``BadMessage``."""
    flags: dict[str, str] = {}
    raw, sent, clean = wire.parse_chain(body, flags)
    if sent.product.isspace():
        raise _blank(sent.product, "product")
    wire.check_prices((sent.spot_price, "spot_price"))
    _check_expiry(sent.expiry)
    us, naive, moment, ahead = _moment(sent.timestamp, zone, now_us, max_future_us)
    calls, call_at = side(raw["calls"], sent.calls, "calls", "CALL", flags)
    puts, put_at = side(raw["puts"], sent.puts, "puts", "PUT", flags)
    # The chain names both once itself; only a second time can be a leg's, and escapes may hide one.
    if b"\\" in body or _names_twice(body, b'"product"') or _names_twice(body, b'"expiry"'):
        flag_strangers(sent, raw, clean, flags)
    strikes = union(sent.strikes, call_at, put_at, flags)
    return Chain(
        product=sent.product,
        expiry=sent.expiry,
        spot_price=sent.spot_price,
        strikes=strikes,
        calls=calls,
        puts=puts,
        call_at=call_at,
        put_at=put_at,
        flags=flags,
        future_price=None if sent.future_price is None else wire.future_price(sent.future_price, flags),
        oi_unit=None if sent.oi_unit is None else wire.unit("oi_unit", sent.oi_unit, OI_UNITS, flags),
        price_unit=None
        if sent.price_unit is None
        else wire.unit("price_unit", sent.price_unit, PRICE_UNITS, flags),
        clean=clean,
        timestamp=sent.timestamp,
        event_us=us,
        moment=moment,
        naive=naive,
        ahead_us=ahead,
    )


def _names_twice(body: bytes, name: bytes) -> bool:
    """Found from both ends, it is found in no time where every leg names it; counting reads everything."""
    return body.find(name) != body.rfind(name)


class _Peek(msgspec.Struct):
    product: str | None = None


class _Names(msgspec.Struct):
    symbol: str = ""
    product: str = ""
    expiry: str = ""


_PEEK = msgspec.json.Decoder(_Peek)
_NAMES = msgspec.json.Decoder(_Names)
_LARGE = 1024


def _first_named(name: bytes) -> re.Pattern[bytes]:
    """Members with plain names and plain values, then ``name`` in printable ASCII without escapes."""
    before = rb'\s*\{\s*(?:"\w+"\s*:\s*(?:"[^"\\]*"|[-+.\w]+)\s*,\s*)*?'
    return re.compile(before + b'"' + name + rb'"\s*:\s*"([ !#-\[\]-~]+)"')


_NAMED_FIRST = _first_named(b"product")
_EXPIRY_FIRST = _first_named(b"expiry")


def _moment(text: str, zone: tzinfo, now_us: int, max_future_us: int) -> tuple[int, bool, datetime, int]:
    try:
        us, naive, moment = read_moment(text, zone)
    except ValueError as error:
        outside = isinstance(error, OutsideYears)
        expected = "an ISO 8601 date and time, or a count since 1970 of 10, 13, 16 or 19 digits"
        if outside:
            expected = "a time in the years 2 to 9998 in UTC"
        raise BadMessage("$.timestamp", expected, shown(text)) from error
    ahead = us - now_us
    if ahead <= 0:
        if us < _UNSET and us > -_UNSET:
            raise BadMessage("$.timestamp", "a time (the first of 1970 stands for none)", shown(text))
        return us, naive, moment, 0
    if ahead > max_future_us:
        limit = f"a time at most {max_future_us / SECOND:g} s ahead of the clock"
        if naive:  # the offset of another zone is the likeliest reason
            limit += f" (without an offset it is read in {zone}: feed.timezone)"
        clock = render(now_us, naive=False)
        raise BadMessage("$.timestamp", limit, f"{shown(text)} at {clock}") from FarAhead(ahead, naive)
    return us, naive, moment, ahead


def _blank(name: str, field: str) -> BadMessage:
    """What is wrong with blanks: they name nothing, and look like nothing in a key."""
    return BadMessage(f"$.{field}", "a text that is not blank", shown(name))


def _check_expiry(expiry: str) -> None:
    if not _is_iso_date(expiry):
        raise BadMessage("$.expiry", "a date as YYYY-MM-DD", shown(expiry))


@lru_cache(maxsize=4096)
def _is_iso_date(text: str) -> bool:
    """YYYY-MM-DD and nothing else; ``date.fromisoformat`` also takes week dates."""
    try:
        return len(text) == _ISO_DATE_LENGTH and date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False
