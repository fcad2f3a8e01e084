"""``enricher analyse``: what the option chains of files say, expiry by expiry, without any server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec
from msgspec.json import Encoder

from enricher.analytics import ChainAnalysis, analyse
from enricher.cli.options import SettingsOptions, settings_options
from enricher.cli.output import say, visible
from enricher.clock import Zones
from enricher.config import Settings
from enricher.errors import EnricherError
from enricher.market.cli.reading import all_records, layout_options, parse_date
from enricher.market.feed.channels import OPTION_CHAIN
from enricher.market.files import Options, recognise
from enricher.market.products import Contracts
from enricher.market.settings import MarketSettings
from enricher.messages.models import peek_product, peek_series

_NO_FIELDS = frozenset({"chain", "quotes"})  # what was read, in other words
_HEADLINE = ("straddle", "atm_iv", "risk_reversal", "skew")


@click.command(
    epilog="""\b
Examples:
  enricher analyse option-chain.json
  enricher analyse today.jsonl --product NIFTY --expiry 2025-10-30
  enricher analyse option-chain.json --json | jq '.[0].atm_iv'

For each product and expiry, only the newest chain of all files counts. Rates, lots and hours are those of the
product ([market.products.NAME] in config.toml). Times without an offset are read in the zone of the product,
those of a recording in feed.timezone.
"""
)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option("--json", "as_json", is_flag=True, help="Everything as JSON, unrounded, one object per expiry.")
@click.option(
    "--expiry", "expiries", multiple=True, type=parse_date, metavar="DATE",
    help="Only this expiry (YYYY-MM-DD), with its plot. May be given several times.",
)  # fmt: skip
@click.option("--product", "products", multiple=True, help="Only this product. May be given several times.")
@layout_options
@settings_options
def command(
    options: SettingsOptions,
    files: tuple[Path, ...],
    as_json: bool,
    expiries: tuple[str, ...],
    products: tuple[str, ...],
    explain: bool,
    **how: Any,
) -> None:
    """Analyse the option chains in FILES: forward, volatility, skew, open interest, exposures.

    Reads what `replay` reads. Where a file names no product or no expiry, the one that is asked for counts.
    Needs no server.
    """
    settings = options.load(find_servers=False)
    one_product, one_expiry = (names[0] if len(names) == 1 else None for names in (products, expiries))
    reading = Options(**how, product=one_product, expiry=one_expiry)
    analyses = analysed(files, reading, settings, products, explain)
    known = sorted({one.expiry for one in analyses})
    if expiries:
        analyses = [one for one in analyses if one.expiry in expiries]
        if unknown := sorted({*expiries} - {*known}):
            raise EnricherError(f"no chain of the expiry {', '.join(unknown)}; there is {', '.join(known)}")
    if as_json:
        sys.stdout.buffer.write(_ENCODER.encode([as_data(one) for one in analyses]) + b"\n")
        return
    from enricher.market.cli.analyse_view import show

    show(analyses, plot_all=bool(expiries))


def analysed(
    files: tuple[Path, ...], reading: Options, settings: Settings, products: tuple[str, ...], explain: bool
) -> list[ChainAnalysis]:
    """The analysis of the newest chain of each product and expiry, by product and expiry.

    EnricherError where no file has a chain of these products. A chain that cannot be read is left out with a
    warning.
    """
    section = settings.routes.get("market")
    market = section if isinstance(section, MarketSettings) else MarketSettings()
    contracts = Contracts(market.products, market.names)
    zones = Zones(settings.feed.timezone, market.timezones)
    topics = {OPTION_CHAIN, market.channels.option_chain}
    wanted = {name.upper() for name in products}
    analyses: list[ChainAnalysis] = []
    names: set[str] = set()
    for body, recorded in newest(files, reading, topics, explain):
        product = peek_product(body) or ""
        shown = visible(product) or "a product without a name"
        names.add(shown)
        if wanted and product.upper() not in wanted:
            continue
        # A recording has the times of the feed; the file of an exchange those of its own clocks.
        zone = reading.zone or (zones.of(product) if recorded else None)
        try:
            analyses.append(
                analyse(
                    body,
                    contract=contracts.of(product),
                    max_age=market.price_max_age,
                    zone=None if zone is None else zone.key,
                    extras=market.extras,
                )
            )
        except ValueError as error:
            say(f"Warning: a chain of {shown} was left out: {visible(str(error))}")
    if not analyses and wanted and names:
        raise EnricherError(f"no chain of {', '.join(products)}; there is {', '.join(sorted(names))}")
    if not analyses:
        raise EnricherError(f"no option chain found in {', '.join(map(str, files))}")
    return sorted(analyses, key=lambda one: (one.product, one.expiry))


def newest(
    files: tuple[Path, ...], reading: Options, topics: set[str], explain: bool
) -> list[tuple[bytes, bool]]:
    """The newest chain of each product and expiry in these files, and whether it is of a recording."""
    latest: dict[str, tuple[int, bytes, bool]] = {}
    unread = 0
    holds = {file: recognise(file, reading).holds for file in files}
    if "ticks" in holds.values():
        ticks = next(file for file in files if holds[file] == "ticks")
        raise EnricherError(f"{ticks}: these are ticks; expected option chains or a recording")
    for file, record in all_records(files, reading, explain=explain):
        if record.topic not in topics:
            continue
        try:
            series = peek_series(record.body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            unread += 1
            continue
        if series not in latest or record.at_us >= latest[series][0]:
            latest[series] = record.at_us, record.body, holds[file] == "messages"
    if unread:
        say(f"Warning: {unread:,} messages on the channel of chains are not chains, and were left out")
    return [(body, recorded) for _, body, recorded in latest.values()]


def as_data(one: ChainAnalysis) -> dict[str, Any]:
    """An analysis as plain data, its headline numbers first."""
    names = [name for name in one.__struct_fields__ if name not in _NO_FIELDS]
    first = [name for name in ("product", "expiry", "at", "spot") if name in names]
    return {name: getattr(one, name) for name in [*first, *_HEADLINE, *(n for n in names if n not in first)]}


_ENCODER = Encoder(enc_hook=sorted)  # the places in a side that are stale, a frozen set
