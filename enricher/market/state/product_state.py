"""What the lane of one product remembers, and how it is rebuilt from what was stored.

Bars, rolling windows, last chains and the quote surface are the fold of the product's stored messages, so
stopping, killing and starting in the middle of a window changes no number; `market.state.restore` reads it
back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from enricher.analytics.as_of import JUMP_US, Timeline
from enricher.analytics.contracts import Contract, Session
from enricher.analytics.percentile import DailySeries
from enricher.analytics.position_buildup import Snapshot
from enricher.analytics.prices import Unit
from enricher.clock import SECOND
from enricher.market.bars import bars
from enricher.market.bars.bars import Bars
from enricher.market.bars.rolling_windows import TickWindow, order_key
from enricher.market.products import Contracts
from enricher.market.quality.feed_health import FeedHealth
from enricher.market.state.baselines import Baselines
from enricher.market.state.gaps import ProductGaps
from enricher.market.state.horizons import Checkpoint, Spans
from enricher.market.state.recent import Recent
from enricher.market.surface.cross_expiry import Across
from enricher.market.surface.expiry_snapshot import Remembered, to_join
from enricher.market.surface.strike_interest import StrikeInterest
from enricher.market.surface.surface import Cutoff, Expired, QuoteSurface, cutoff
from enricher.market.surface.svi_scheduler import Fits
from enricher.messages.models import Chain, Number, Quote, Tick

TICKS = "underlying_ticks"
QUOTES = "option_quotes"
CHAINS = "option_chains"
BARS = "ohlc_bars"
STATE = "enricher_state"
HISTORY = "market_history"
SURFACES = "volatility_surfaces"

MEASURES = ("atm_iv", "iv_30d", "pcr_oi", "pcr_volume")
"""What a product's percentiles are of, one value a day each."""

CHECKPOINT_US = 60 * SECOND
"""How far event time moves before a product's checkpoint is written again: it only bounds a range."""

_EXPIRIES_KEPT = 200
_ASIDE_KEPT = 1000
_CHAINS_KEPT = 32
_PAST_KEPT = 32  # expiries


def bar_session(contract: Contract) -> bars.Session | None:
    """Where the long bars of a product start counting: when its market opens."""
    if contract.session_open is None:
        return None
    hours, minutes = contract.session_open.split(":")
    return bars.Session(ZoneInfo(contract.zone), (int(hours) * 60 + int(minutes)) * 60)


class ProductState:
    """Everything one product's lane remembers. Owned by the lane, touched by nobody else."""

    __slots__ = (
        "across",
        "aside",
        "asof",
        "bars",
        "bases",
        "chain_ids",
        "chains_unsaid",
        "checkpoint",
        "clock_set_us",
        "contract",
        "cutoff",
        "drawn",
        "fits",
        "gaps",
        "health",
        "heard_us",
        "history",
        "history_changed",
        "interest",
        "known",
        "lapse_us",
        "latest",
        "members",
        "naive",
        "newest_chain_text",
        "newest_chain_us",
        "options_heard_us",
        "options_naive",
        "options_us",
        "past",
        "primed_chains",
        "product",
        "pruned",
        "pruned_us",
        "recent",
        "recent_chains",
        "recent_quotes",
        "session_found",
        "spans",
        "spot",
        "surface",
        "surface_shown",
        "surface_stored",
        "surface_text",
        "ticks",
        "ticks_changed",
        "units",
        "whole_text",
    )

    def __init__(self, product: str, spans: Spans, contract: Contract | None = None) -> None:
        self.product = product
        self.spans = spans
        self.contract = Contracts().of(product) if contract is None else contract
        self.ticks = TickWindow(spans.retention_us)
        self.session_found: Session | None = None
        day_of = self._day_of if spans.cumulative else None
        self.bars = Bars(
            spans.windows, spans.lateness_us, spans.retention_us, bar_session(self.contract), day_of
        )
        self.bases = Baselines(spans.buildup_us, self.contract)
        self.surface = QuoteSurface(spans.quote_us)
        # The last identity of each symbol and expiry: most duplicates come at once.
        self.recent_quotes: dict[str, tuple[int, str]] = {}
        self.recent_chains: dict[str, tuple[int, str]] = {}
        self.primed_chains: dict[int, set[str]] = {}
        # Messages that moved nothing because they were ahead of the clock: when they come again, and their
        # time has come meanwhile, they must move nothing still, or a restart would change the numbers.
        self.aside: dict[tuple[int, int | str], None] = {}
        # Expiry -> _id of its newest chain, for the checkpoint.
        self.chain_ids: dict[str, str] = {}
        self.chains_unsaid = False
        self.newest_chain_us = 0
        self.newest_chain_text = ""  # its time as sent; empty when it was read back
        self.spot: Number | None = None
        # What `settle` has still to say.
        self.latest: Tick | None = None
        # Whether the times of windows are written without an offset: as those of the newest tick.
        self.naive = False
        # The same of quotes and chains, which are not always written as ticks are.
        self.options_naive = False
        self.gaps = ProductGaps()
        self.ticks_changed = False
        self.members: dict[tuple[str, Number, str], tuple[bytes, int]] = {}
        # As of which chain the product as a whole is to be said anew.
        self.whole_text: tuple[str, bool, int] | None = None
        # The surface to draw: its time as text and, for want of one, in which style; its time.
        self.surface_text: tuple[str, bool, int] | None = None
        self.surface_shown: tuple[int, bytes] | None = None
        # What has expired by the newest quote or chain, and the date up to which the sorted set was told.
        self.cutoff = Cutoff()
        # The time of the newest quote or chain, and when it had been taken in, by the clock.
        self.options_us = self.options_heard_us = 0
        # When, by the clock, the next expiry has come though nothing says so; None while that is far off.
        self.lapse_us: int | None = None
        self.pruned = ""
        self.checkpoint = Checkpoint()
        # Messages that were stored last when this was read back: they may not have been shown.
        self.recent = Recent()
        self.heard_us: int | None = None
        # Where the clock was set while bars were open: what to add for the one that they were begun by.
        self.clock_set_us = 0
        # Of each expiry its last chain, and what its chains said up to any moment that is still asked for.
        self.known: dict[str, Remembered] = {}
        self.asof: dict[str, Timeline[Remembered]] = {}
        # The expiries of the past of which nothing has come since that was seen.
        self.past: set[str] = set()
        self.pruned_us = 0
        # What the vendor's volatilities were in.
        self.units: Timeline[Unit] = Timeline(0, spans.quote_us, _CHAINS_KEPT)
        self.history = {name: DailySeries(spans.look_back, spans.least_days) for name in MEASURES}
        self.history_changed: set[int] = set()
        self.across = Across()
        self.interest = StrikeInterest()
        self.fits = Fits(spans.svi_us)
        # The surface as it was drawn last, for a fit that is done later; the interval that has one stored.
        self.drawn: dict[str, Any] | None = None
        self.surface_stored = -1
        self.health: FeedHealth | None = None

    # -- folding -----------------------------------------------------------------------------------

    def is_late(self, event_us: int) -> bool:
        """Whether a tick of this time is too old to fold into anything."""
        newest = self.ticks.newest
        return newest is not None and event_us < newest - self.ticks.retention_us

    def fold_tick(self, tick: Tick, ident: int, received_us: int) -> str | None:
        """Fold a tick; `future` or `late` when it folds into nothing."""
        if tick.future:
            self.set_aside(tick.event_us, ident)
            return "future"
        self.heard_us = received_us
        order = order_key(tick.tick_id)
        if not self.ticks.add(tick.event_us, tick.price, order, ident):
            return "late"
        self.bars.fold(tick.event_us, tick.price, order, tick.volume)
        self.show_tick(tick, ident)
        return None

    def show_tick(self, tick: Tick, ident: int) -> None:
        """Have `settle` show the windows, and this tick if it is the last of those folded."""
        self.ticks_changed = True
        # The windows are asked, not the tick shown before: after a restart there is none.
        if self.ticks.is_last(tick.event_us, ident):
            self.latest = tick
            self.naive = tick.naive

    def fold_quote(self, quote: Quote, digest: str) -> str | None:
        """Fold a quote into the surface; its member of the sorted set is noted for `settle`."""
        self.recent_quotes[quote.symbol] = (quote.event_us, digest)
        if quote.future:
            self.set_aside(quote.event_us, digest)
            return "future"
        self.options_naive = quote.naive
        change = self.surface.fold_quote(quote, digest)
        if change.add is not None or change.remove or change.unknown:
            text = change.add.text.encode() if change.add is not None else b""
            self.members[quote.expiry, quote.strike, quote.option_type] = (text, quote.event_us)
        return None

    def fold_chain(
        self, chain: Chain, digest: str, taken: Snapshot, document_id: str, known: Remembered | None = None
    ) -> str | None:
        """Fold a chain: baseline of later build-up, what is remembered of it, and the surface.

        `late`, and no news for the surface, when its expiry has a newer one.
        """
        self.recent_chains[chain.expiry] = (chain.event_us, digest)
        if chain.future:
            self.set_aside(chain.event_us, digest)
            return "future"
        self.options_naive = chain.naive
        self.bases.add(chain.expiry, taken, document_id, self.session(chain.event_us).day)
        # One that lies before what a restart reads anyway would be lost.
        self.chains_unsaid |= taken.event_us < self.checkpoint.options_us - self.spans.quote_us
        self.chains_unsaid |= taken.event_us < self.newest_chain_us - CHECKPOINT_US
        self.past.discard(chain.expiry)
        if known is not None:
            self._note_said(known.event_us, known.unit, known.said)
            line = self.asof.get(chain.expiry)
            if line is None:
                window_us = self.spans.expiry_us
                line = self.asof[chain.expiry] = Timeline(window_us, window_us, _CHAINS_KEPT)
            line.add(chain.event_us, to_join(known, document_id), digest)
        if not self.surface.fold_chain(chain, digest):
            return "late"
        self._note_chain(chain, document_id)
        if known is None:
            self.known.pop(chain.expiry, None)
        else:
            self.known[chain.expiry] = known
            self.fits.want(chain.expiry, known.event_us, known.smile)
        if chain.event_us >= self.newest_chain_us:
            self.newest_chain_us = chain.event_us
            self.newest_chain_text = chain.timestamp
            self.spot = chain.spot_price
        # An older chain of another expiry belongs to the surface too, which is as of the newest still.
        self.surface_text = (self.newest_chain_text, chain.naive, self.newest_chain_us)
        if known is not None and chain.event_us > self.newest_chain_us - self.spans.expiry_us:
            self.whole_text = self.surface_text
        return None

    def _note_said(self, event_us: int, unit: Unit | None, said: Mapping[str, float | None]) -> None:
        """The unit of the vendor's volatilities, and the day's values of what has a history."""
        if unit is not None:
            self.units.add(event_us, unit)
        day = self.session(event_us).day
        for name, value in said.items():
            if self.history[name].fold(day, event_us, value) is not None:
                self.history_changed.add(day)

    def fold_said(self, event_us: int, document: Mapping[str, Any]) -> None:
        """What a stored chain said of the product as a whole."""
        if "standing" in document:
            said = {name: one["value"] for name, one in document["standing"].items()}
            self._note_said(event_us, document["conventions"]["vendor_iv"], said)

    def first_of_day(self, expiry: str, event_us: int) -> Snapshot | None:
        """The first chain of this expiry on the local day of a moment."""
        return self.bases.first(expiry, self.session(event_us).day)

    def session(self, moment_us: int) -> Session:
        """The local day of a moment, with the product's hours of trading."""
        found = self.session_found
        if found is None or not found.start_us <= moment_us < found.end_us:
            found = self.session_found = self.contract.session(moment_us)
        return found

    def _day_of(self, moment_us: int) -> int:
        return self.session(moment_us).start_us

    def hear_options(self, newest_us: int, now_us: int) -> None:
        """Note when the newest quote or chain was taken in, and with it when what expires next has to go.

        Events are no nearer to one another than their receipts, unless a feed hangs: a replay is faster than
        its market was. So what would come after them has come, on the clock, by then.
        """
        self.options_us, self.options_heard_us = newest_us, now_us
        left = self.cutoff.until_us - newest_us
        self.lapse_us = now_us + left if newest_us >= self.cutoff.near_us else None

    def beside(
        self, mine: Remembered, event_us: int, session: Session
    ) -> tuple[list[Remembered], list[Remembered]]:
        """This chain and the last ones of other expiries up to its moment, by expiry: of now, and of the day.

        Those of now are as young as the surface's quotes and not expired.
        """
        every = {mine.expiry: mine}
        for expiry, line in self.asof.items():
            if expiry != mine.expiry and (one := line.at(event_us)) is not None:
                every[expiry] = one
        ordered = [every[expiry] for expiry in sorted(every)]
        since, zone = event_us - self.spans.quote_us, self.contract
        now = [one for one in ordered if one.event_us > since and zone.expiry_us(one.expiry) > event_us]
        return now, [one for one in ordered if one.event_us >= session.start_us]

    def expected(self, mine: Remembered, event_us: int, now: Sequence[Remembered]) -> int:
        """How many live expiries are known of at the moment of this chain: those of ``now``, and those heard
        of since the chain of this expiry before, or shortly before that.
        """
        line = self.asof.get(mine.expiry)
        last = None if line is None else line.before(event_us)
        since = (event_us if last is None else last.event_us) - self.spans.expiry_us
        count = len(now)
        for expiry in self.asof.keys() - {one.expiry for one in now}:
            one = self.asof[expiry].at(event_us)
            if one is not None and one.event_us > since and self.contract.expiry_us(expiry) > event_us:
                count += 1
        return count

    def shown_with(self, expired: Expired) -> list[Remembered]:
        """The last chains that the surface shows the smiles of, by expiry."""
        return [
            self.known[expiry]
            for expiry in sorted(self.known)
            if self.surface.counts(self.known[expiry].event_us, self.newest_chain_us) and not expired(expiry)
        ]

    def _note_chain(self, chain: Chain, document_id: str) -> None:
        self.chain_ids.pop(chain.expiry, None)
        self.chain_ids[chain.expiry] = document_id
        if len(self.chain_ids) > _EXPIRIES_KEPT:
            forgotten = next(iter(self.chain_ids))
            del self.chain_ids[forgotten]
            self.known.pop(forgotten, None)
            self.asof.pop(forgotten, None)
            self.bases.forget_first(forgotten)
            self.fits.forget(forgotten)
        # One that lies before what a restart reads anyway would be lost without a checkpoint of its own.
        self.chains_unsaid |= chain.event_us < self.checkpoint.options_us

    def set_aside(self, event_us: int, identity: int | str) -> None:
        """Remember a message that was stored and published but moves nothing."""
        self.aside[event_us, identity] = None
        if len(self.aside) > _ASIDE_KEPT:
            del self.aside[next(iter(self.aside))]

    def pass_time(self, moment_us: int | None = None) -> bool:
        """Let expire what has by the newest quote or chain; True if the surface loses an expiry by it.

        ``moment_us`` is a later moment that has come though none of them says so.
        """
        newest = self.surface.newest_us
        if newest is None:
            return False
        moment = newest if moment_us is None else moment_us
        if moment < self.cutoff.until_us:
            return False
        before, self.cutoff = self.cutoff, cutoff(self.contract, moment)
        held = self.surface.expiries | self.known.keys()
        lost = any(self.cutoff.expired(expiry) and not before.expired(expiry) for expiry in held)
        self._prune(newest)
        return lost

    def _prune(self, newest: int) -> None:
        """Forget what has expired, and identities from before the quote window.

        Without it a product would grow with every symbol and every expiry there ever was. What chains say
        is kept through the day of their expiry, for some come after its instant.
        """
        self.surface.drop_expired(self.cutoff.expired)
        for held in (self.recent_chains, self.chain_ids, self.known):
            for expiry in [expiry for expiry in held if self.cutoff.past(expiry)]:
                del held[expiry]
                self.fits.forget(expiry)
        # What later chains of a replay may be compared with goes a day later, if none has come. Where time
        # jumps, the feed begins whose past the replay is.
        if newest - self.pruned_us < JUMP_US or len(self.past) > _PAST_KEPT:
            for joined in (self.asof, *self.bases.by_expiry):
                for expiry in self.past & joined.keys():
                    del joined[expiry]
        self.pruned_us = newest
        self.past = {expiry for expiry in self.bases.snapshots if self.cutoff.past(expiry)}
        oldest = newest - self.spans.quote_us
        for symbol in [name for name, (event_us, _) in self.recent_quotes.items() if event_us < oldest]:
            del self.recent_quotes[symbol]
        for event_us in [event_us for event_us in self.primed_chains if event_us < oldest]:
            del self.primed_chains[event_us]

    def next_checkpoint(self) -> Checkpoint | None:
        """The checkpoint to write now, None while the last one serves."""
        last = self.checkpoint
        ticks_us, options_us = self.ticks.newest or 0, self.surface.newest_us or 0
        moved = ticks_us - last.ticks_us >= CHECKPOINT_US or options_us - last.options_us >= CHECKPOINT_US
        if not (moved or self.chains_unsaid):
            return None
        self.chains_unsaid = False
        self.recent = Recent()  # by now it was asked for, or never is
        self.checkpoint = Checkpoint(last.revision + 1, ticks_us, options_us)
        if self.spans.cumulative and ticks_us:
            bound = self.read_from(ticks_us)
            volume = self.bars.traded(self.session(bound).start_us, bound)
            self.checkpoint = Checkpoint(last.revision + 1, ticks_us, options_us, bound, volume)
        return self.checkpoint

    def read_from(self, newest_us: int) -> int:
        """Where the earliest bar begins that a tick may still fold into as long as none is newer."""
        return self.bars.begin(newest_us - self.spans.retention_us)
