"""The options of the commands of events: which events are meant, and what is done with them."""

from __future__ import annotations

import click

from enricher.cli import bulk
from enricher.cli.options import gathered, typed
from enricher.clock import wall_clock
from enricher.dead_letters.filters import parse_moment
from enricher.events.cli.selection import EventFilter
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
meant_option = bulk.meant_option("events", EventFilter, *_FILTERS)
manner_option = bulk.manner_option("events")
