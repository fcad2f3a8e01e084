"""Tables of ticks: a row for each, with a time, a price, and maybe a product, an id and a volume."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import orjson

from enricher.market.feed.channels import UNDERLYING
from enricher.market.feed.recording import Recorded
from enricher.market.files.contract import Format, Notes, OptionNeeded, Options
from enricher.market.files.source import Source
from enricher.market.files.times import Times
from enricher.market.files.values import integer_or_text, moment, number


def _seen(source: Source) -> str | None:
    if source.is_json or source.dialect.width < 2:
        return None
    return "a table without a layout that is known"


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    if (options.product is None) == (options.product_column is None):
        raise OptionNeeded(
            f"{source.path}: give the product either by name or by a column (--product, --product-column)"
        )
    dialect = source.dialect
    time, price = ("time", "price") if dialect.has_header else (0, 1)
    time = time if options.time_column is None else options.time_column
    price = price if options.price_column is None else options.price_column
    times = Times(options.time_format, options.zone)
    rows_of: Counter[str] = Counter()
    for row in source.rows():
        text, at_us = moment(row[time], times)
        name = options.product or str(row[options.product_column or 0].value)
        tick: dict[str, Any] = {
            "type": "UNDERLYING",
            "product": name,
            "price": number(row[price], dialect.marks),
            "timestamp": text,
            "tick_id": rows_of[name],
        }
        rows_of[name] += 1
        if options.tick_id_column is not None and not (given := row[options.tick_id_column]).absent:
            tick["tick_id"] = integer_or_text(given)
        if options.volume_column is not None:
            volume = row[options.volume_column]
            tick["volume"] = None if volume.absent else number(volume, dialect.marks)
        yield Recorded(at_us, UNDERLYING, orjson.dumps(tick))


FORMAT = Format("csv-ticks", "a table of ticks", "ticks", _seen, _read)
