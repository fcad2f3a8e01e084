"""One expiry on the screen: its figures, the chain strike by strike, open interest and gamma exposure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from enricher.clock import SECOND
from enricher.market.documents import micros
from enricher.market.web.reading import Document, Last, Reading
from enricher.web.requests import Refusal
from enricher.web.views import Asked

_DAY_US = 86_400 * SECOND
_SENT_CHANGES = ("change_in_oi", "oi_change", "changeinOpenInterest")


class OfExpiry(msgspec.Struct, frozen=True):
    """Which expiry is wanted, the nearest without one, and of how many strikes on either side (0: all)."""

    expiry: str = ""
    strikes: int = 15


class Leg(msgspec.Struct, frozen=True):
    """A call or put. ``oi_change`` is that of the day, ``buildup`` what price and interest say together."""

    oi: float | None = None
    oi_change: float | None = None
    buildup: str | None = None
    volume: float | None = None
    bid: float | None = None
    ask: float | None = None
    last: float | None = None
    iv: float | None = None
    delta: float | None = None
    gamma: float | None = None
    theta: float | None = None
    vega: float | None = None


class Row(msgspec.Struct, frozen=True):
    """A strike: its legs, its gamma exposure, and which walls it is (``R1``, ``S2``)."""

    strike: float
    call: Leg
    put: Leg
    gex: float | None = None
    wall: str = ""


class ChainFigures(msgspec.Struct, frozen=True):
    """What a chain says as a whole. Volatilities are decimals, ``days`` are those left."""

    at: datetime
    spot: float | None
    forward: float | None
    forward_source: str | None
    days: float | None
    atm_strike: float | None
    atm_iv: float | None
    iv_percentile: float | None
    straddle: float | None
    low: float | None
    high: float | None
    pcr_oi: float | None
    pcr_volume: float | None
    max_pain: float | None
    max_pain_away: float | None
    total_call_oi: float | None
    total_put_oi: float | None
    net_gex: float | None
    call_wall: float | None
    put_wall: float | None
    zero_gamma: float | None
    currency: str | None
    flags: dict[str, str]


class Head(msgspec.Struct, frozen=True):
    """The top of every screen of a product."""

    product: str
    expiry: str
    expiries: list[str]
    last: Last | None
    figures: ChainFigures | None
    zone: str


class ChainAnswer(msgspec.Struct, frozen=True):
    """The rows of an expiry, and how many strikes it has.

    ``since`` is the moment that changes of open interest count from, None where the exchange ``said`` them.
    ``most`` are the largest values of a column, which bars are drawn to.
    """

    head: Head
    rows: list[Row]
    strikes: int
    since: datetime | None
    said: bool
    most_oi: float
    most_change: float
    most_gex: float


class Chains:
    """Views of one expiry."""

    def __init__(self, reading: Reading) -> None:
        self._reading = reading

    async def head(self, product: str, expiry: str) -> tuple[Head, Document | None]:
        """The top of a screen, and the chain that it is of. Raises `Refusal` (404)."""
        reading = self._reading
        last = await reading.last(product)
        chosen, expiries = await reading.chosen(product, expiry)
        if last is None and not expiries and await reading.checkpoint(product) is None:
            raise Refusal(404, f"nothing is known of a product {product!r:.60}")
        chain = await reading.chain(product, chosen) if chosen else None
        figures = None if chain is None else self._figures(product, chain)
        zone = reading.contracts.of(product).zone
        return Head(product, chosen, expiries, last, figures, zone), chain

    async def chain(self, asked: Asked[OfExpiry]) -> ChainAnswer:
        """The option chain; the same answer makes the screen of open interest and gamma exposure."""
        head, chain = await self.head(asked.path["product"], asked.parameters.expiry)
        if chain is None or head.figures is None:
            return ChainAnswer(head, [], 0, None, False, 0, 0, 0)
        rows, since, said = await self._rows(head, chain)
        shown = around(rows, head.figures.atm_strike, asked.parameters.strikes)
        legs = [leg for row in shown for leg in (row.call, row.put)]
        return ChainAnswer(
            head,
            shown,
            len(rows),
            since,
            said,
            max((leg.oi or 0 for leg in legs), default=0),
            max((abs(leg.oi_change or 0) for leg in legs), default=0),
            max((abs(row.gex or 0) for row in shown), default=0),
        )

    def _figures(self, product: str, chain: Document) -> ChainFigures:
        forward, move, gex = (chain.get(name) or {} for name in ("forward", "expected_move", "gex"))
        at = self._reading.moment(product, chain["timestamp"])
        straddle = chain.get("atm_straddle_mid")
        left_us = self._reading.contracts.of(product).expiry_us(str(chain["expiry"])) - micros(at)
        return ChainFigures(
            at=at,
            spot=chain.get("spot_price"),
            forward=forward.get("price"),
            forward_source=forward.get("source"),
            days=max(left_us / _DAY_US, 0.0),
            atm_strike=chain.get("atm_strike"),
            atm_iv=chain.get("atm_iv"),
            iv_percentile=((chain.get("standing") or {}).get("atm_iv") or {}).get("percentile"),
            straddle=chain.get("atm_straddle_price") if straddle is None else straddle,
            low=move.get("low"),
            high=move.get("high"),
            pcr_oi=chain.get("pcr_oi"),
            pcr_volume=chain.get("pcr_volume"),
            max_pain=chain.get("max_pain_strike"),
            max_pain_away=chain.get("max_pain_distance_pct"),
            total_call_oi=chain.get("total_call_oi"),
            total_put_oi=chain.get("total_put_oi"),
            net_gex=gex.get("net"),
            call_wall=gex.get("call_wall"),
            put_wall=gex.get("put_wall"),
            zero_gamma=gex.get("zero_gamma"),
            currency=(chain.get("conventions") or {}).get("currency"),
            flags={str(name): str(why) for name, why in (chain.get("flags") or {}).items()},
        )

    async def _rows(self, head: Head, chain: Document) -> tuple[list[Row], datetime | None, bool]:
        """All strikes, ascending, and what the changes of open interest count from."""
        calls, puts = (_by_strike(chain.get(side)) for side in ("calls", "puts"))
        sent = any(_sent_change(leg) is not None for leg in (*calls.values(), *puts.values()))
        first_calls: dict[float, Document] = {}
        first_puts: dict[float, Document] = {}
        since = None
        if not sent and head.figures is not None:
            product, moment_us = head.product, micros(head.figures.at)
            first = await self._reading.first_chain(product, head.expiry, moment_us)
            if first is not None:
                since = self._reading.moment(product, first["timestamp"])
                first_calls, first_puts = (_by_strike(first.get(side)) for side in ("calls", "puts"))
        analysed = chain.get("analytics") or {}
        at = {strike: place for place, strike in enumerate(analysed.get("strikes", ()))}
        day = chain.get("buildup_day") or chain.get("buildup") or {}
        buildups = {row["strike"]: row for row in day.get("strikes", ())}
        walls = _walls(chain)
        gex = analysed.get("gex") or ()
        rows = [
            Row(
                strike=strike,
                call=_leg(
                    calls.get(strike),
                    first_calls.get(strike),
                    analysed.get("calls"),
                    at.get(strike),
                    buildups.get(strike, {}).get("call"),
                ),
                put=_leg(
                    puts.get(strike),
                    first_puts.get(strike),
                    analysed.get("puts"),
                    at.get(strike),
                    buildups.get(strike, {}).get("put"),
                ),
                gex=gex[at[strike]] if strike in at and at[strike] < len(gex) else None,
                wall=walls.get(strike, ""),
            )
            for strike in sorted({*calls, *puts})
        ]
        return rows, since, sent


def around(rows: Sequence[Row], middle: float | None, wanted: int) -> list[Row]:
    """The strikes nearest to the one in the middle, ``wanted`` on either side; 0 are all."""
    if wanted <= 0 or not rows:
        return list(rows)
    places = range(len(rows))
    centre = len(rows) // 2 if middle is None else min(places, key=lambda at: abs(rows[at].strike - middle))
    return list(rows[max(0, centre - wanted) : centre + wanted + 1])


def _by_strike(legs: Any) -> dict[float, Document]:
    return {
        strike: leg for leg in legs or () if (strike := number(leg.get("strike"))) is not None
    }


def _sent_change(leg: Document) -> float | None:
    """The exchange's own change of open interest, by whichever name it came."""
    return next((found for name in _SENT_CHANGES if (found := number(leg.get(name))) is not None), None)


def _leg(
    sent: Document | None,
    first: Document | None,
    side: Mapping[str, Sequence[float | None]] | None,
    at: int | None,
    buildup: str | None,
) -> Leg:
    """A leg as it was sent, with what was computed of it where there is that."""
    if sent is None:
        return Leg()

    def computed(name: str) -> float | None:
        column = (side or {}).get(name) or ()
        return column[at] if at is not None and at < len(column) else None

    oi, change = number(sent.get("open_interest")), _sent_change(sent)
    if change is None and first is not None and oi is not None:
        before = number(first.get("open_interest"))
        change = None if before is None else oi - before
    return Leg(
        oi=oi,
        oi_change=change,
        buildup=buildup,
        volume=number(sent.get("volume")),
        bid=number(sent.get("bid")),
        ask=number(sent.get("ask")),
        last=number(sent.get("last")),
        **{name: computed(name) for name in ("iv", "delta", "gamma", "theta", "vega")},
    )


def _walls(chain: Document) -> dict[float, str]:
    """Strikes by the place that they have among the largest open interest."""
    named: dict[float, str] = {}
    for letter, side in (("R", "resistance"), ("S", "support")):
        for place, wall in enumerate(chain.get(side) or (), 1):
            named[wall["strike"]] = " ".join(filter(None, (named.get(wall["strike"]), f"{letter}{place}")))
    return named


def number(value: object) -> float | None:
    """A number of a leg as it was sent; None for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e300:
        return value
    return None

