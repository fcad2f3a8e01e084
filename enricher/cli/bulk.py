"""Commands that act on one or many: which are meant, in what manner, and what became of each."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import anyio
import click

from enricher.cli.options import Command, gathered, json_option
from enricher.cli.output import say

Item = TypeVar("Item")
Filter = TypeVar("Filter")


@dataclass(frozen=True, slots=True)
class Meant(Generic[Filter]):
    """Which ones: those of ``names``, else all that ``wanted`` lets through."""

    names: tuple[str, ...]
    wanted: Filter


@dataclass(frozen=True, slots=True)
class Manner:
    """How many are acted on: at most ``limit``, ``rate`` a second; without ``asks`` nobody is asked."""

    rate: float | None = None
    limit: int | None = None
    dry_run: bool = False
    asks: bool = True
    quiet: bool = False
    json: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one: ``label`` for people; ``done`` where it was what was wanted."""

    label: str
    done: bool

    def __str__(self) -> str:
        """The label, red where it is not done."""
        return self.label if self.done else click.style(self.label, fg="red")


def meant_option(
    things: str, make: Callable[..., Filter], *filters: Callable[[Command], Command]
) -> Callable[[Command], Command]:
    """Gives a command ids, ``filters`` and ``--all`` as its argument ``meant``; ``make`` makes the filter."""

    def meant(*, names: tuple[str, ...], every: bool, **wanted: Any) -> Meant[Filter]:
        found, anything = Meant(names, make(**wanted)), make()
        if names and found.wanted != anything:
            raise click.UsageError("give ids or filters, not both")
        if not names and found.wanted == anything and not every:
            raise click.UsageError(f"say which {things}: their ids, filters, or --all")
        return found

    ids = click.argument("names", nargs=-1, metavar="[ID]...")
    every = click.option("--all", "every", is_flag=True, help="All of them, without a filter.")
    return gathered("meant", meant, ids, *filters, every)


rate_option = click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), help="At most this many a second."
)


def manner_option(things: str, *more: Callable[[Command], Command]) -> Callable[[Command], Command]:
    """Gives a command the options of `Manner` as its argument ``manner``."""

    def manner(*, yes: bool, **others: Any) -> Manner:
        return Manner(asks=not yes, **others)

    return gathered(
        "manner",
        manner,
        rate_option,
        click.option("--limit", type=click.IntRange(min=1), help="At most this many."),
        click.option("--dry-run", is_flag=True, help=f"Show which {things} are meant, and change nothing."),
        click.option("--yes", "-y", is_flag=True, help="Do not ask."),
        *more,
        json_option,
    )


def ask(question: str, kinds: Iterable[str], *, always: bool) -> None:
    """Show what is meant and ask; without a terminal, refuse where somebody must be asked ``always``.

    Outside of a loop, where Ctrl-C means no. Raises Abort or UsageError.
    """
    if sys.stdin.isatty():
        for kind in kinds:
            say(kind)
        click.confirm(question, abort=True)
    elif always:
        raise click.UsageError("there is no terminal to ask on: give --yes, or --dry-run")


async def paced(items: Sequence[Item], rate: float | None) -> AsyncIterator[Item]:
    """The items, at most ``rate`` of them a second."""
    began = anyio.current_time()
    for number, item in enumerate(items):
        if rate is not None:
            await anyio.sleep_until(began + number / rate)
        yield item
