"""Messages of the feed as JSON: one a line, a list of them, or a single one. They are published as they are.

Which channel each belongs to is told by its fields: calls and puts make a chain, strike and option_type a
quote, price a tick. Its time is its timestamp.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING
from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.times import Times
from enricher.market.files.values import moment

_FIELDS = {
    OPTION_CHAIN: frozenset({"product", "timestamp", "calls", "puts"}),
    OPTION_QUOTE: frozenset({"product", "timestamp", "symbol", "strike", "option_type"}),
    UNDERLYING: frozenset({"product", "timestamp", "price"}),
}


def channel_of(message: Mapping[str, Any]) -> str | None:
    """The channel of a message by its fields, None if it is no message of the feed."""
    return next((channel for channel, fields in _FIELDS.items() if fields <= message.keys()), None)


def _seen(source: Source) -> str | None:
    channel = channel_of(source.sample)
    return f"the fields {', '.join(sorted(_FIELDS[channel]))}" if channel else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    times = Times(zone=options.zone)
    for cell, body in source.texts():
        channel = channel_of(cell.value) if isinstance(cell.value, dict) else None
        if channel is None:
            raise cell.error("a message with product, timestamp and price, or calls and puts, or strike")
        _, at_us = moment(cell.member("timestamp", str), times)
        yield Recorded(at_us, channel, body)


FORMAT = Format("messages", "messages of the feed", "messages", _seen, _read)
