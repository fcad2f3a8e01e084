"""The options of the commands of events: which events are meant, and what is done with them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from enricher.cli.dlq_options import typed
from enricher.cli.options import gathered
from enricher.clock import wall_clock
from enricher.dead_letters.filters import parse_moment
from enricher.events.cli.selection import EVERY, EventFilter
from enricher.events.documents import STATUSES

_moment = typed(lambda text: parse_moment(text, wall_clock()))

_FILTERS = (
    click.option(
        "--status",
        "statuses",
        multiple=True,
        type=click.Choice(STATUSES, case_sensitive=False),
        help="Only with this status.",
    ),
    click.option("--type", "types", multiple=True, metavar="NAME", help="Only of this type."),
    click.option("--text", default="", metavar="TEXT", help="Only with this text in the data (any case)."),
    click.option("--error", default="", metavar="TEXT", help="Only with this text in the error (any case)."),
    click.option(
        "--since",
        "since_us",
        type=_moment,
        metavar="WHEN",
        help="Only those accepted since then: ISO 8601, or 2h for 2 hours ago.",
    ),
    click.option("--until", "until_us", type=_moment, metavar="WHEN", help="Only those accepted until then."),
)
filters = gathered("wanted", EventFilter, *_FILTERS)


@dataclass(frozen=True, slots=True)
class Meant:
    """Which events: those of ``names``, else all that ``wanted`` lets through."""

    names: tuple[str, ...]
    wanted: EventFilter


def _meant(*, names: tuple[str, ...], every: bool, **wanted: Any) -> Meant:
    meant = Meant(names, EventFilter(**wanted))
    if names and meant.wanted != EVERY:
        raise click.UsageError("give ids or filters, not both")
    if not names and meant.wanted == EVERY and not every:
        raise click.UsageError("say which events: their ids, filters, or --all")
    return meant


meant_option = gathered(
    "meant",
    _meant,
    click.argument("names", nargs=-1, metavar="[ID]..."),
    *_FILTERS,
    click.option("--all", "every", is_flag=True, help="All of them, without a filter."),
)


@dataclass(frozen=True, slots=True)
class Manner:
    """How many events are acted on: at most ``limit``, ``rate`` a second; with ``asks`` somebody is asked."""

    rate: float | None = None
    limit: int | None = None
    dry_run: bool = False
    asks: bool = True
    json: bool = False


def _manner(*, yes: bool, **others: Any) -> Manner:
    return Manner(asks=not yes, **others)


json_option = click.option("--json", "json", is_flag=True, help="One JSON object a line.")
rate_option = click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="At most this many a second."
)
manner_option = gathered(
    "manner",
    _manner,
    rate_option,
    click.option("--limit", type=click.IntRange(min=1), help="At most this many."),
    click.option("--dry-run", is_flag=True, help="Show which events are meant, and change nothing."),
    click.option("--yes", "-y", is_flag=True, help="Do not ask."),
    json_option,
)
