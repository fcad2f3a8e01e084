"""Option chains for tests: built as messages, and decoded as those of a feed are."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from enricher.messages.models import Chain, decode_chain

Legs = Sequence[dict[str, Any]]


def made_chain(
    product: str, expiry: str, spot: float, time: str, calls: Legs, puts: Legs, /, **said: Any
) -> Chain:
    """The chain of these legs, whose time is never in the future; ``said`` has more fields, or others."""
    message: dict[str, Any] = {"product": product, "expiry": expiry, "spot_price": spot, "timestamp": time}
    message |= {"calls": calls, "puts": puts, **said}
    return decode_chain(json.dumps(message).encode(), now_us=2**60)
