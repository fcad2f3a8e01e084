"""A product as a whole: what the newest chains of its live expiries say together, as of the newest one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from enricher.analytics.oi_walls import WallSide, walls
from enricher.clock import MINUTE, render, span_us
from enricher.engine.effects import Effect, Publish, SetClaim, SetKey
from enricher.market.documents import encode_large, wall_fields
from enricher.market.folds.fold import ChainChange, Fold, Product
from enricher.market.quality.earlier_chains import same_scale
from enricher.market.reasons import BEYOND
from enricher.market.serialisation import Fields
from enricher.market.surface.cross_expiry import Joined
from enricher.market.surface.expiry_snapshot import ExpirySnapshot
from enricher.market.surface.snapshot_at import front, ratios, sums, to_month
from enricher.market.surface.strike_interest import Held, StrikeInterest
from enricher.messages.doubts import SCALES_MIXED
from enricher.messages.models import Number, digest

CLAIM_TTL = 600
"""Seconds that what was published of it is remembered, in case its commit is repeated."""

_NO_SPOT = "not known, or it contradicts the options: see the newest chain"
_TOTALS = ("total_call_oi", "total_put_oi", "total_call_volume", "total_put_volume")
_JOINED = ("pcr_oi", "pcr_volume", "iv_30d", "variance_swap_30d")
_OTHERS = ("front_expiry", "front_atm_iv", "term", "resistance", "support")


class Whole(Fold):
    """``wanted`` says as of which chain it is to be shown, as in `SurfaceView`."""

    __slots__ = ("_interest", "_window_us", "wanted")

    def __init__(self, product: Product) -> None:
        super().__init__(product)
        self._interest = StrikeInterest()
        self._window_us = span_us(product.settings.expiry_window)
        self.wanted: tuple[str, bool, int] | None = None

    def fold_chain(self, change: ChainChange) -> None:
        newest_us = self.product.chains.newest_us
        if change.known is not None and change.event_us > newest_us - self._window_us:
            self.wanted = (self.product.chains.newest_text, change.chain.naive, newest_us)

    def restored(self, received_us: int) -> None:
        self.wanted = None

    def show(self, now_us: int) -> Sequence[Effect]:
        """The product as of its newest chain: cached and published."""
        if self.wanted is None:
            return ()
        text, naive, event_us = self.wanted
        self.wanted, product = None, self.product
        fields = self.fields(text or render(event_us, naive, product.zone), event_us)
        if fields is None:
            return ()
        message = encode_large(fields)
        # Of one moment there may be several, one a turn, and a commit that is repeated publishes none twice.
        claim = f"{product.product}#{digest(message)}"
        return (
            SetClaim(f"claims:product:{event_us // MINUTE}", claim, CLAIM_TTL),
            SetKey(f"latest:product:{product.product}", message, product.cache_ms, event_us),
            Publish("enriched:product", message),
        )

    def fields(self, timestamp: str, moment_us: int) -> Fields | None:
        """What is shown of a product at the moment of its newest chain; None when no expiry is in.

        In are the live expiries whose newest chain is of the last `market.expiry_window`.
        """
        product, since = self.product, moment_us - self._window_us
        rows = [
            known
            for _, known in sorted(product.chains.known.items())
            if since < known.event_us <= moment_us
            and product.contract.expiry_us(known.expiry) > moment_us
        ]
        if not rows:
            return None
        newest = max(rows, key=_event_us)
        odd = [row.expiry for row in rows if not same_scale(row.forward, newest.forward)]
        rows = [row for row in rows if row.expiry not in odd]
        fields: Fields = {
            "product": product.product,
            "timestamp": timestamp,
            "spot_price": product.chains.spot,
            "expiries": len(rows),
            "expected": product.as_of.expected(newest, newest.event_us, rows),
        }
        try:
            joined = product.surface.cross_expiry.joined(rows, moment_us)
            fields |= _numbers(joined, self._interest.of(rows), product.chains.spot, moment_us)
        except (ArithmeticError, ValueError):
            names = (*_TOTALS, *_JOINED, *_OTHERS)
            fields |= dict.fromkeys(names) | {"flags": dict.fromkeys(names, BEYOND)}
        if odd:
            SCALES_MIXED.put(fields["flags"], expiries=", ".join(odd))
        return fields


def _numbers(
    joined: Joined, interest: tuple[Held, Held], spot: Number | None, moment_us: int
) -> Fields:
    totals = sums([row.of for row in joined.rows])
    month = to_month(joined.rows, joined.money, moment_us)
    iv_reason = month.pop("iv_30d_reason")
    expiry, atm_iv = front(joined.rows) or (None, None)
    calls, puts = interest
    fields: Fields = {
        **dict(zip(_TOTALS, totals, strict=True)),
        **ratios(totals),
        **month,
        "front_expiry": expiry,
        "front_atm_iv": atm_iv,
        "term": joined.term,
        "resistance": _walls(calls, spot, "resistance"),
        "support": _walls(puts, spot, "support"),
    }
    flags: dict[str, str] = {}
    for name, what in (("oi", "open interest"), ("volume", "volume")):
        for side in ("call", "put"):
            if fields[f"total_{side}_{name}"] is None:
                flags[f"total_{side}_{name}"] = f"no known {what} of the {side}s"
        if fields[f"pcr_{name}"] is None:
            flags[f"pcr_{name}"] = f"no known {what} of calls or of puts, or 0 of the calls"
    if spot is None:
        flags |= dict.fromkeys(("spot_price", "resistance", "support"), _NO_SPOT)
    if atm_iv is None:
        flags["front_expiry"] = flags["front_atm_iv"] = "no expiry has a volatility at the money"
    if fields["iv_30d"] is None:
        flags["iv_30d"] = iv_reason
    return {**fields, "flags": flags}


def _walls(held: Held, spot: Number | None, side: WallSide) -> list[dict[str, Any]]:
    """The largest open interest by strike."""
    if spot is None:
        return []
    strikes = sorted(held)
    return wall_fields(walls(strikes, [held[strike] for strike in strikes], spot, side))


def _event_us(one: ExpirySnapshot) -> int:
    return one.event_us
