"""Chains gathered leg by leg, as files list them, into the messages of the feed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from typing import Any

import orjson

from enricher.market.feed.channels import OPTION_CHAIN
from enricher.market.feed.recording import Recorded
from enricher.market.files.values import Cell

CALL, PUT = "CALL", "PUT"


class ChainLegs:
    """The legs of one product, expiry and moment. ``extra`` fields of the message may be added."""

    def __init__(self, product: str, expiry: str, spot: float, moment: tuple[str, int]) -> None:
        self.product = product
        self.expiry = expiry
        self.spot = spot
        self.timestamp, self.at_us = moment
        self.strikes: set[float] = set()
        self.extra: dict[str, Any] = {}
        self._legs: dict[str, list[dict[str, Any]]] = {CALL: [], PUT: []}

    def list_strike(self, strike: float) -> None:
        """A strike is listed, with or without legs."""
        self.strikes.add(strike)

    def add(self, kind: str, strike: float, values: dict[str, Any], symbol: str | None = None) -> None:
        """A leg with its ``values`` by the names of the feed (bid, iv ..., a timestamp of its own)."""
        self.strikes.add(strike)
        named = f"{self.product}{date.fromisoformat(self.expiry):%y%m%d}{kind[0]}{strike:.10g}"
        self._legs[kind].append(
            {
                "symbol": symbol or named,
                "product": self.product,
                "strike": strike,
                "expiry": self.expiry,
                "option_type": kind,
                "timestamp": self.timestamp,
                **values,
            }
        )

    def recorded(self) -> Recorded:
        """The message."""
        calls, puts = (sorted(self._legs[kind], key=lambda leg: float(leg["strike"])) for kind in (CALL, PUT))
        body = {
            "product": self.product,
            "expiry": self.expiry,
            "spot_price": self.spot,
            **self.extra,
            "strikes": sorted(self.strikes),
            "calls": calls,
            "puts": puts,
            "timestamp": self.timestamp,
        }
        return Recorded(self.at_us, OPTION_CHAIN, orjson.dumps(body))


class Chains:
    """The chains of a file: one for each product, expiry and moment."""

    def __init__(self) -> None:
        self._chains: dict[tuple[int, str, str], ChainLegs] = {}

    def of(self, product: str, expiry: str, moment: tuple[str, int], spot: float, place: Cell) -> ChainLegs:
        """The chain of these; raises BadRecord at ``place`` where it had another spot before."""
        key = moment[1], product, expiry
        if key not in self._chains:
            self._chains[key] = ChainLegs(product, expiry, spot, moment)
        chain = self._chains[key]
        if chain.spot != spot:
            raise place.error(f"one spot for {product} {expiry} at {moment[0]}, before it {chain.spot}")
        return chain

    def recorded(self) -> Iterator[Recorded]:
        """Their messages, by moment, then as products were met, the nearest expiry first."""
        products = {product: order for order, (_, product, _) in enumerate(self._chains)}
        for key in sorted(self._chains, key=lambda key: (key[0], products[key[1]], key[2])):
            yield self._chains[key].recorded()

    def __len__(self) -> int:
        return len(self._chains)


def half(chain: Recorded) -> str | None:
    """``calls`` or ``puts`` where a chain has only these."""
    message = orjson.loads(chain.body)
    sides = [side for side in ("calls", "puts") if message[side]]
    return sides[0] if len(sides) == 1 else None


def joined(one: Recorded, other: Recorded) -> Recorded:
    """The chain of two halves of one moment."""
    messages = [orjson.loads(one.body), orjson.loads(other.body)]
    whole = {side: [leg for message in messages for leg in message[side]] for side in ("calls", "puts")}
    strikes = sorted({strike for message in messages for strike in message["strikes"]})
    body = orjson.dumps({**messages[0], "strikes": strikes, **whole})
    return Recorded(one.at_us, one.topic, body)
