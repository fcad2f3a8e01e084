"""How brokers in India call the indices: their names, and the numbers of their instruments."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

from enricher.market.product_names import INDEX_NAMES

KITE_TOKENS: Final = MappingProxyType({"256265": "NIFTY", "260105": "BANKNIFTY", "257801": "FINNIFTY"})
ANGEL_TOKENS: Final = MappingProxyType(
    {"99926000": "NIFTY", "99926009": "BANKNIFTY", "99926037": "FINNIFTY", "99926074": "MIDCPNIFTY"}
)


def index_of(name: str) -> str | None:
    """The product of an index under any of its names (``Nifty 50``, ``NIFTY BANK``), None for no index."""
    return INDEX_NAMES.get(re.sub(r"[^A-Z0-9&]", "", name.upper()))
