"""What `analyse` shows: tables of expiries, and plots of smile and open interest, as wide as the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import groupby
from math import log, sqrt
from typing import NamedTuple
from zoneinfo import ZoneInfo

from rich.console import Console
from rich.table import Table
from rich.text import Text

from enricher.analytics import ChainAnalysis, Wall
from enricher.analytics.volatility_smile import volatility
from enricher.cli.output import visible

_BLOCKS = " ▁▂▃▄▅▆▇█"
_LABEL = 10  # columns left of a plot
_ROWS = {"smile": 6, "oi": 4}
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


class Column(NamedTuple):
    """A column of a table: its heading, and the cell of an expiry."""

    heading: str
    cell: Callable[[ChainAnalysis], str | Text]


def show(analyses: Sequence[ChainAnalysis], plot_all: bool, console: Console | None = None) -> None:
    """Prints the expiries of each product, and the plot of the first that has a smile, or of all."""
    console = console or Console(highlight=False)
    for number, (product, group) in enumerate(groupby(analyses, key=lambda one: one.product)):
        rows = list(group)
        if number:
            console.print()
        _head(console, product, rows)
        for columns in _tables(rows, console.width):
            console.print(_table(columns, rows))
        console.print(_legend(rows[0]), style="dim")
        drawn = rows if plot_all else [next((one for one in rows if one.atm_iv is not None), rows[0])]
        for one in drawn:
            console.print()
            console.print(plot(one, console.width))


def _head(console: Console, product: str, rows: Sequence[ChainAnalysis]) -> None:
    latest = max(rows, key=lambda one: one.at)
    zone = latest.contract.zone
    at = latest.at.astimezone(ZoneInfo(zone))
    expiries = "1 expiry" if len(rows) == 1 else f"{len(rows)} expiries"
    head = Text().append(visible(product), style="bold")
    console.print(head.append(f"  spot {amount(latest.spot)}  {at:%Y-%m-%d %H:%M:%S} {zone}  {expiries}"))
    if latest.contract.assumed:
        console.print(
            f"Nobody has named the terms of {visible(product)}: rate {latest.contract.rate:.1%} and lot "
            f"{latest.contract.lot:g} are assumed, see [market.products] in config.toml.",
            style="yellow", markup=False,
        )  # fmt: skip


def _tables(rows: Sequence[ChainAnalysis], width: int) -> list[list[Column]]:
    """The columns of one table if they fit into ``width``, else of as many tables as no number is cut."""

    def pack(columns: Sequence[Column]) -> list[list[Column]]:
        tables, left = [[EXPIRY]], width - _width(EXPIRY, rows)
        for column in columns:
            left -= _width(column, rows)
            if left < 0 and len(tables[-1]) > 1:
                tables.append([EXPIRY])
                left = width - _width(EXPIRY, rows) - _width(column, rows)
            tables[-1].append(column)
        return tables

    interest = INTEREST + (SECOND_ORDER if any(one.second_order for one in rows) else ())
    asked = [column for name, column in EXTRAS.items() if any(getattr(one, name) for one in rows)]
    prices = (*PRICES, *asked)
    whole = pack(prices + interest)
    return whole if len(whole) == 1 else pack(prices) + pack(interest)


def _width(column: Column, rows: Sequence[ChainAnalysis]) -> int:
    return max(len(column.heading), *(len(column.cell(one)) for one in rows)) + 1


def _table(columns: Sequence[Column], rows: Sequence[ChainAnalysis]) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="bold", pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column.heading, justify="right" if number else "left", no_wrap=True)
    for one in rows:
        table.add_row(*(column.cell(one) for column in columns))
    return table


def _legend(one: ChainAnalysis) -> str:
    contract, expiry = one.contract, one.expiry
    currency = contract.currency or "currency"
    return (
        "IV in % a year. Skew: IV of the call less that of the put of 25 delta, in points. Straddle: the "
        "expected move by price; 1 SD: by ATM IV. Var IV: of a variance swap. PCR by open interest. "
        f"GEX: {currency} per 1 % move, dealers long calls and short puts; it is 0 at the flip. "
        + ("Vanna, charm: delta per point, per day; volga: vega per point. " if one.second_order else "")
        + f"Rate {contract.rate:.1%}, lot {contract.lot_of(expiry):g}."
    )


def amount(value: float | None, digits: int = 2) -> str:
    """A number with thousands and decimals; a dash for what is not known."""
    return "-" if value is None else f"{value:,.{digits}f}"


def strike(value: float | None) -> str:
    """A strike without needless decimals."""
    return "-" if value is None else f"{value:,.2f}".rstrip("0").rstrip(".")


def short(value: float | None) -> str:
    """A large number in three digits and a letter: 23.3B."""
    if value is None:
        return "-"
    scale, unit = next(((scale, unit) for scale, unit in _UNITS if abs(value) >= scale), (1.0, ""))
    return f"{value / scale:.3g}{unit}"


def _signed(value: float | None, text: str) -> Text:
    return Text(text, style="" if value is None else "red" if value < 0 else "green")


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def _skew(one: ChainAnalysis) -> Text:
    reversal = one.risk_reversal
    return _signed(reversal, "-" if reversal is None else f"{100 * reversal:+.2f}")


def _first(walls: Sequence[Wall]) -> str:
    return strike(walls[0].strike if walls else None)


def _of_trading_time(one: ChainAnalysis) -> float | None:
    time, iv = one.trading_time, one.atm_iv
    return None if time is None or time.factor is None or iv is None else time.factor * iv


def _dealers(one: ChainAnalysis, exposure: str) -> Text:
    net = getattr(one.second_order, exposure).net if one.second_order else None
    return _signed(net, short(net))


EXPIRY = Column("Expiry", lambda one: one.expiry)
PRICES = (
    Column("Days", lambda one: f"{one.years * 365:.1f}"),
    Column("Forward", lambda one: amount(one.forward.value)),
    Column("by", lambda one: one.forward.source or "-"),
    Column("ATM IV", lambda one: _percent(one.atm_iv)),
    Column("Skew", _skew),
    Column("Straddle", lambda one: amount(one.straddle)),
    Column("1 SD", lambda one: amount(one.expected_move.one_sigma)),
    Column("Var IV", lambda one: _percent(one.variance_swap.volatility)),
)
EXTRAS = {
    "india_vix": Column("India IV", lambda one: _percent(getattr(one.india_vix, "volatility", None))),
    "trading_time": Column("Tr. IV", lambda one: _percent(_of_trading_time(one))),
}
INTEREST = (
    Column("PCR", lambda one: amount(one.pcr)),
    Column("Max pain", lambda one: strike(None if one.max_pain is None else one.max_pain.strike)),
    Column("Support", lambda one: _first(one.walls.support)),
    Column("Resist.", lambda one: _first(one.walls.resistance)),
    Column("GEX", lambda one: _signed(one.gamma_exposure.net, short(one.gamma_exposure.net))),
    Column("Flip", lambda one: amount(one.zero_gamma.price, 0)),
    Column("Call OI", lambda one: short(one.total_call_oi)),
    Column("Put OI", lambda one: short(one.total_put_oi)),
)
SECOND_ORDER = (
    Column("Vanna", lambda one: _dealers(one, "vanna_exposure")),
    Column("Charm", lambda one: _dealers(one, "charm_exposure")),
    Column("Volga", lambda one: _dealers(one, "volga_exposure")),
)


def plot(one: ChainAnalysis, width: int) -> Text:
    """The smile and the open interest of calls and puts over the same strikes."""
    places, per_place = _places(one, width - _LABEL - 2)
    cells = len(places) * per_place
    text = Text().append(f"{visible(one.product)} {one.expiry}", style="bold")
    smile = [_iv(one, middle) for first, last, middle in places]
    known = [iv for iv in smile if iv is not None]
    if known:
        low, high = min(known), max(known)
        floor = low - max((high - low) * 0.15, 0.002)
        heights = [None if iv is None else (iv - floor) / (high - floor) for iv in smile]
        _area(text, heights, per_place, per_place, _ROWS["smile"],
              (f"IV {100 * high:.1f} %", f"{100 * floor:.1f} %"), "cyan")  # fmt: skip
    oi = [_added(side.sent.oi, places) for side in (one.calls, one.puts)]
    most = max((value for column in oi for value in column), default=0.0)
    bar = max(1, per_place - 1)
    for column, name, style in zip(oi, ("calls", "puts"), ("green", "red"), strict=True):
        heights = [value / most if most else 0.0 for value in column]
        _area(text, heights, per_place, bar, _ROWS["oi"], (f"{name} {short(most)}", "OI"), style)
    _axis(text, one, places, per_place, cells)
    return text


Place = tuple[int, int, float]  # the first strike, the one after the last, and the strike in the middle


def _places(one: ChainAnalysis, room: int) -> tuple[list[Place], int]:
    """What stands in each column of the plot: one strike or several, and how many characters it is wide."""
    strikes, centre = one.strikes, one.forward.value or one.spot or 0.0
    sigma = (one.atm_iv or 0.2) * sqrt(max(one.years, 1 / 365))
    reach = max(4.0 * sigma, 0.03)
    inside = [at for at, k in enumerate(strikes) if centre > 0 and k > 0 and abs(log(k / centre)) <= reach]
    first, end = (inside[0], inside[-1] + 1) if len(inside) > 4 else (0, len(strikes))
    count = max(1, -(-(end - first) // max(room, 1)))
    places = []
    for at in range(first, end, count):
        stop = min(at + count, end)
        places.append((at, stop, (strikes[at] + strikes[stop - 1]) / 2))
    return places, max(1, min(room // len(places), 4))


def _iv(one: ChainAnalysis, at: float) -> float | None:
    ahead = one.forward.value
    return volatility(one.smile, log(at / ahead))[0] if ahead and at > 0 else None


def _added(column: Sequence[float | None], places: Sequence[Place]) -> list[float]:
    return [sum(value or 0.0 for value in column[first:end]) for first, end, _ in places]


def _area(
    text: Text,
    heights: Sequence[float | None],
    width: int,
    bar: int,
    rows: int,
    labels: tuple[str, str],
    style: str,
) -> None:
    """Bars of these heights (0 to 1), the top row first, with a label beside the first and the last row."""
    for row in range(rows - 1, -1, -1):
        label = labels[0] if row == rows - 1 else labels[1] if row == 0 else ""
        text.append(f"\n{label:>{_LABEL}} ", style="dim")
        line = []
        for height in heights:
            eighths = 0 if height is None else round(height * rows * 8) - 8 * row
            line.append(_BLOCKS[max(0, min(8, eighths))] * bar + " " * (width - bar))
        text.append("".join(line).rstrip(), style=style)


def _axis(text: Text, one: ChainAnalysis, places: Sequence[Place], width: int, cells: int) -> None:
    """Strikes below the plot, and where spot and max pain stand."""
    pain = None if one.max_pain is None else one.max_pain.strike
    marks = [" "] * cells
    for value, sign in ((pain, "▽"), (one.spot, "▲")):
        if value is not None and places[0][2] <= value <= places[-1][2]:
            place = min(range(len(places)), key=lambda at: abs(places[at][2] - value))
            marks[place * width] = sign
    text.append(f"\n{'':>{_LABEL}} " + "".join(marks).rstrip())
    ends = [strike(places[0][2]), strike(places[-1][2])]
    middle = f"▲ spot {strike(one.spot)}  ▽ max pain {strike(pain)}"
    room = max(cells - len(ends[0]) - len(ends[1]), len(middle) + 2)
    text.append(f"\n{'':>{_LABEL}} {ends[0]}{middle:^{room}}{ends[1]}", style="dim")
