"""The options of ``enricher dlq``: where the letters are, which of them are meant, and what to do."""

from __future__ import annotations

import functools
import re
import time
from collections.abc import Callable
from typing import Any

import click

from enricher.cli.dlq_reprocess import AUTO, HERE, WORKER, How, Place
from enricher.cli.options import duration
from enricher.dead_letters.bulk import RateLimit, StopRule
from enricher.dead_letters.edits import Edit, parse_assignment
from enricher.dead_letters.filters import FieldFilter, LetterFilter, parse_field, parse_moment

STAGES = ("receive", "decode", "enrich", "fold", "commit", "poison")


def moment(text: str | int) -> int:
    """The type of an option: ISO 8601, or a while ago, as microseconds since 1970 UTC."""
    try:
        return text if isinstance(text, int) else parse_moment(text, time.time_ns() // 1000)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def regular_expression(text: str) -> str:
    """The type of an option: a regular expression that compiles."""
    try:
        re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"{text!r}: {error}") from None
    return text


def field(text: str | FieldFilter) -> FieldFilter:
    """The type of an option: FIELD=VALUE as a filter."""
    try:
        return text if isinstance(text, FieldFilter) else parse_field(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def assignment(text: str | tuple[str, str]) -> tuple[str, str]:
    """The type of an option: FIELD=VALUE as a pair."""
    try:
        return text if isinstance(text, tuple) else parse_assignment(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def share(text: str | float) -> float:
    """The type of an option: ``50%`` or ``0.5`` as 0.5; above 0, at most 1."""
    if isinstance(text, float):
        return text
    try:
        found = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        found = 0.0
    if not 0 < found <= 1:
        raise click.BadParameter(f"{text!r} is no share; expected one such as 50% or 0.5")
    return found


def placed(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a subcommand the options that say where the letters are; it gets a `Place` as ``place``."""

    @click.option("--key", default="", help="Key of the letters [default: dead_letters.key].")
    @click.option(
        "--store", type=click.Choice(["list", "stream"]), help="What they are kept in [default: look]."
    )
    @functools.wraps(command)
    def with_place(*args: Any, key: str, store: str | None, **kwargs: Any) -> Any:
        return command(*args, place=Place(key, store or ""), **kwargs)

    return with_place


def filters(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a subcommand the filter options; it gets a `LetterFilter` as ``wanted``."""

    @click.option("--error", default="", metavar="TEXT", help="Whose error contains this, in any case.")
    @click.option(
        "--matching", default="", type=regular_expression, metavar="REGEX", help="Whose error matches this."
    )
    @click.option("--topic", default="", help="Of this topic; may be a pattern such as 'market:*'.")
    @click.option("--stage", type=click.Choice(STAGES), help="That failed at this stage.")
    @click.option("--since", type=moment, metavar="WHEN", help="Last tried since: ISO 8601, or 2h (ago).")
    @click.option("--until", type=moment, metavar="WHEN", help="Last tried until: ISO 8601, or 2h (ago).")
    @click.option(
        "--field",
        "wanted_fields",
        type=field,
        multiple=True,
        metavar="FIELD=VALUE",
        help="Whose message (else whose letter) has this field, such as product=NIFTY, calls.0.strike=21500"
        " or error_type='Value*'; may be given several times.",
    )
    @functools.wraps(command)
    def filtered(
        *args: Any,
        error: str,
        matching: str,
        topic: str,
        stage: str | None,
        since: int | None,
        until: int | None,
        wanted_fields: tuple[FieldFilter, ...],
        **kwargs: Any,
    ) -> Any:
        wanted = LetterFilter(
            error=error,
            pattern=matching,
            topic=topic,
            stage=stage or "",
            since_us=since,
            until_us=until,
            fields=tuple(wanted_fields),
        )
        return command(*args, wanted=wanted, **kwargs)

    return filtered


def tried_again(command: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a subcommand the options of reprocessing: a `How` as ``how``, a `RateLimit` as ``pace``."""

    @click.option(
        "--via",
        type=click.Choice([AUTO, WORKER, HERE]),
        default=AUTO,
        show_default=True,
        help="Who reprocesses: the running worker, or this process.",
    )
    @click.option("--to", default="", metavar="STREAM", help="Whoever reads this stream reprocesses.")
    @click.option("--group", default="", help="With --to: the group that answers [default: the only one].")
    @click.option("--no-wait", is_flag=True, help="With --to: it is enough that the message is there.")
    @click.option(
        "--as-fields", is_flag=True, help="With --to: the entry has the message's own fields, as mails do."
    )
    @click.option(
        "--edit",
        "edits",
        type=assignment,
        multiple=True,
        metavar="FIELD=VALUE",
        help="Set a field of the message first: price=21500.5, calls.0.strike=21500, product=NIFTY."
        " VALUE is JSON, or else text.",
    )
    @click.option("--drop", "drops", multiple=True, metavar="FIELD", help="Take out a field first.")
    @click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="At most so many a second.")
    @click.option(
        "--at-once", type=click.IntRange(1, 64), default=8, show_default=True, help="So many under way."
    )
    @click.option(
        "--stop-share", type=share,
        metavar="SHARE",
        default="50%",
        show_default=True,
        help="Stop when this share failed again ...",
    )
    @click.option(
        "--stop-last",
        type=click.IntRange(min=0),
        default=20,
        show_default=True,
        help="... of so many last ones; 0 never stops.",
    )
    @click.option(
        "--timeout",
        type=duration,
        metavar="DURATION",
        default="30s",
        show_default=True,
        help="How long one letter may take.",
    )
    @functools.wraps(command)
    def with_how(
        *args: Any,
        via: str,
        to: str,
        group: str,
        no_wait: bool,
        as_fields: bool,
        edits: tuple[tuple[str, str], ...],
        drops: tuple[str, ...],
        rate: float | None,
        at_once: int,
        stop_share: float,
        stop_last: int,
        timeout: float,
        **kwargs: Any,
    ) -> Any:
        if not to and (group or no_wait or as_fields):
            raise click.UsageError("--group, --no-wait and --as-fields go with --to STREAM, which is missing")
        edit = Edit(set=tuple(edits), drop=tuple(drops))
        how = How(via, timeout, edit, to, group, wait=not no_wait, fields=as_fields)
        rule = StopRule(stop_share, stop_last) if stop_last else None
        return command(*args, how=how, pace=RateLimit(rate=rate, at_once=at_once, stop=rule), **kwargs)

    return with_how


as_json_option = click.option("--json", "json", is_flag=True, help="One JSON object a line.")
dry_run_option = click.option(
    "--dry-run", is_flag=True, help="Say which letters are meant, and how many of which kind; do nothing."
)
every_option = click.option("--all", "every", is_flag=True, help="All letters, without any filter.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="No line for each letter.")
