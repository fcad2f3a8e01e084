"""The options of ``enricher dlq``: where the dead letters are, which are meant, and how they are retried."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import click

from enricher.cli.dlq_retry import AUTO, HERE, WORKER, How, Place
from enricher.cli.options import duration_option, gathered, typed
from enricher.clock import wall_clock
from enricher.dead_letters.bulk import RateLimit, StopRule
from enricher.dead_letters.edits import Edit, parse_assignment
from enricher.dead_letters.filters import EVERY, LetterFilter, parse_field, parse_moment

STAGES = ("receive", "decode", "enrich", "fold", "commit", "poison")


def _regular_expression(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"{text!r}: {error}") from None
    return text


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"{text!r} is no share; expected one such as 50% or 0.5")
    return share


@dataclass(frozen=True, slots=True)
class Meant:
    """Which dead letters: those of ``names``, else all, that ``wanted`` lets through."""

    names: tuple[str, ...]
    wanted: LetterFilter


def _meant(*, names: tuple[str, ...], every: bool, **wanted: Any) -> Meant:
    meant = Meant(names, LetterFilter(**wanted))
    if not names and meant.wanted == EVERY and not every:
        raise click.UsageError("say which dead letters: their ids or positions, filters, or --all")
    return meant


def _how(
    *,
    no_wait: bool,
    as_fields: bool,
    edits: tuple[tuple[str, str], ...],
    drops: tuple[str, ...],
    at_once: int,
    stop_share: float,
    stop_last: int,
    rate: float | None = None,
    **others: Any,
) -> How:
    if not others["to"] and (others["group"] or no_wait or as_fields):
        raise click.UsageError("--group, --no-wait and --as-fields go with --to STREAM, which is missing")
    stop = StopRule(stop_share, stop_last) if stop_last else None
    return How(
        edit=Edit(set=edits, drop=drops),
        rate_limit=RateLimit(rate=rate, at_once=at_once, stop=stop),
        wait=not no_wait,
        fields=as_fields,
        **others,
    )


_moment = typed(lambda text: parse_moment(text, wall_clock()))
_LAST_TRIED = "Only last tried {} then: ISO 8601, or 2h for 2 hours ago."

placed = gathered(
    "place",
    Place,
    click.option("--key", default="", help="Key of the dead letters [default: dead_letters.key]."),
    click.option(
        "--store", type=click.Choice(["list", "stream"]), help="What they are kept in [default: detected]."
    ),
)
_FILTERS = (
    click.option("--error", default="", metavar="TEXT", help="Only with this text in the error (any case)."),
    click.option(
        "--matching",
        "pattern",
        default="",
        type=typed(_regular_expression),
        metavar="REGEX",
        help="Only with an error that matches this.",
    ),
    click.option("--topic", default="", help="Only of this topic, or pattern such as 'market:*'."),
    click.option("--stage", type=click.Choice(STAGES), help="Only failed at this stage."),
    click.option("--since", "since_us", type=_moment, metavar="WHEN", help=_LAST_TRIED.format("since")),
    click.option("--until", "until_us", type=_moment, metavar="WHEN", help=_LAST_TRIED.format("until")),
    click.option(
        "--field",
        "fields",
        type=typed(parse_field),
        multiple=True,
        metavar="FIELD=VALUE",
        help="Only with this field in the message (or dead letter): product=NIFTY, calls.0.strike=21500"
        " or error_type='Value*'; may be given several times.",
    ),
)
filters = gathered("wanted", LetterFilter, *_FILTERS)
meant_option = gathered(
    "meant",
    _meant,
    click.argument("names", nargs=-1, metavar="[LETTERS]..."),
    *_FILTERS,
    click.option("--all", "every", is_flag=True, help="All dead letters, without a filter."),
)
retried = gathered(
    "how",
    _how,
    click.option(
        "--via",
        type=click.Choice([AUTO, WORKER, HERE]),
        default=AUTO,
        show_default=True,
        help="Who retries: the running worker, or this process.",
    ),
    click.option("--to", default="", metavar="STREAM", help="Retry by sending to this stream."),
    click.option("--group", default="", help="With --to: the group to wait for [default: the only one]."),
    click.option("--no-wait", is_flag=True, help="With --to: do not wait until it is processed."),
    click.option(
        "--as-fields", is_flag=True, help="With --to: write the message as fields of its own, as mails are."
    ),
    click.option(
        "--edit",
        "edits",
        type=typed(parse_assignment),
        multiple=True,
        metavar="FIELD=VALUE",
        help="Change a field of the message first: price=21500.5, calls.0.strike=21500, product=NIFTY."
        " VALUE is JSON, or else text.",
    ),
    click.option("--drop", "drops", multiple=True, metavar="FIELD", help="Remove a field first."),
    click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most this many a second."),
    click.option(
        "--at-once",
        type=click.IntRange(1, 64),
        default=8,
        show_default=True,
        help="How many at the same time.",
    ),
    click.option(
        "--stop-share",
        type=typed(_share),
        metavar="SHARE",
        default="50%",
        show_default=True,
        help="Stop when this share has failed again ...",
    ),
    click.option(
        "--stop-last",
        type=click.IntRange(min=0),
        default=20,
        show_default=True,
        help="... of the last ones, this many; 0 never stops.",
    ),
    duration_option("--timeout", default="30s", help="How long one dead letter may take."),
)
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Show which dead letters are meant, and change nothing."
)
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print no line per dead letter.")
