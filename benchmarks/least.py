"""The least work that the market's contract leaves to do per message, written without an engine around it.

Bytes go in; documents for MongoDB and arguments for one Redis script come out. Messages are validated, stored
as sent with their time and identity, claimed, published, and folded: rolling windows of each product, the
newest value of every cache, the quote surface. What one batch says about one key is said once.

It is the yardstick of part `floor`, not a worker: what is bad is only counted, nothing is loaded or
retried, no bar, build-up or wall is computed, the surface is as of the end of a batch, and all of a batch
fails or lands together. With ``analytics`` a chain also goes through the formulas of `least_analytics`.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import msgspec

from benchmarks.least_analytics import priced
from benchmarks.least_parts import (
    MINUTE,
    WINDOWS,
    Chain,
    Decoded,
    Quote,
    Tick,
    Window,
    analysed,
    appended,
    digest,
    encode,
    time_of,
)
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING, Message

FRESH_US = 5 * MINUTE
FUTURE_US = MINUTE
CACHE_MS = "300000"


class Least:
    """All products. Call `decode`, `enrich` and `settle` in this order for each batch."""

    def __init__(self, *, analytics: bool = False) -> None:
        self.analytics = analytics
        self.bad = 0
        self.documents: dict[str, list[dict[str, Any]]] = {}
        self.claims: list[Any] = []
        self.claimed = 0
        self._windows: dict[str, Window] = {}
        self._moved: dict[str, Window] = {}
        self._latest: dict[str, tuple[str, bytes, str, int]] = {}
        # Product -> expiry -> (strike, option type) -> (volatility, event time)
        self._surface: dict[str, dict[str, dict[tuple[float, str], tuple[float, int]]]] = {}
        self._asked: dict[str, Chain] = {}
        self._changed: dict[tuple[str, str, float, str], float] = {}
        self._members: dict[tuple[str, str, float, str], bytes] = {}

    # -- decode ------------------------------------------------------------------------------------

    def decode(self, batch: list[Message], now_us: int) -> Decoded:
        """Read and check; what is bad is counted and left out."""
        made = Decoded([], [], [])
        latest = now_us + FUTURE_US
        for topic, body in batch:
            try:
                if topic == UNDERLYING:
                    tick = _TICK.decode(body)
                    us, moment = time_of(tick.timestamp)
                    if us <= latest:
                        made.ticks.append((tick, body, us, moment))
                        continue
                elif topic == OPTION_QUOTE:
                    raw = _ANY.decode(body)
                    quote = msgspec.convert(raw, Quote)
                    us, moment = time_of(quote.timestamp)
                    if us <= latest:
                        made.quotes.append((quote, raw, body, us, moment))
                        continue
                elif topic == OPTION_CHAIN:
                    raw = _ANY.decode(body)
                    chain = msgspec.convert(raw, Chain)
                    us, moment = time_of(chain.timestamp)
                    if us <= latest:
                        made.chains.append((chain, raw, body, us, moment))
                        continue
            except (msgspec.DecodeError, ValueError):
                pass
            self.bad += 1
        return made

    # -- enrich and fold ---------------------------------------------------------------------------

    def enrich(self, batch: Decoded, now_us: int) -> None:
        """Fill ``documents`` and ``claims`` and fold."""
        self.documents = {}
        self.claims = []
        self.claimed = 0
        now = datetime.fromtimestamp(now_us // 1000 / 1000, UTC)
        text = now.isoformat()
        now = now.replace(tzinfo=None)
        if batch.ticks:
            self._ticks(batch, now, text)
        if batch.quotes:
            self._quotes(batch, now)
        for chain, raw, body, us, moment in batch.chains:
            self._chain(chain, raw, body, us, moment, now, text)

    def _ticks(self, batch: Decoded, now: datetime, text: str) -> None:
        documents = self.documents["underlying_ticks"] = []
        windows, claims = self._windows, self.claims
        for tick, body, us, moment in batch.ticks:
            product, price, stamp = tick.product, tick.price, tick.timestamp
            number = tick.tick_id if tick.tick_id is not None else digest(body)
            documents.append(
                {
                    "_id": f"{us}:{product}:{number}",
                    "product": product,
                    "price": price,
                    "timestamp": moment,
                    "tick_id": tick.tick_id,
                    "processed_at": now,
                    "event_us": us,
                }
            )
            message = {
                "type": "UNDERLYING_ENRICHED",
                "product": product,
                "price": price,
                "timestamp": stamp,
                "processed_at": text,
            }
            claims += (f"processed:underlying:{product}:{number}", us, encode(message))
            window = windows.get(product)
            if window is None:
                window = windows[product] = Window()
            if window.events and us < window.events[-1]:
                window.late(us, price)
            else:
                window.add(us, price)
                window.latest = stamp
            self._moved[product] = window
        self.claimed += len(documents)

    def _quotes(self, batch: Decoded, now: datetime) -> None:
        documents = self.documents["option_quotes"] = []
        latest, changed, claims = self._latest, self._changed, self.claims
        for quote, raw, body, us, moment in batch.quotes:
            product, symbol = quote.product, quote.symbol
            identity = f"{us}:{symbol}#{digest(body)}"
            raw["_id"], raw["timestamp"], raw["processed_at"], raw["event_us"] = identity, moment, now, us
            documents.append(raw)
            claims += (f"claims:option_quote:{us // MINUTE}", identity, "")
            held = latest.get(symbol)
            if held is None or us >= held[3]:
                latest[symbol] = (f"latest:option:{symbol}", body, CACHE_MS, us)
            if quote.iv is not None and 0 < quote.iv < math.inf:
                strikes = self._surface.setdefault(product, {}).setdefault(quote.expiry, {})
                strikes[quote.strike, quote.option_type] = (quote.iv, us)
                changed[product, quote.expiry, quote.strike, quote.option_type] = quote.iv
        self.claimed += len(documents)

    def _chain(
        self,
        chain: Chain,
        raw: dict[str, Any],
        body: bytes,
        us: int,
        moment: datetime,
        now: datetime,
        text: str,
    ) -> None:
        product, expiry = chain.product, chain.expiry
        identity = f"{us}:{product}:{expiry}#{digest(body)}"
        numbers = analysed(chain) | (priced(chain, us) if self.analytics else {})
        message = appended(body, raw, {**numbers, "processed_at": text})
        where = f"{product}:{expiry}"
        ratios = {
            "pcr_oi": numbers["pcr_oi"],
            "pcr_volume": numbers["pcr_volume"],
            "timestamp": chain.timestamp,
        }
        self._latest[f"chain {where}"] = (f"latest:chain:{where}", message, CACHE_MS, us)
        self._latest[f"pcr {where}"] = (f"latest:pcr:{where}", encode(ratios), CACHE_MS, us)
        raw.update(numbers)
        raw["_id"], raw["timestamp"], raw["processed_at"], raw["event_us"] = identity, moment, now, us
        self.documents.setdefault("option_chains", []).append(raw)
        self.claims += (f"claims:option_chain:{us // MINUTE}", identity, message)
        self.claimed += 1
        strikes = self._surface.setdefault(product, {}).setdefault(expiry, {})
        for kind, legs in (("CALL", chain.calls), ("PUT", chain.puts)):
            for leg in legs:
                if leg.iv is not None and 0 < leg.iv < math.inf:
                    strikes[leg.strike, kind] = (leg.iv, us)
        self._asked[product] = chain

    # -- settle ------------------------------------------------------------------------------------

    def settle(self) -> tuple[list[Any], list[Any]]:
        """What the batch says as a whole, two flat lists.

        Keys: key, value, ttl_ms, version. Members of sorted sets: key, score, the new one, the old one.
        """
        latest = self._latest
        for product, window in self._moved.items():
            newest = window.events[-1]
            value = {"price": window.prices[-1], "timestamp": window.latest}
            latest[product] = (f"latest:underlying:{product}", encode(value), CACHE_MS, newest)
            for minutes in WINDOWS:
                key = f"ohlc:{product}:{minutes}m"
                latest[key] = (key, window.shown(product, minutes), str(minutes * 60_000), newest)
            window.forget()
        for product, chain in self._asked.items():
            key = f"volatility_surface:{product}"
            us, shown = self._shown_surface(product, chain)
            latest[key] = (key, shown, CACHE_MS, us)
        sets = [argument for entry in latest.values() for argument in entry]
        members: list[Any] = []
        for (product, expiry, strike, kind), iv in self._changed.items():
            member = encode({"strike": strike, "iv": iv, "expiry": expiry})
            old = self._members.get((product, expiry, strike, kind), b"")
            if member == old:
                continue
            self._members[product, expiry, strike, kind] = member
            twin = self._members.get((product, expiry, strike, "PUT" if kind == "CALL" else "CALL"))
            members += (f"iv_surface:{product}", strike, member, b"" if old == twin else old)
        self._moved, self._latest, self._asked, self._changed = {}, {}, {}, {}
        return sets, members

    def _shown_surface(self, product: str, chain: Chain) -> tuple[int, bytes]:
        newest = max(us for found in self._surface[product].values() for _, us in found.values())
        expiries = []
        for expiry, found in sorted(self._surface[product].items()):
            ivs: dict[float, float] = {}
            for (strike, kind), (iv, us) in found.items():
                out_of_the_money = (strike > chain.spot_price) == (kind == "CALL")
                if us > newest - FRESH_US and (out_of_the_money or strike not in ivs):
                    ivs[strike] = iv
            if ivs:
                strikes = sorted(ivs)
                one = {"expiry": expiry, "strikes": strikes, "ivs": [ivs[k] for k in strikes]}
                expiries.append({**one, "avg_iv": round(math.fsum(ivs.values()) / len(ivs), 6)})
        shown = {"product": product, "timestamp": chain.timestamp, "expiries": expiries}
        return newest, encode(shown)


_ANY = msgspec.json.Decoder(dict[str, Any])
_TICK = msgspec.json.Decoder(Tick)
