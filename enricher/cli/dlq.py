"""``enricher dlq``: list, show, retry and discard dead letters."""

from __future__ import annotations

import copy
import functools
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import click

from enricher.cli import logs
from enricher.cli.dlq_options import (
    Meant,
    dry_run_option,
    filters,
    meant_option,
    placed,
    quiet_option,
    retried,
)
from enricher.cli.dlq_retry import How, Letters, Place, attempts, opened
from enricher.cli.dlq_tables import (
    as_json,
    details,
    outcome_line,
    say_report,
    show_selection,
    show_table,
    summary,
)
from enricher.cli.main import FAILED
from enricher.cli.options import SettingsOptions, json_option, settings_options
from enricher.cli.output import EverySecond, say, talking_to
from enricher.cli.signals import until_signal
from enricher.config import Settings
from enricher.dead_letters.bulk import Report, attempt_each
from enricher.dead_letters.filters import EVERY, LetterFilter
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.replay import Outcome
from enricher.dead_letters.selection import Selection
from enricher.dead_letters.store import UnknownLetter

EXAMPLES = """\b
Examples:
  enricher dlq list --since 2h --topic 'market:*'
  enricher dlq peek                              the newest, whole
  enricher dlq retry --error 'ahead of the clock' --dry-run
  enricher dlq retry 3f2a9c71 --edit price=21500.5
  enricher dlq retry --all --rate 100 --stop-share 20% --stop-last 50
  enricher dlq retry --all --key email_ingestion_dlq \\
      --to email_ingestion_stream --as-fields
  enricher dlq discard --stage decode --until 2025-10-14 --yes

LETTERS are positions (0 is the newest) or task ids, or the start of one. Filters are combined.
"""


def with_letters(settings: Settings, place: Place, work: Callable[[Letters], Awaitable[None]]) -> None:
    """Run ``work`` on the dead letters, until a signal; the log goes to standard error.

    Raises click.UsageError for a letter that is not there.
    """
    logs.configure_aside(settings)

    async def main() -> None:
        async with opened(settings, place) as letters:
            await work(letters)

    with talking_to(settings.dead_letters.url or settings.redis.url):
        try:
            until_signal(main)
        except UnknownLetter as error:
            raise click.UsageError(str(error)) from error


def looking(show: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Makes a subcommand of what looks at dead letters; it gets them as its first argument."""

    def look(options: SettingsOptions, place: Place, **kwargs: Any) -> None:
        with_letters(options.load(), place, lambda letters: show(letters, **kwargs))

    named: Any = functools.update_wrapper(look, show)
    return placed(json_option(settings_options(named)))


@click.group(epilog=EXAMPLES)
def command() -> None:
    """List, show, retry and discard dead letters, in a list or in a stream."""


@command.command("list")
@filters
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most this many.")
@looking
async def list_letters(letters: Letters, wanted: LetterFilter, limit: int, json: bool) -> None:
    """List dead letters, newest first, with their positions."""
    newest = await letters.store.peek(limit, wanted)
    if json:
        for letter in newest:
            click.echo(as_json(letter))
        return
    show_table(newest)
    total = await letters.store.count()
    if len(newest) < total:
        say(f"{len(newest):,} of {total:,} dead letters shown")


@command.command("peek")
@filters
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=1, show_default=True, help="At most this many."
)
@looking
async def peek(letters: Letters, wanted: LetterFilter, limit: int, json: bool) -> None:
    """Show the newest dead letters whole; they stay."""
    newest = await letters.store.peek(limit, wanted)
    click.echo(("\n" if json else "\n\n").join(map(as_json if json else details, newest)), nl=bool(newest))
    if not newest:
        say("no dead letters" if wanted == EVERY else "no such dead letters")


@command.command("show")
@click.argument("letter")
@looking
async def show(letters: Letters, letter: str, json: bool) -> None:
    """Show one dead letter whole: LETTER is its position (0 is the newest) or task id."""
    stored = await letters.store.get(letter)
    click.echo(as_json(stored) if json else details(stored))


@command.command("count")
@filters
@looking
async def count(letters: Letters, wanted: LetterFilter, json: bool) -> None:
    """Count dead letters; with --json by topic, stage and type of error."""
    evicted = await letters.store.evicted()
    if wanted == EVERY and not json:
        click.echo(f"{await letters.store.count()}")
    else:
        with await letters.select((), wanted) as selection:
            click.echo(summary(selection.kinds, evicted) if json else f"{len(selection)}")
    if evicted and not json:
        say(f"{evicted:,} older ones were removed because of dead_letters.max_length")


@command.command("discard")
@meant_option
@placed
@dry_run_option
@quiet_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@settings_options
def discard(
    options: SettingsOptions,
    place: Place,
    meant: Meant,
    dry_run: bool,
    quiet: bool,
    yes: bool,
    json: bool,
) -> None:
    """Remove dead letters for good."""
    settings = options.load()
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("there is no terminal to ask on: give --yes, or --dry-run")

    selections: list[Selection] = []

    async def select(letters: Letters) -> None:
        selections.append(await letters.select(meant.names, meant.wanted))

    async def remove(letters: Letters) -> None:
        gone, seconds = 0, EverySecond()
        try:
            # From the old end, where every position is still right when its turn comes.
            for letter in reversed(selection):
                removed = await letters.store.remove(letter)
                gone += removed
                if not quiet:
                    label = "discarded" if removed else "gone already"
                    click.echo(outcome_line(letter, Outcome(label), json))
                if (rate := seconds.rate(gone)) is not None:
                    say(f"{gone:,} of {len(selection):,} discarded, {rate:,.0f}/s")
        finally:
            say(f"{gone:,} dead letters discarded")

    with_letters(settings, place, select)
    if not selections:
        return  # a signal came first
    with selections[0] as selection:
        if dry_run:
            show_selection(selection, "discarded", quiet, json)
            return
        if len(selection) and not yes:
            # Asked outside of the loop, where Ctrl-C means no.
            click.confirm(f"Discard {len(selection):,} dead letters for good?", abort=True)
        with_letters(settings, place, remove)


@command.command("retry")
@meant_option
@placed
@click.option("--limit", type=click.IntRange(min=1), help="At most this many, the newest.")
@dry_run_option
@retried
@quiet_option
@json_option
@settings_options
def retry(
    options: SettingsOptions,
    place: Place,
    meant: Meant,
    limit: int | None,
    dry_run: bool,
    how: How,
    quiet: bool,
    json: bool,
) -> None:
    """Retry dead letters, oldest first.

    A dead letter is removed when its message has been processed. One that fails again stays, with the new
    error. The exit code is 1 if any stayed. With `auto` the running worker retries, if there is one: its
    windows and bars then see the message. Else this process retries: the message is stored, cached and
    published, and a running worker sees it when it starts again. With --to the message is sent to a stream,
    and the dead letter is removed when the group of that stream has finished it.
    """
    settings, report = options.load(), Report()

    async def work(letters: Letters) -> None:
        nonlocal report
        seconds = EverySecond()

        def on_outcome(letter: StoredLetter, outcome: Outcome) -> None:
            if not quiet:
                click.echo(outcome_line(letter, outcome, json))
            if (speed := seconds.rate(report.tried)) is not None and (quiet or not sys.stdout.isatty()):
                say(f"{report.tried:,} of {report.meant:,} tried, {report.gone:,} gone, {speed:,.0f}/s")

        with await letters.select(meant.names, meant.wanted, limit) as selection:
            if dry_run:
                show_selection(selection, "retried", quiet, json)
                return
            report = Report(meant=len(selection), kinds=selection.kinds)
            try:
                if report.meant:
                    async with attempts(letters, how) as attempt:
                        await attempt_each(reversed(selection), attempt, report, how.rate_limit, on_outcome)
            finally:
                say_report(report)

    with_letters(settings, place, work)
    click.get_current_context().exit(FAILED if report.gone < report.meant else 0)


# What it was called before.
reprocess = copy.copy(retry)
reprocess.hidden = True
command.add_command(reprocess, "reprocess")
