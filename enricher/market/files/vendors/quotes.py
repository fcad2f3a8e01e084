"""Single options as messages of the feed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from enricher.market.feed.channels import OPTION_QUOTE
from enricher.market.feed.recording import Recorded
from enricher.market.files.vendors.option_names import OptionName


def quote(option: OptionName, symbol: str, values: Mapping[str, Any], moment: tuple[str, int]) -> Recorded:
    """The message of one option at a moment (text, microseconds)."""
    body = {
        "symbol": symbol,
        "product": option.root,
        "strike": option.strike,
        "expiry": option.expiry,
        "option_type": option.option_type,
        **values,
        "timestamp": moment[0],
    }
    return Recorded(moment[1], OPTION_QUOTE, orjson.dumps(body))
