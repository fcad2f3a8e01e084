"""``enricher dlq``: list, show, reprocess and discard dead letters."""

from __future__ import annotations

import copy
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click
import msgspec

from enricher.cli import logs
from enricher.cli.dlq_options import (
    as_json_option,
    dry_run_option,
    every_option,
    filters,
    placed,
    quiet_option,
    tried_again,
)
from enricher.cli.dlq_reprocess import How, Letters, Place, opened, reprocessing
from enricher.cli.dlq_tables import as_json, details, said, say_report, show_table, summary, would
from enricher.cli.main import FAILED
from enricher.cli.options import SettingsOptions, settings_options
from enricher.cli.until import EverySecond, say, talking_to, terminal_out, until_signal
from enricher.config import Settings
from enricher.dead_letters.bulk import RateLimit, Report, work_through
from enricher.dead_letters.filters import EVERY, LetterFilter
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.replay import Outcome
from enricher.dead_letters.selection import Chosen
from enricher.dead_letters.store import UnknownLetter

EXAMPLES = """\b
Examples:
  enricher dlq list --since 2h --topic 'market:*'
  enricher dlq peek                              the newest, whole
  enricher dlq reprocess --error 'ahead of the clock' --dry-run
  enricher dlq reprocess 3f2a9c71 --edit price=21500.5
  enricher dlq reprocess --all --rate 100 --stop-share 20% --stop-last 50
  enricher dlq reprocess --key email_ingestion_dlq --all --to email_ingestion_stream --as-fields
  enricher dlq discard --stage decode --until 2025-10-14 --yes

LETTERS are positions (0 is the newest) or task ids, or the start of one. Filters are combined.
"""


def with_letters(settings: Settings, place: Place, work: Callable[[Letters], Awaitable[None]]) -> None:
    """Run ``work`` on the dead letters, until a signal; the log goes to standard error.

    Raises click.UsageError for a letter that is not there.
    """
    level: Any = settings.log.level if "log.level" in settings.origins else "error"
    logs.configure(
        msgspec.structs.replace(settings.log, level=level), settings.service.name, sys.stderr.buffer
    )

    async def main() -> None:
        async with opened(settings, place) as letters:
            await work(letters)

    with talking_to(settings.dead_letters.url or settings.redis.url):
        try:
            until_signal(main)
        except UnknownLetter as error:
            raise click.UsageError(str(error)) from error


def some_choice(names: Sequence[str], wanted: LetterFilter, every: bool) -> None:
    """Raise click.UsageError unless it was said which letters are meant."""
    if not names and wanted == EVERY and not every:
        raise click.UsageError("say which dead letters: their ids or positions, filters, or --all")


@click.group(epilog=EXAMPLES)
def command() -> None:
    """List, show, reprocess and discard dead letters, in a list or in a stream."""


@command.command("list")
@placed
@filters
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@as_json_option
@settings_options
def list_letters(
    options: SettingsOptions, place: Place, wanted: LetterFilter, limit: int, json: bool
) -> None:
    """List dead letters, newest first, with their positions."""

    async def work(letters: Letters) -> None:
        found = await letters.store.peek(limit, wanted)
        if json:
            for letter in found:
                click.echo(as_json(letter))
            return
        show_table(found)
        total = await letters.store.count()
        if len(found) < total:
            say(f"{len(found):,} of {total:,} dead letters shown")

    with_letters(options.load(), place, work)


@command.command("peek")
@placed
@filters
@click.option(
    "-n", "--limit", type=click.IntRange(min=1), default=1, show_default=True, help="At most so many."
)
@as_json_option
@settings_options
def peek(options: SettingsOptions, place: Place, wanted: LetterFilter, limit: int, json: bool) -> None:
    """Show the newest dead letters whole; they stay."""

    async def work(letters: Letters) -> None:
        found = await letters.store.peek(limit, wanted)
        click.echo(("\n" if json else "\n\n").join(map(as_json if json else details, found)), nl=bool(found))
        if not found:
            say("no dead letters" if wanted == EVERY else "no such dead letters")

    with_letters(options.load(), place, work)


@command.command("show")
@click.argument("letter")
@placed
@as_json_option
@settings_options
def show(options: SettingsOptions, place: Place, letter: str, json: bool) -> None:
    """Show one dead letter whole: LETTER is its position (0 is the newest) or task id."""

    async def work(letters: Letters) -> None:
        found = await letters.store.get(letter)
        click.echo(as_json(found) if json else details(found))

    with_letters(options.load(), place, work)


@command.command("count")
@placed
@filters
@as_json_option
@settings_options
def count(options: SettingsOptions, place: Place, wanted: LetterFilter, json: bool) -> None:
    """Count dead letters; with --json by topic, stage and type of error."""

    async def work(letters: Letters) -> None:
        evicted = await letters.store.evicted()
        if wanted == EVERY and not json:
            click.echo(f"{await letters.store.count()}")
        else:
            with await letters.chosen((), wanted) as chosen:
                click.echo(summary(chosen.kinds, evicted) if json else f"{len(chosen)}")
        if evicted and not json:
            say(f"{evicted:,} older ones have fallen off the end (dead_letters.max_length)")

    with_letters(options.load(), place, work)


@command.command("discard")
@click.argument("names", nargs=-1, metavar="[LETTERS]...")
@placed
@filters
@every_option
@dry_run_option
@quiet_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@settings_options
def discard(
    options: SettingsOptions,
    place: Place,
    names: tuple[str, ...],
    wanted: LetterFilter,
    every: bool,
    dry_run: bool,
    quiet: bool,
    yes: bool,
    json: bool,
) -> None:
    """Remove dead letters for good."""
    some_choice(names, wanted, every)
    settings = options.load()
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("nobody is there to be asked: give --yes, or --dry-run")

    choices: list[Chosen] = []

    async def choose(letters: Letters) -> None:
        choices.append(await letters.chosen(names, wanted))

    async def remove(letters: Letters) -> None:
        gone, seconds = 0, EverySecond()
        try:
            # From the old end, where every position is still right when its turn comes.
            for letter in chosen.oldest_first():
                removed = await letters.store.remove(letter)
                gone += removed
                if not quiet:
                    click.echo(said(letter, Outcome("discarded" if removed else "gone already"), json))
                if (rate := seconds.rate(gone)) is not None:
                    say(f"{gone:,} of {len(chosen):,} discarded, {rate:,.0f}/s")
        finally:
            say(f"{gone:,} dead letters discarded")

    with_letters(settings, place, choose)
    if not choices:
        return  # a signal came first
    with choices[0] as chosen:
        if dry_run:
            would(chosen, "discarded", quiet, json)
            return
        if len(chosen) and not yes:
            # Asked outside of the loop, where Ctrl-C means no.
            click.confirm(f"Discard {len(chosen):,} dead letters for good?", abort=True)
        with_letters(settings, place, remove)


@command.command("reprocess")
@click.argument("names", nargs=-1, metavar="[LETTERS]...")
@placed
@filters
@every_option
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the newest of them.")
@dry_run_option
@tried_again
@quiet_option
@as_json_option
@settings_options
def reprocess(
    options: SettingsOptions,
    place: Place,
    names: tuple[str, ...],
    wanted: LetterFilter,
    every: bool,
    limit: int | None,
    dry_run: bool,
    how: How,
    pace: RateLimit,
    quiet: bool,
    json: bool,
) -> None:
    """Reprocess dead letters, oldest first.

    An entry goes once its message is processed (or turns out to be a duplicate); one that fails again
    stays, with the new error and the message as it came. The exit code is 1 if any stayed. `auto` asks the
    running worker if one listens, so that its windows and bars see the message; reprocessed here, the
    message is stored, cached and published, but a worker that runs at the same time only learns of it when
    it starts anew. With --to it is appended to a stream, and the entry goes when the group that reads the
    stream has finished it.
    """
    some_choice(names, wanted, every)
    settings, report = options.load(), Report()

    async def work(letters: Letters) -> None:
        nonlocal report
        seconds = EverySecond()

        def told(letter: StoredLetter, outcome: Outcome) -> None:
            if not quiet:
                click.echo(said(letter, outcome, json))
            if (speed := seconds.rate(report.tried)) is not None and (quiet or not terminal_out()):
                say(f"{report.tried:,} of {report.meant:,} tried, {report.gone:,} gone, {speed:,.0f}/s")

        with await letters.chosen(names, wanted, limit) as chosen:
            if dry_run:
                would(chosen, "reprocessed", quiet, json)
                return
            report = Report(meant=len(chosen), kinds=chosen.kinds)
            if not report.meant:
                say_report(report)
                return
            try:
                async with reprocessing(letters, how) as attempt:
                    await work_through(chosen.oldest_first(), attempt, report, pace=pace, told=told)
            finally:
                say_report(report)

    with_letters(settings, place, work)
    click.get_current_context().exit(FAILED if report.gone < report.meant else 0)


# What it was called before.
retry = copy.copy(reprocess)
retry.hidden = True
command.add_command(retry, "retry")
