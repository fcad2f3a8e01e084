"""Members of vendors' rows by their paths, and what stands in them for no value."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from enricher.market.files.contract import Options
from enricher.market.files.times import Times
from enricher.market.files.values import Cell, moment, number
from enricher.market.files.vendors.option_names import whole

Fields = Mapping[str, tuple[Callable[[Cell], Any], str]]
"""Of a leg of ours: how it is read, and the path to it in theirs (``market_data.ltp``)."""

_LARGEST = 1e15
GREEKS = ("delta", "gamma", "vega", "theta")


def part(cell: Cell, path: str) -> Cell:
    """The member at a dotted path; its value is None where there is none. BadRecord for what is no object."""
    for name in path.split("."):
        if cell.value is not None and not isinstance(cell.value, dict):
            raise cell.error("an object")
        cell = cell.at(name, None if cell.value is None else cell.value.get(name))
    return cell


def price(cell: Cell) -> float | None:
    """A price; None for what stands for none: nothing, a dash, 0 and all below it (-1, -0.01)."""
    value = None if cell.absent else number(cell)
    return value if value is not None and value > 0 else None


def count(cell: Cell) -> float | None:
    """Open interest or a volume, which may be 0; None for nothing, a dash and all below 0."""
    value = None if cell.absent else number(cell)
    return value if value is not None and value >= 0 else None


def strike(cell: Cell) -> float:
    """A strike: a number above 0, an integer if it is whole."""
    value = number(cell)
    if not 0 < value < _LARGEST:
        raise cell.error("a strike above 0")
    return whole(value)


def text(cell: Cell) -> str:
    """A name: a text that is not empty."""
    if not isinstance(cell.value, str) or not cell.value.strip():
        raise cell.error("a name")
    return cell.value.strip()


def names(cell: Cell) -> Iterator[str]:
    """The names of the members of an object; BadRecord for what is none."""
    if not isinstance(cell.value, dict):
        raise cell.error("an object")
    yield from cell.value


def signed(cell: Cell) -> float | None:
    """A number of any sign; None for nothing."""
    return None if cell.absent else number(cell)


def percent(cell: Cell) -> float | None:
    """A volatility that comes in percent, as a decimal; None for nothing, 0 and all below."""
    value = price(cell)
    # Rounded to what a percentage of six decimals can say: 19.42 / 100 is not quite 0.1942.
    return None if value is None else round(value / 100.0, 8)


def read_fields(row: Cell, fields: Fields) -> dict[str, Any]:
    """What a row has of these fields; Greeks without the volatility that they are of are none."""
    found: dict[str, Any] = {}
    for name, (read, path) in fields.items():
        parent, _, last = path.rpartition(".")
        holder = part(row, parent) if parent else row
        if isinstance(holder.value, dict) and last in holder.value:
            found[name] = read(holder.at(last, holder.value[last]))
    if found.get("iv", 0) is None:
        found |= {name: None for name in GREEKS if name in found}
    return found


def when(cell: Cell, options: Options, pattern: str | None = None) -> tuple[str, int]:
    """The time in a cell as ISO text and in microseconds; ``pattern`` as of `Times`."""
    return moment(cell, Times(pattern, options.zone))
