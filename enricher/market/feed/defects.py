"""Messages spoilt on purpose, to show what an enricher does with them."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass
from typing import Any

import orjson

LATE_US = (1_000_000, 180_000_000)
MISSING_SHARE = 0.12


@dataclass(frozen=True, slots=True)
class Defects:
    """The share (0 to 1) of messages with each defect; a message has one at most.

    ``malformed``: can never be processed (cut off, not UTF-8, a field missing, negative or
    unreadable). ``missing_legs``: a chain without some of its legs (other messages are left
    whole). ``duplicate``: the same bytes twice. ``late``: event time 1 to 180 s ago.
    """

    malformed: float = 0.0
    missing_legs: float = 0.0
    duplicate: float = 0.0
    late: float = 0.0

    def __post_init__(self) -> None:
        shares = asdict(self)
        if min(shares.values()) < 0.0 or sum(shares.values()) > 1.0:
            raise ValueError(f"shares of defects must be 0 or more, 1 at most together: {shares}")

    def draw(self, random_source: random.Random) -> Spoilt:
        point = random_source.random()
        for kind, share in asdict(self).items():
            if point < share:
                return Spoilt(kind)
            point -= share
        return Spoilt(None)


NONE = Defects()


@dataclass(frozen=True, slots=True)
class Spoilt:
    """One message's defect (None: it stays as it is)."""

    kind: str | None

    @property
    def copies(self) -> int:
        return 2 if self.kind == "duplicate" else 1

    def backdate(self, now_us: int, random_source: random.Random) -> int:
        """The event time to use instead of ``now_us``."""
        return now_us - random_source.randrange(*LATE_US) if self.kind == "late" else now_us

    def encode(self, message: dict[str, Any], random_source: random.Random) -> bytes:
        if self.kind == "missing_legs" and "calls" in message:
            for side in ("calls", "puts"):
                legs = message[side]
                kept = [leg for leg in legs if random_source.random() >= MISSING_SHARE]
                message[side] = kept if len(kept) < len(legs) else legs[1:]
        body = orjson.dumps(message)
        return _malformed(message, body, random_source) if self.kind == "malformed" else body


def _malformed(message: dict[str, Any], body: bytes, random_source: random.Random) -> bytes:
    number = next(name for name in ("price", "strike", "spot_price") if name in message)
    choice = random_source.randrange(5)
    if choice == 0:
        return body[: len(body) // 2]
    if choice == 1:
        return body.replace(b'"product"', b'"\xff\xfe"', 1)
    if choice == 2:
        return orjson.dumps({name: value for name, value in message.items() if name != number})
    if choice == 3:
        return orjson.dumps(message | {number: -1.0})
    return orjson.dumps(message | {"timestamp": "half past nine"})
