"""A chain from whatever a program has: the message of the feed, or plain legs with a spot and a moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, tzinfo
from typing import Any, Final

import msgspec

from enricher.analytics.arguments import POSITIVE, call_or_put, moment_us, number, unknown
from enricher.analytics.contracts import Contract
from enricher.clock import render
from enricher.errors import BadMessage
from enricher.messages.json_decoding import parse
from enricher.messages.models import Chain, decode_chain

Leg = Mapping[str, Any] | Any
ChainLike = Chain | bytes | str | Mapping[str, Any] | Iterable[Leg]

_NAMES: Final = {
    "strike": ("strike",),
    "bid": ("bid",),
    "ask": ("ask",),
    "last": ("last", "ltp"),
    "open_interest": ("open_interest", "oi"),
    "volume": ("volume",),
    "iv": ("iv",),
    "change_in_oi": ("change_in_oi", "oi_change"),
    "timestamp": ("timestamp",),
    "last_trade_time": ("last_trade_time",),
}
_KIND: Final = ("kind", "option_type")
_NEVER: Final = 2**62  # microseconds: no moment is too far ahead of this clock


def read_chain(
    chain: ChainLike,
    contract: Contract | None = None,
    at: datetime | str | None = None,
    spot: float | None = None,
    expiry: date | str | None = None,
    future: float | None = None,
    *,
    zone: tzinfo = UTC,
) -> Chain:
    """The chain as the worker reads it; what is given beside it counts in place of what it says itself.

    Times without an offset are read in ``zone``. ValueError for what is no chain, with the place and what is
    right.
    """
    if isinstance(chain, Chain):
        return chain
    given: dict[str, Any] = {}
    if at is not None:
        given["timestamp"] = render(moment_us("at", at, zone), False)
    if spot is not None:
        given["spot_price"] = number("spot", spot, POSITIVE)
    if expiry is not None:
        given["expiry"] = expiry.isoformat()[:10] if isinstance(expiry, date) else expiry
    if future is not None:
        given["future_price"] = number("future", future, POSITIVE)
    try:
        return decode_chain(_body(chain, contract, given), zone=zone, now_us=_NEVER)
    except BadMessage as error:
        raise ValueError(f"no option chain: {error}") from error


def _body(chain: Any, contract: Contract | None, given: dict[str, Any]) -> bytes:
    if isinstance(chain, str):
        chain = chain.encode()
    if isinstance(chain, bytes | bytearray | memoryview):
        chain = bytes(chain)
        return _encoded({**parse(chain), **given}) if given else chain
    if isinstance(chain, Mapping):
        return _encoded({"product": _name(contract), **chain, **given})
    if hasattr(chain, "to_dict"):  # a data frame
        chain = chain.to_dict("records")
    if not hasattr(chain, "__iter__"):
        raise ValueError(f"chain is {chain!r}: expected a message of the feed, or legs")
    return _encoded(_of_legs(list(chain), contract, given))


def _of_legs(legs: list[Leg], contract: Contract | None, given: dict[str, Any]) -> dict[str, Any]:
    for name, of in (("timestamp", "at (the moment of these prices)"), ("spot_price", "spot")):
        if name not in given:
            raise ValueError(f"plain legs need {of}")
    if "expiry" not in given:
        expiries = {str(_value(leg, ("expiry",))) for leg in legs}
        if expiries <= {"None"}:
            raise ValueError("plain legs need one expiry, and they have none")
        if len(expiries) > 1:
            raise ValueError(f"plain legs need one expiry; theirs: {', '.join(sorted(expiries))}")
        given = {**given, "expiry": expiries.pop()[:10]}
    sides: dict[int, list[dict[str, Any]]] = {1: [], -1: []}
    for leg in legs:
        values = {name: _value(leg, names) for name, names in _NAMES.items()}
        sides[call_or_put(_value(leg, _KIND))].append({k: v for k, v in values.items() if v is not None})
    return {"product": _name(contract), "calls": sides[1], "puts": sides[-1], **given}


def _value(leg: Leg, names: tuple[str, ...]) -> Any:
    for name in names:
        value = leg.get(name) if isinstance(leg, Mapping) else getattr(leg, name, None)
        if not unknown(value):
            return value
    return None


def _name(contract: Contract | None) -> str:
    return "unnamed" if contract is None else contract.name


def _encoded(message: dict[str, Any]) -> bytes:
    """As JSON, in which NaN is null; numbers of numpy are numbers."""
    try:
        return _ENCODER.encode(message)
    except (TypeError, ValueError) as error:
        raise ValueError(f"no option chain: {error}") from error


def _plain(value: Any) -> Any:
    if hasattr(value, "item"):  # a number of numpy
        return value.item()
    if hasattr(value, "__float__"):
        return float(value)
    raise TypeError(f"{value!r} is no number, text or date")


_ENCODER: Final = msgspec.json.Encoder(enc_hook=_plain, decimal_format="number")
