"""The daily history that percentiles are of, and the unit of the vendor's volatilities.

History is stored as one document per product and local day (`market_history`), with the checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

from enricher.analytics.as_of import Timeline
from enricher.analytics.percentile import DailySeries
from enricher.analytics.prices import Unit
from enricher.clock import span_us, to_date, to_millis
from enricher.engine.effects import Upsert
from enricher.market.documents import HISTORY
from enricher.market.folds.fold import ChainChange, Fold, Product

MEASURES = ("atm_iv", "iv_30d", "pcr_oi", "pcr_volume")
"""What a product's percentiles are of, one value a day each."""

_UNITS_KEPT = 32


class History(Fold):
    """A series for each of `MEASURES`; ``units`` are those of the vendor's volatilities, by event time."""

    __slots__ = ("_changed", "_series", "_units")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        # With the first chain: of many products most have none.
        self._units: Timeline[Unit] | None = None
        self._series: dict[str, DailySeries] | None = None
        self._changed: dict[int, None] = {}

    @property
    def units(self) -> Timeline[Unit]:
        if self._units is None:
            self._units = Timeline(0, span_us(self.product.settings.quote_window), _UNITS_KEPT)
        return self._units

    @property
    def series(self) -> dict[str, DailySeries]:
        if self._series is None:
            days, least = self.product.settings.history_days, self.product.settings.history_least
            self._series = {name: DailySeries(days, least) for name in MEASURES}
        return self._series

    def fold_chain(self, change: ChainChange) -> None:
        if change.known is not None:
            self._fold(change.known.event_us, change.known.unit, change.known.measures)

    def fold_stored(self, event_us: int, document: Mapping[str, Any]) -> None:
        """Take in what a stored chain says of the product as a whole."""
        if "standing" in document:
            values = {name: row["value"] for name, row in document["standing"].items()}
            self._fold(event_us, document["conventions"]["vendor_iv"], values)

    def _fold(self, event_us: int, unit: Unit | None, values: Mapping[str, float | None]) -> None:
        if unit is not None:
            self.units.add(event_us, unit)
        day = self.product.session(event_us).day
        for name, value in values.items():
            if self.series[name].fold(day, event_us, value) is not None:
                self._changed[day] = None

    def changed_days(self, now_us: int) -> list[Upsert]:
        """The days that have changed since this was last asked; ``event_us`` guards them."""
        effects = []
        for day in sorted(self._changed):
            rows = {name: series.of(day) for name, series in self.series.items()}
            values = {name: [row.event_us, row.value] for name, row in rows.items() if row is not None}
            if values:
                text = date.fromordinal(day).isoformat()
                document = {
                    "_id": f"{text}:{self.product.product}",
                    "product": self.product.product,
                    "day": text,
                    "event_us": max(event_us for event_us, _ in values.values()),
                    "values": values,
                    "processed_at": to_date(to_millis(now_us)),
                }
                effects.append(Upsert(HISTORY, document, "event_us"))
        self._changed.clear()
        return effects

    def restore_day(self, document: Mapping[str, Any]) -> None:
        """Take a stored day back."""
        day = date.fromisoformat(document["day"]).toordinal()
        for name, (event_us, value) in document["values"].items():
            if name in self.series:
                self.series[name].fold(day, int(event_us), float(value))
