"""The volatility surface of a product: when it is drawn, and what is shown and stored of it.

`Drawing.take` draws it as of the last chain, before anything later moves what it is made of; `Drawing.show`
gives the effects once per turn.
"""

from __future__ import annotations

from enricher.clock import SECOND, Zones, render, to_date, to_millis
from enricher.engine.effects import Effect, Insert, SetKey
from enricher.market.documents import encode_large
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import SURFACES, ProductState
from enricher.market.surface.surface import volatility_surface
from enricher.market.surface.svi_scheduler import curve


class Drawing:
    """How surfaces are drawn, by the settings."""

    def __init__(self, settings: MarketSettings, zones: Zones) -> None:
        self._zones = zones
        self._analytics = settings.analytics
        self._cache_ms = settings.cache_ttl * 1000
        self._interval_us = int(settings.surface_interval * SECOND)

    def take(self, state: ProductState) -> None:
        """Draw the surface that the last chain asked for, before anything else moves it."""
        if state.surface_text is None:
            return
        timestamp, naive, event_us = state.surface_text
        state.surface_text = None
        timestamp = timestamp or render(event_us, naive, self._zones.of(state.product))
        expired = state.cutoff.expired
        payload = volatility_surface(
            state.surface, state.product, timestamp, state.spot, expired, event_us
        )
        if self._analytics:
            payload |= state.across.fields(state.shown_with(expired), state.fits.done, event_us)
            state.drawn = payload
        state.surface_shown = (event_us, encode_large(payload))

    def show(self, state: ProductState, effects: list[Effect], now_us: int) -> bool:
        """Add the surface to the effects, if it was drawn anew; whether it was."""
        self.take(state)
        if state.surface_shown is None:
            return False
        event_us, payload = state.surface_shown
        state.surface_shown = None
        effects.append(self._key(state, payload, event_us))
        self._store(state, event_us, effects, now_us)
        return True

    def show_curves(self, state: ProductState, effects: list[Effect]) -> None:
        """Add the surface with the curves fitted since: it is as of the last chain, only they are new."""
        if state.drawn is None:
            return
        bare = [
            {name: row[name] for name in row if not name.startswith("svi")} for row in state.drawn["smiles"]
        ]
        smiles = [{**row, **curve(state.fits.done, row["expiry"])} for row in bare]
        state.drawn = {**state.drawn, "smiles": smiles}
        effects.append(self._key(state, encode_large(state.drawn), state.newest_chain_us))

    def _key(self, state: ProductState, payload: bytes, event_us: int) -> SetKey:
        return SetKey(f"volatility_surface:{state.product}", payload, self._cache_ms, event_us)

    def _store(self, state: ProductState, event_us: int, effects: list[Effect], now_us: int) -> None:
        """The first surface of every interval of event time is stored; doing it twice is harmless."""
        if not self._interval_us or state.drawn is None:
            return
        interval = event_us // self._interval_us
        if interval <= state.surface_stored:
            return
        state.surface_stored = interval
        document = {
            **state.drawn,
            "_id": f"{interval * self._interval_us}:{state.product}",
            "timestamp": to_date(event_us),
            "event_us": event_us,
            "processed_at": to_date(to_millis(now_us)),
        }
        effects.append(Insert(SURFACES, document))
