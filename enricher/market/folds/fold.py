"""What a number per product is made of: a fold over the product's messages.

A fold is made for each product. It is given the product's messages one by one, says once per turn what is to
be shown, and may ask to be called by the clock. After a restart it is made anew and given the stored messages
again: it needs no code of its own for that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from enricher.analytics.position_buildup import Snapshot
from enricher.engine.effects import Effect
from enricher.market.surface.expiry_snapshot import ExpirySnapshot
from enricher.messages.models import Chain, Number, Quote, Tick

if TYPE_CHECKING:
    from enricher.market.state.product_state import ProductState

    Product = ProductState
else:
    Product = object  # which is made of folds, and imports them


class TickChange(msgspec.Struct, frozen=True, gc=False):
    """A tick to fold. Times are microseconds: of the event, and of its receipt.

    ``order`` ranks the ticks of one microsecond; ``identity`` is a 64-bit stand-in for the tick's identity.
    ``naive`` says that its time was sent without an offset. ``aside`` says why no fold gets it, in a word
    that is counted: ``future``, ahead of the clock, or ``no_price``. ``sent`` is the tick as it was sent,
    None where it was read back from what is stored.
    """

    event_us: int
    price: Number
    order: int
    volume: Number | None
    identity: int
    received_us: int
    naive: bool
    aside: str = ""
    sent: Tick | None = None


class QuoteChange(msgspec.Struct, frozen=True, gc=False):
    """A quote to fold, with the digest of its bytes; ``restored`` where it was read back."""

    event_us: int
    quote: Quote
    identity: str
    aside: str = ""
    restored: bool = False


class ChainChange(msgspec.Struct, frozen=True):
    """A chain to fold: the digest of its bytes, what build-up needs of it, its document's ``_id``.

    ``known`` is what is remembered of it, None where prices are not analysed; ``restored`` as of a quote.
    """

    event_us: int
    chain: Chain
    identity: str
    taken: Snapshot
    document_id: str
    known: ExpirySnapshot | None = None
    aside: str = ""
    restored: bool = False


class Fold:
    """One thing that is known of a product; the base of those shipped and of one's own.

    What is not overridden costs nothing. Messages that are ahead of the clock come to no fold. A fold may
    answer a word, such as "late": it is counted, and the folds after it do not get the message.

    ``due_us`` is when `on_time` is wanted, by the clock in microseconds; None for never.
    """

    __slots__ = ("due_us", "product")

    def __init__(self, product: Product) -> None:
        self.product = product
        self.due_us: int | None = None

    def fold_tick(self, tick: TickChange) -> str | None:
        """Take a tick in; they come in any order of event time. A repeated one does not come again."""
        return None

    def fold_quote(self, change: QuoteChange) -> str | None:
        """Take a quote in; after a restart those of the last `market.quote_window` come again."""
        return None

    def fold_chain(self, change: ChainChange) -> str | None:
        """Take a chain in; after a restart the last two of each expiry and a few others come again."""
        return None

    def show(self, now_us: int) -> Sequence[Effect]:
        """What is to be shown or stored, asked once after each turn of the product's lane."""
        return ()

    def on_time(self, now_us: int) -> Sequence[Effect]:
        """The clock has reached ``due_us``, which is to be set anew here."""
        return ()

    def clock_set(self, step_us: int) -> None:
        """The clock was set, forward by so much or back: times of the clock move along."""
        if self.due_us is not None:
            self.due_us += step_us

    def read_from(self, newest_us: int) -> int | None:
        """From which event time on a restart has to give it ticks, when the newest is of ``newest_us``.

        None for as far as windows and bars need them, which is at least `market.windows`.
        """
        return None

    def restored(self, received_us: int) -> None:
        """All that was stored has been given to it; the first message since came at this time."""

    def show_again(self) -> None:
        """The next `show` must say everything: what was shown since may not have been."""
