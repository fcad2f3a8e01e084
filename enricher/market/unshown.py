"""What of a stored message may never have been shown: asked once, when a product is restored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from enricher.clock import MINUTE, SECOND, render
from enricher.engine.effects import Effect, SetClaim, SetKey
from enricher.market.bars.rolling_windows import identity_key
from enricher.market.documents import QUOTES, TICKS, encode
from enricher.market.handlers import OPTION_CLAIM_TTL, Handlers, sent_fields
from enricher.market.state.product_state import ProductState
from enricher.market.state.read_back import chain_of, digest_of, event_time
from enricher.market.zeros import ZEROED, with_nulls
from enricher.messages.models import Tick


def unshown(
    handlers: Handlers,
    state: ProductState,
    collection: str,
    document: Mapping[str, Any],
    processed_us: int,
    now_us: int,
) -> Sequence[Effect]:
    """The effects of a stored message; nothing once its claim is gone.

    Its time is written as we do, for the text that was sent is not stored.
    """
    ttl = handlers.settings.claim_ttl if collection == TICKS else OPTION_CLAIM_TTL
    if now_us - processed_us >= ttl * SECOND:
        return ()
    identity, event_us, product = str(document["_id"]), event_time(document), document["product"]
    naive = bool(document.get("naive")) if collection == TICKS else state.quotes.naive
    sent: dict[str, Any] = {
        "timestamp": render(event_us, naive, state.zone),
        "naive": naive,
        "ahead_us": max(0, event_us - processed_us),
    }
    if collection == TICKS:
        tick = Tick(
            product=product,
            price=document["price"],
            tick_id=with_nulls(document).get("tick_id"),
            event_us=event_us,
            moment=document["timestamp"],
            **sent,
        )
        if document.get("folded") is not False:
            state.windows.show_tick(tick, identity_key(tick.tick_id, digest_of(document)))
        publish = handlers.publish_tick(tick, processed_us, state.zone, document.get("flags"))
        return (handlers.tick_claim(tick, identity), publish)
    if collection == QUOTES:
        claim = SetClaim(f"claims:option_quote:{event_us // MINUTE}", identity, OPTION_CLAIM_TTL)
        if document.get("folded") is False:
            return (claim,)
        fields = sent_fields(with_nulls(document))
        fields.pop(ZEROED, None)
        body = encode({**fields, "timestamp": sent["timestamp"]})
        return (claim, SetKey(f"latest:option:{document['symbol']}", body, handlers.cache_ms, event_us))
    read = chain_of({**document, "folded": None})
    if read is None:
        return ()
    chain = msgspec.structs.replace(read[0], **sent)
    return handlers.show_chain(chain, identity, sent_fields(document), processed_us, state.zone)
