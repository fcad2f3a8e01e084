"""``enricher dlq``: list, show, reprocess and discard dead letters."""

from __future__ import annotations

import functools
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import click
import msgspec

from enricher.cli import logs
from enricher.cli.letters import as_json, details, show_table, summary
from enricher.cli.main import FAILED
from enricher.cli.options import SettingsOptions, duration, settings_options
from enricher.cli.reprocess import AUTO, HERE, WORKER, Letters, opened, reprocessing
from enricher.cli.until import say, talking_to, until_signal
from enricher.config import Settings, redact_text
from enricher.deadletters.filters import EVERY, LetterFilter, parse_moment
from enricher.deadletters.record import StoredLetter
from enricher.deadletters.replay import Outcome

STAGES = ("receive", "decode", "enrich", "fold", "commit", "poison")

EXAMPLES = """\b
Examples:
  enricher dlq list --since 2h --topic 'market:*'
  enricher dlq show 0                            the newest
  enricher dlq retry --error 'ahead of the clock' --dry-run
  enricher dlq retry 3f2a9c71
  enricher dlq discard --stage decode --until 2025-10-14 --yes

LETTERS are positions (0 is the newest) or task ids, or the start of one. Filters are combined.
"""


def with_letters(settings: Settings, work: Callable[[Letters], Awaitable[None]]) -> None:
    """Run ``work`` on the dead letters, until a signal; the log goes to standard error."""
    level: Any = settings.log.level if "log.level" in settings.origins else "error"
    logs.configure(
        msgspec.structs.replace(settings.log, level=level), settings.service.name, sys.stderr.buffer
    )

    async def main() -> None:
        async with opened(settings) as letters:
            await work(letters)

    with talking_to(settings.dead_letters.url or settings.redis.url):
        until_signal(main)


def moment(text: str | int) -> int:
    """The type of an option: ISO 8601, or a while ago, as microseconds since 1970 UTC."""
    try:
        return text if isinstance(text, int) else parse_moment(text, time.time_ns() // 1000)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def regular_expression(text: str) -> str:
    """The type of an option: a regular expression that compiles."""
    import re

    try:
        re.compile(text)
    except re.error as error:
        raise click.BadParameter(f"{text!r}: {error}") from None
    return text


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
    @functools.wraps(command)
    def filtered(
        *args: Any,
        error: str,
        matching: str,
        topic: str,
        stage: str | None,
        since: int | None,
        until: int | None,
        **kwargs: Any,
    ) -> Any:
        wanted = LetterFilter(
            error=error, pattern=matching, topic=topic, stage=stage or "", since_us=since, until_us=until
        )
        return command(*args, wanted=wanted, **kwargs)

    return filtered


as_json_option = click.option("--json", "json", is_flag=True, help="One JSON object a line.")
dry_run_option = click.option("--dry-run", is_flag=True, help="Say which letters are meant, do nothing.")
every_option = click.option("--all", "every", is_flag=True, help="All letters, without any filter.")


def some_choice(names: Sequence[str], wanted: LetterFilter, every: bool) -> None:
    """Raise click.UsageError unless it was said which letters are meant."""
    if not names and wanted == EVERY and not every:
        raise click.UsageError("say which dead letters: their ids or positions, filters, or --all")


@click.group(epilog=EXAMPLES)
def command() -> None:
    """List, show, reprocess and discard dead letters."""


@command.command("list")
@filters
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most so many.")
@as_json_option
@settings_options
def list_letters(options: SettingsOptions, wanted: LetterFilter, limit: int, json: bool) -> None:
    """List dead letters, newest first, with their positions."""

    async def work(letters: Letters) -> None:
        found = await letters.chosen((), wanted, limit)
        if json:
            for letter in found:
                click.echo(as_json(letter))
            return
        show_table(found)
        total = await letters.store.count()
        if len(found) < total:
            say(f"{len(found):,} of {total:,} dead letters shown")

    with_letters(options.load(), work)


@command.command("show")
@click.argument("letter")
@as_json_option
@settings_options
def show(options: SettingsOptions, letter: str, json: bool) -> None:
    """Show one dead letter whole: LETTER is its position (0 is the newest) or task id."""

    async def work(letters: Letters) -> None:
        found = await letters.store.get(letter)
        click.echo(as_json(found) if json else details(found))

    with_letters(options.load(), work)


@command.command("count")
@filters
@as_json_option
@settings_options
def count(options: SettingsOptions, wanted: LetterFilter, json: bool) -> None:
    """Count dead letters, by topic and stage."""

    async def work(letters: Letters) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        if wanted == EVERY and not json:
            click.echo(f"{await letters.store.count()}")
            return
        async for letter in letters.store.letters():
            if wanted.matches(letter):
                counts[letter.topic or "", letter.stage] += 1
        click.echo(summary(counts) if json else f"{counts.total()}")

    with_letters(options.load(), work)


@command.command("discard")
@click.argument("names", nargs=-1, metavar="[LETTERS]...")
@filters
@every_option
@dry_run_option
@click.option("--yes", is_flag=True, help="Do not ask.")
@as_json_option
@settings_options
def discard(
    options: SettingsOptions,
    names: tuple[str, ...],
    wanted: LetterFilter,
    every: bool,
    dry_run: bool,
    yes: bool,
    json: bool,
) -> None:
    """Remove dead letters for good."""
    some_choice(names, wanted, every)
    settings = options.load()
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("nobody is there to be asked: give --yes, or --dry-run")

    found: list[StoredLetter] = []

    async def choose(letters: Letters) -> None:
        found.extend(await letters.chosen(names, wanted))

    async def remove(letters: Letters) -> None:
        gone = 0
        for letter in found:
            removed = await letters.store.remove(letter)
            gone += removed
            click.echo(said(letter, Outcome("discarded" if removed else "gone already"), json))
        say(f"{gone:,} dead letters discarded")

    with_letters(settings, choose)
    if dry_run:
        for letter in found:
            click.echo(said(letter, Outcome("would be discarded"), json))
        say(f"{len(found):,} dead letters would be discarded")
        return
    if found and not yes:
        # Asked outside of the loop, where Ctrl-C means no.
        click.confirm(f"Discard {len(found):,} dead letters for good?", abort=True)
    with_letters(settings, remove)


@command.command("retry")
@click.argument("names", nargs=-1, metavar="[LETTERS]...")
@filters
@every_option
@click.option("--limit", type=click.IntRange(min=1), help="At most so many, the newest of them.")
@dry_run_option
@click.option(
    "--via",
    type=click.Choice([AUTO, WORKER, HERE]),
    default=AUTO,
    show_default=True,
    help="Who reprocesses: the running worker, or this process.",
)
@click.option(
    "--timeout",
    type=duration,
    metavar="DURATION",
    default="30s",
    show_default=True,
    help="How long one letter may take.",
)
@as_json_option
@settings_options
def retry_letters(
    options: SettingsOptions,
    names: tuple[str, ...],
    wanted: LetterFilter,
    every: bool,
    limit: int | None,
    dry_run: bool,
    via: str,
    timeout: float,
    json: bool,
) -> None:
    """Reprocess dead letters, oldest first.

    An entry goes once its message is processed (or turns out to be a duplicate); one that fails again
    stays, with the new error. The exit code is 1 if any stayed. `auto` asks the running worker if one
    listens, so that its windows and bars see the message; reprocessed here, the message is stored, cached
    and published, but a worker that runs at the same time only learns of it when it starts anew.
    """
    some_choice(names, wanted, every)
    settings = options.load()
    stayed: list[str] = []

    async def work(letters: Letters) -> None:
        found = (await letters.chosen(names, wanted, limit))[::-1]
        if dry_run:
            for letter in found:
                click.echo(said(letter, Outcome("would be reprocessed"), json))
            say(f"{len(found):,} dead letters would be reprocessed")
            return
        async with reprocessing(letters, via, timeout) as attempt:
            for letter in found:
                outcome = await attempt(letter)
                click.echo(said(letter, outcome, json))
                if not outcome.done:
                    stayed.append(letter.task_id)
        say(f"{len(found) - len(stayed):,} of {len(found):,} dead letters reprocessed, {len(stayed):,} stay")

    with_letters(settings, work)
    click.get_current_context().exit(FAILED if stayed else 0)


def said(letter: StoredLetter, outcome: Outcome, json: bool) -> str:
    """One line about what became of a letter."""
    if json:
        line = {"task_id": letter.task_id, "topic": letter.topic, "outcome": outcome.label}
        if outcome.error:
            line["error"] = outcome.error
        return msgspec.json.encode(line).decode()
    why = f": {redact_text(outcome.error.splitlines()[0])}" if outcome.error else ""
    return f"{letter.task_id}  {letter.topic or '(no topic)'}  {outcome.label}{why}"
