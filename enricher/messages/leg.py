"""One leg of a chain, as it is computed with, and the units of its numbers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, Literal

import msgspec

Number = int | float
OiUnit = Literal["contracts", "units"]
PriceUnit = Literal["quote", "underlying"]

OI_UNITS: Final[Mapping[str, OiUnit]] = MappingProxyType({"contracts": "contracts", "units": "units"})
PRICE_UNITS: Final[Mapping[str, PriceUnit]] = MappingProxyType({"quote": "quote", "underlying": "underlying"})


class Leg(msgspec.Struct, frozen=True, gc=False):
    """One leg of a chain: the fields that are computed with; None is unknown.

    ``oi_change`` is the exchange's own change of open interest, under any of its three names.
    """

    strike: Number
    option_type: Literal["CALL", "PUT"] | None = None
    bid: Number | None = None
    ask: Number | None = None
    last: Number | None = None
    volume: Number | None = None
    open_interest: Number | None = None
    iv: Number | None = None
    delta: Number | None = None
    gamma: Number | None = None
    vega: Number | None = None
    theta: Number | None = None
    change_in_oi: Number | None = None
    oi_change: Number | None = None
    nse_oi_change: Number | None = msgspec.field(name="changeinOpenInterest", default=None)
