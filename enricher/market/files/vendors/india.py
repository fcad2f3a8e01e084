"""Names and numbers of instruments by which brokers in India call the indices."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Final

_INDICES: Final = MappingProxyType(
    {
        "NIFTY": "NIFTY",
        "NIFTY50": "NIFTY",
        "NIFTYBANK": "BANKNIFTY",
        "BANKNIFTY": "BANKNIFTY",
        "NIFTYFINSERVICE": "FINNIFTY",
        "FINNIFTY": "FINNIFTY",
        "NIFTYMIDSELECT": "MIDCPNIFTY",
        "NIFTYMIDCAPSELECT": "MIDCPNIFTY",
        "MIDCPNIFTY": "MIDCPNIFTY",
        "NIFTYNEXT50": "NIFTYNXT50",
        "NIFTYNXT50": "NIFTYNXT50",
        "SENSEX": "SENSEX",
        "BSESENSEX": "SENSEX",
        "BANKEX": "BANKEX",
    }
)
KITE_TOKENS: Final = MappingProxyType({"256265": "NIFTY", "260105": "BANKNIFTY", "257801": "FINNIFTY"})
ANGEL_TOKENS: Final = MappingProxyType(
    {"99926000": "NIFTY", "99926009": "BANKNIFTY", "99926037": "FINNIFTY", "99926074": "MIDCPNIFTY"}
)


def index_of(name: str) -> str | None:
    """The product of an index under any of its names (``Nifty 50``, ``NIFTY BANK``), None for no index."""
    return _INDICES.get(re.sub(r"[^A-Z0-9]", "", name.upper()))
