"""The day of an expiry as lines: what its chains said, one of them every so often."""

from __future__ import annotations

import msgspec

from enricher.clock import MINUTE, SECOND
from enricher.market.documents import CHAINS, micros
from enricher.market.web.chains import OfExpiry
from enricher.market.web.held import Held
from enricher.market.web.reading import Reading
from enricher.web.views import Asked

MOST = 72
_STEPS_US = (10 * SECOND, 30 * SECOND, MINUTE, 5 * MINUTE, 15 * MINUTE, 60 * MINUTE)
_SETTLED_US = 30 * SECOND
_HELD = 20_000


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """What a chain said, and when, in s since 1970; None is unknown."""

    at: int
    pcr: float | None
    straddle: float | None
    max_pain: float | None
    atm_iv: float | None
    spot: float | None


class Intraday(msgspec.Struct, frozen=True):
    """The last chain of every ``step`` seconds of a day; a step without one is left out."""

    product: str
    expiry: str
    step: int
    moments: list[Moment]


class IntradayViews:
    """The view of an expiry's day."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading
        self._held = Held(reading.host.clock, _HELD)

    async def intraday(self, asked: Asked[OfExpiry]) -> Intraday:
        """The day of an expiry's newest chain."""
        product, reading = asked.path["product"], self._reading
        expiry, _ = await reading.chosen(product, asked.parameters.expiry)
        newest = await reading.chain(product, expiry) if expiry else None
        if newest is None:
            return Intraday(product, expiry, 0, [])
        until_us = micros(reading.moment(product, newest["timestamp"]))
        first = await reading.first_chain(product, expiry, until_us)
        since_us = until_us if first is None else int(first["event_us"])
        step_us = step_of(until_us - since_us)
        # Moments are whole multiples of the step, so that what was read of them serves the next time too.
        ends = list(range(since_us - since_us % step_us + step_us, until_us + step_us + 1, step_us))[-MOST:]
        found: dict[int, Moment | None] = {}

        async def one(end_us: int) -> None:
            settled = end_us < until_us - _SETTLED_US
            key = ("moment", product, expiry, end_us, step_us)
            found[end_us] = await self._held.get(
                key, 3600 if settled else 5, lambda: self._moment(product, expiry, end_us - step_us, end_us)
            )

        await reading.each(ends, one)
        moments = [moment for end_us in ends if (moment := found[end_us]) is not None]
        return Intraday(product, expiry, step_us // SECOND, moments)

    async def _moment(self, product: str, expiry: str, from_us: int, to_us: int) -> Moment | None:
        reading = self._reading
        query, span_us = {"product": product, "expiry": expiry}, to_us - from_us
        found = await reading.latest(CHAINS, query, "timestamp", to_us, (span_us,))
        if not found:
            return None
        chain = found[0]
        mid, last = chain.get("atm_straddle_mid"), chain.get("atm_straddle_price")
        return Moment(
            int(chain["event_us"]) // SECOND,
            chain.get("pcr_oi"),
            last if mid is None else mid,
            chain.get("max_pain_strike"),
            chain.get("atm_iv"),
            chain.get("spot_price"),
        )


def step_of(span_us: int) -> int:
    """The smallest step that makes no more than `MOST` of a span, in microseconds."""
    return next((step for step in _STEPS_US if span_us <= step * MOST), _STEPS_US[-1])
