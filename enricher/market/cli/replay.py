"""``enricher replay``: recordings and files of exchanges, published on the feed's channels."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from redis.exceptions import RedisError

from enricher.adapters.redis.client import redis_client
from enricher.cli.options import SettingsOptions, settings_options
from enricher.cli.output import EverySecond, listed, say, talking_to
from enricher.cli.signals import until_signal
from enricher.clock import render
from enricher.errors import EnricherError
from enricher.market.cli.feed import positive_or_max
from enricher.market.cli.reading import all_records, column, layout_options, parse_date
from enricher.market.feed.publish import Published, redis_publisher, replay
from enricher.market.files import Options


@click.command(
    epilog="""\b
Examples:
  enricher replay today.jsonl                    at the recorded speed
  enricher replay today.jsonl --speed max --dry-run
  enricher replay ticks.csv --product NIFTY --timezone Asia/Kolkata --speed 60
  enricher replay option-chain.json --timezone Asia/Kolkata

Several files are published as one sequence. All files are read before the first message is published:
if one of them has an error, nothing is published.
"""
)
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True, dir_okay=False)
)
@click.option(
    "--speed",
    type=positive_or_max("1, a positive number, or max"),
    metavar="N|max",
    default="1",
    show_default=True,
    help="1 is the recorded speed, 10 is ten times as fast, max as fast as possible.",
)
@layout_options
@click.option("--product", help="The product, where a file names none, or only by its contracts.")
@click.option("--expiry", type=parse_date, metavar="DATE", help="Chains: the expiry, where a file has none.")
@column("product", "by name")
@column("price", "by name, or the first numbers after the time")
@column("tick-id", "by name, else rows are numbered")
@column("volume", "by name")
@click.option("--dry-run", is_flag=True, help="Read and count, publish nothing.")
@settings_options
def command(
    options: SettingsOptions, files: tuple[Path, ...], speed: float, dry_run: bool, explain: bool, **how: Any
) -> None:
    """Publish the messages of FILES: recordings, option chains, ticks.

    What a file is, is told by what is in it (--explain). It may be compressed (gzip, zstd, zip, bzip2, xz).
    Messages keep their own timestamps.
    """
    settings = options.load()
    reading = Options(**how)
    counts, total = count(reading, files, explain)
    if dry_run:
        click.echo(f"Would publish {total:,} messages: {listed(counts)}")
        return
    pace = None if speed == float("inf") else speed
    last = Published()

    async def work() -> None:
        url, timeout = settings.redis.url, settings.redis.socket_timeout
        async with redis_client(url, socket_timeout=timeout) as client:
            publish = redis_publisher(client)
            messages = (record for _, record in all_records(files, reading, warn=False))
            with progress_line(total) as shown:

                def progress(done: Published) -> None:
                    nonlocal last
                    last = done
                    shown(done.total)

                await replay(messages, publish, pace, progress=progress)

    try:
        with talking_to(settings.redis.url):
            until_signal(work)
    except EnricherError as error:
        if isinstance(error.__cause__, RedisError):
            say(f"stopped after {last.total:,} of {total:,} messages")
        raise
    done = f"{last.total:,} of {total:,} messages in {last.seconds:.1f} s"
    click.echo(f"Published {done}: {listed(last.counts)}")


def count(reading: Options, files: tuple[Path, ...], explain: bool) -> tuple[Counter[str], int]:
    """How many messages there are per topic, and in all; says what each file holds."""
    counts: Counter[str] = Counter()
    held: Counter[Path] = Counter(dict.fromkeys(files, 0))
    spans: dict[Path, tuple[int, int]] = {}
    for file, record in all_records(files, reading, explain=explain):
        counts[record.topic] += 1
        held[file] += 1
        spans[file] = spans.get(file, (record.at_us, 0))[0], record.at_us
    for file, number in held.items():
        first_us, last_us = spans.get(file, (0, 0))
        span = f", {render(first_us, False)} to {render(last_us, False)}" if last_us else ""
        say(f"{file}: {number:,} messages{span}" if number else f"{file}: in a chain with another file")
    return counts, counts.total()


@contextmanager
def progress_line(total: int) -> Iterator[Callable[[int], None]]:
    """Progress on standard error, a bar on a terminal, else lines: call what you get with the number done."""
    if not sys.stderr.isatty():
        every = EverySecond()
        yield lambda done: every.report(done, f"of {total:,}")
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.percentage:>3.0f}%", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total)
        yield lambda done: bar.update(task, completed=done)
