"""Prices of underlyings as messages of the feed, numbered by product."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from enricher.market.feed.channels import UNDERLYING
from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Notes, Options
from enricher.market.files.values import Cell

_CUMULATIVE = 'volumes are those of the day so far: market.volume = "cumulative" tells so'


class Ticks:
    """The ticks of one file. With ``options.product`` only those of that product are kept."""

    def __init__(self, options: Options, notes: Notes) -> None:
        self._options = options
        self._notes = notes
        self._counts: Counter[str] = Counter()
        self._named: object = None

    def tick(
        self,
        product: str,
        price: float | None,
        moment: tuple[str, int],
        volume: float | None = None,
        **day: Any,
    ) -> Iterator[Recorded]:
        """One tick at a moment (text, microseconds); none without a price, or of another product than wanted.

        ``volume`` is that of the day so far; ``day`` has its ``open``, ``high`` and ``low``, None if unknown.
        """
        wanted = self._options.product
        if wanted is not None and wanted.upper() != product.upper():
            self._notes.skip("another product")
        elif price is None:
            self._notes.skip("no price")
        else:
            body: dict[str, Any] = {
                "type": "UNDERLYING",
                "product": product,
                "price": price,
                "timestamp": moment[0],
                "tick_id": self._counts[product],
            }
            body |= {name: value for name, value in day.items() if value is not None}
            if volume is not None:
                body["volume"] = volume
                if _CUMULATIVE not in self._notes.doubts:
                    self._notes.doubt(_CUMULATIVE)
            self._counts[product] += 1
            yield Recorded(moment[1], UNDERLYING, orjson.dumps(body))

    def named(self, number: Cell) -> str | None:
        """The product of an instrument that is only a number: ``options.product``, for one number of a file.

        None without such a name; raises BadRecord at the second number.
        """
        if self._options.product is None:
            return None
        if self._named is None:
            self._named = number.value
        if number.value != self._named:
            raise number.error(f"{self._named} again, for --product names one instrument")
        return self._options.product
