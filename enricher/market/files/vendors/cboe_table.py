"""The table that Cboe's page of delayed quotes lets one download (``spx_quotedata.csv``).

Above the header stand the price of the underlying and when it was downloaded, in the language and the zone
of the browser, also long after the close: that is not the time of the quotes. Calls are to the left of Strike
and puts to the right of it, under the same names. Volatilities are decimals, 0 where there is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from enricher.errors import EnricherError
from enricher.market.feed.recording import BadRecord, Recorded
from enricher.market.files.contract import Format, Notes, Options
from enricher.market.files.source import Source
from enricher.market.files.values import Cell
from enricher.market.files.vendors.fields import Fields, count, part, price, read_fields, signed
from enricher.market.files.vendors.option_names import occ
from enricher.market.files.vendors.snapshot import Snapshot

_TITLE = "the table of Cboe's quotes"
_HEADER = ("expiration date", "calls", "last sale")
_DOWNLOADED = re.compile(r'^"?Date: ([^"\n]{1,60})"', re.MULTILINE)
_LEG: Fields = {
    "bid": (price, "bid"),
    "ask": (price, "ask"),
    "last": (price, "last sale"),
    "volume": (count, "volume"),
    "open_interest": (count, "open interest"),
    "iv": (price, "iv"),
    "delta": (signed, "delta"),
    "gamma": (signed, "gamma"),
}


def _seen(source: Source) -> str | None:
    lines = [line.lower() for line in source.head.splitlines()[:6]]
    start, middle = ",".join(_HEADER), ",open interest,strike,puts,"
    known = any(line.startswith(start) and middle in line for line in lines)
    return "the columns Expiration Date, Calls, Strike, Puts" if known else None


def _read(source: Source, options: Options, notes: Notes) -> Iterator[Recorded]:
    downloaded = _DOWNLOADED.search(source.head)
    title = f"{_TITLE}, downloaded on {downloaded[1]}" if downloaded else _TITLE
    snapshot = Snapshot(source, options, notes, title, "contracts", ("timestamp",))
    rows = source.cells()
    underlying, names = None, list[str]()
    for line, cells in rows:
        names = [name.lower() for name in cells]
        if tuple(names[:3]) == _HEADER:
            break
        for cell in cells:
            if cell.startswith("Last:"):
                underlying = price(Cell(source.path, line, "Last", cell.removeprefix("Last:").strip()))
    if "strike" not in names:
        raise EnricherError(f"{source.path}: expected a column Strike")
    middle = names.index("strike")
    for line, cells in rows:
        if len(cells) != len(names):
            expected = f"{len(names)} cells, as the header has"
            raise BadRecord(source.path, line, "row", expected, f"{len(cells)}: {cells}")
        for side, columns in (("calls", slice(middle)), ("puts", slice(middle + 1, None))):
            row = Cell(source.path, line, "row", dict(zip(names[columns], cells[columns], strict=True)))
            name = part(row, side)
            option = occ(str(name.value))
            if option is None:
                raise name.error("an option like SPXW260814C06400000")
            snapshot.spot(option.root, underlying)
            snapshot.leg(option, read_fields(row, _LEG), str(name.value), row)
    yield from snapshot.recorded()


FORMAT = Format("cboe-table", _TITLE, "chains", _seen, _read)
