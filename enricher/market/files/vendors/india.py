"""What brokers in India have in common: names and numbers of the indices, and depth."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any, Final

from enricher.market.files.values import Cell
from enricher.market.files.vendors.fields import count, part, price
from enricher.market.product_names import INDEX_NAMES

KITE_TOKENS: Final = MappingProxyType({"256265": "NIFTY", "260105": "BANKNIFTY", "257801": "FINNIFTY"})
ANGEL_TOKENS: Final = MappingProxyType(
    {"99926000": "NIFTY", "99926009": "BANKNIFTY", "99926037": "FINNIFTY", "99926074": "MIDCPNIFTY"}
)


def index_of(name: str) -> str | None:
    """The product of an index under any of its names (``Nifty 50``, ``NIFTY BANK``), None for no index."""
    return INDEX_NAMES.get(re.sub(r"[^A-Z0-9&]", "", name.upper()))


def best(row: Cell) -> dict[str, Any]:
    """Bid and ask of a leg, with their sizes: the first prices of ``depth.buy`` and ``depth.sell``."""
    leg: dict[str, Any] = {}
    for side, ours in (("buy", "bid"), ("sell", "ask")):
        first = next(iter(part(row, f"depth.{side}").items()), None)
        leg[ours] = None if first is None else price(part(first, "price"))
        leg[f"{ours}_qty"] = None if first is None else count(part(first, "quantity"))
    return leg
