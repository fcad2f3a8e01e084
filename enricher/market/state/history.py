"""The daily history that percentiles are of, as it is stored: one document per product and local day."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from enricher.analytics.percentile import DayValue

if TYPE_CHECKING:
    from enricher.market.state.product_state import ProductState


def history_documents(state: ProductState) -> list[dict[str, Any]]:
    """The days that have changed since this was last asked, as documents; ``event_us`` guards them."""
    found = []
    for day in sorted(state.history_changed):
        rows = {name: series.of(day) for name, series in state.history.items()}
        values = {name: [row.event_us, row.value] for name, row in rows.items() if row is not None}
        if values:
            text = date.fromordinal(day).isoformat()
            found.append(
                {
                    "_id": f"{text}:{state.product}",
                    "product": state.product,
                    "day": text,
                    "event_us": max(event_us for event_us, _ in values.values()),
                    "values": values,
                }
            )
    state.history_changed.clear()
    return found


def restore_history(state: ProductState, document: Mapping[str, Any]) -> None:
    """Take a stored day back."""
    day = date.fromisoformat(document["day"]).toordinal()
    for name, (event_us, value) in document["values"].items():
        if name in state.history:
            state.history[name].load([DayValue(day, int(event_us), float(value))])
