"""The two sides of a chain beside one another: repeated legs, missing ones, and legs of another chain.

``flags`` says what is odd about them as {field: reason}; what makes no sense raises ``BadMessage``.
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import attrgetter
from typing import Any, Final

from enricher.errors import BadMessage
from enricher.messages.json_decoding import shown
from enricher.messages.leg import Leg, Number
from enricher.messages.schema import ChainWire, flag

_PRODUCT, _EXPIRY = attrgetter("product"), attrgetter("expiry")
_FEW: Final = 5  # strikes that a reason names


def side(
    sent: list[dict[str, Any]], legs: list[Leg], name: str, kind: str, flags: dict[str, str]
) -> tuple[list[dict[str, Any]], dict[Number, Leg]]:
    """One side of a chain: the legs as sent without exact repetitions, and the leg of a strike."""
    if not {leg.option_type for leg in legs} <= {None, kind}:
        index, other = next((i, leg) for i, leg in enumerate(legs) if leg.option_type not in (None, kind))
        raise BadMessage(f"$.{name}[{index}].option_type", f'"{kind}"', shown(other.option_type))
    at = {leg.strike: leg for leg in legs}
    if len(at) == len(legs):
        return sent, at
    first: dict[Number, dict[str, Any]] = {}
    places: list[int | None] = []
    for index, (raw, leg) in enumerate(zip(sent, legs, strict=True)):
        places.append(None if leg.strike in first else len(first))
        if raw != first.setdefault(leg.strike, raw):
            path = f"$.{name}[{index}].strike"
            raise BadMessage(path, "one leg of a side at a strike", f"a second, other {leg.strike}")
    _move(flags, name, places)
    flag(flags, name, f"{len(legs) - len(at)} repeated legs dropped")
    return list(first.values()), at


def flag_strangers(sent: ChainWire, raw: dict[str, Any], clean: bool, flags: dict[str, str]) -> None:
    """Says in ``flags`` which legs name another product or expiry than their chain; they count all the same.

    The chain is what its sender put together, and a leg may only spell its expiry in another way.
    """
    product, expiry = sent.product, sent.expiry
    if clean:  # whose legs were read with these fields: all of them are looked at without a step of ours
        calls, puts = sent.calls, sent.puts
        products = {*map(_PRODUCT, calls), *map(_PRODUCT, puts)}
        expiries = {*map(_EXPIRY, calls), *map(_EXPIRY, puts)}
        if products <= {product, None} and expiries <= {expiry, None}:
            return
    for name, own in (("product", product), ("expiry", expiry)):
        for legs in ("calls", "puts"):
            others = [leg["strike"] for leg in raw[legs] if leg.get(name) not in (None, own)]
            if others:
                flag(flags, f"{legs}.{name}", f"another than the chain's at {few(others)}")


def union(
    listed: list[Number] | None, call_at: dict[Number, Leg], put_at: dict[Number, Leg], flags: dict[str, str]
) -> tuple[Number, ...]:
    """All strikes of a chain, ascending; says in ``flags`` which legs or listings are missing."""
    if listed and listed == list(call_at) == list(put_at):
        return tuple(sorted(listed))
    known = set(listed or ())
    strikes = tuple(sorted(known | call_at.keys() | put_at.keys()))
    if not strikes:
        raise BadMessage("$.strikes", "at least one strike", "no strike, in the list or in a leg")
    count = len(strikes)
    if listed is not None and len(known) < len(listed):
        flag(flags, "strikes", "repeated")
    if listed is not None and len(known) < count:
        flag(flags, "strikes", "only in a leg: " + few(k for k in strikes if k not in known))
    if len(call_at) < count:
        flag(flags, "calls", "no leg at " + few(k for k in strikes if k not in call_at))
    if len(put_at) < count:
        flag(flags, "puts", "no leg at " + few(k for k in strikes if k not in put_at))
    return strikes


def _move(flags: dict[str, str], side: str, places: list[int | None]) -> None:
    """The flags of a leg (``calls[3].last``) go with it to its place, None where it is dropped."""
    moved = {path: reason for path, reason in flags.items() if path.startswith(f"{side}[")}
    for path in moved:
        del flags[path]
    for path, reason in moved.items():
        at, rest = path.removeprefix(f"{side}[").split("]", 1)
        place = places[int(at)]
        if place is not None:
            flags[f"{side}[{place}]{rest}"] = reason


def few(strikes: Iterable[Number]) -> str:
    """The first five of these strikes, and how many more there are."""
    every = list(strikes)
    text = ", ".join(str(strike) for strike in every[:_FEW])
    return text if len(every) <= _FEW else f"{text} and {len(every) - _FEW} more"
