"""``enricher events``: list, show, post, retry, delete and graph."""

from __future__ import annotations

import time

import click

from enricher.cli.bulk import Manner, Meant, rate_option
from enricher.cli.main import FAILED, OK
from enricher.cli.options import SettingsOptions, json_option, settings_options
from enricher.cli.output import say
from enricher.config import Settings
from enricher.errors import WrongSetting
from enricher.events.cli import acting, texts
from enricher.events.cli.opening import Events, with_events
from enricher.events.cli.options import filters, manner_option, meant_option
from enricher.events.cli.posting import NotAccepted, Poster, bodies
from enricher.events.cli.selection import EVERY, EventFilter, as_json
from enricher.events.documents import Document, public
from enricher.events.drawing import as_mermaid, as_text
from enricher.events.pipeline import Pipeline
from enricher.events.registry import PipelineRegistry
from enricher.events.settings import EventSettings

EXAMPLES = """\b
Examples:
  enricher events list
  enricher events list --status FAILURE --type Ticket --since 2h
  enricher events show 3f2a9c71
  enricher events post ticket.json
  enricher events post --lines --rate 50 tickets.jsonl
  enricher events retry --status FAILURE --error Timeout --dry-run
  enricher events delete --status SUCCESS --until 30d --yes
  enricher events graph Ticket --mermaid

\b
ID is an event's id, or the first characters of it. Filters are combined.
"""


@click.group(epilog=EXAMPLES)
def command() -> None:
    """List, show, post, retry and delete events, and draw their pipelines."""


def _settings(options: SettingsOptions) -> Settings:
    """The settings of whoever asks about events: the old names of the servers count."""
    return options.load({"events.enabled": True})


@command.command("list")
@filters
@click.option("--limit", type=click.IntRange(min=1), default=50, show_default=True, help="At most this many.")
@json_option
@settings_options
def list_events(options: SettingsOptions, wanted: EventFilter, limit: int, json: bool) -> None:
    """List events, the newest first."""
    found: list[Document] = []

    async def find(events: Events) -> None:
        async for event in events.matching(wanted):
            if json:
                click.echo(as_json(public(event)))
            found.append(event)
            if len(found) == limit:
                break

    with_events(_settings(options), find)
    if json:
        return
    if found:
        texts.show_table(found)
    elif wanted != EVERY:
        say("No such events. Without filters, enricher events list shows the newest there are.")
    else:
        say("No events yet. Post one:  enricher events post FILE")


@command.command("show")
@click.argument("event", metavar="ID")
@json_option
@settings_options
def show_event(options: SettingsOptions, event: str, json: bool) -> None:
    """Show all of an event: data, what each node made of it, attempts, error, times."""

    async def show(events: Events) -> None:
        found = await events.get(event)
        for line in [as_json(public(found))] if json else texts.details(found):
            click.echo(line)

    with_events(_settings(options), show)


@command.command("post")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--lines", is_flag=True, help="Each line of a file is an event.")
@click.option("--url", default="", help="Of the worker [default: events.listen, else web.listen].")
@click.option("--key", help="The Idempotency-Key: the same event, however often it is posted.")
@rate_option
@settings_options
def post(
    options: SettingsOptions,
    files: tuple[str, ...],
    lines: bool,
    url: str,
    key: str | None,
    rate: float | None,
) -> None:
    """Post events to a worker, and print their ids once they are stored. The file - is standard input.

    A worker that is busy or does not answer is asked again a few times. The exit code is 1 if any event was
    not accepted; the others are posted all the same.
    """
    if key is not None and (lines or len(files) > 1):
        raise click.UsageError("--key is for one event")
    poster, refused, began = Poster(_settings(options), url), 0, time.monotonic()
    try:
        for number, (where, body) in enumerate(bodies(files, lines=lines)):
            if rate is not None:
                time.sleep(max(0.0, began + number / rate - time.monotonic()))
            try:
                click.echo(poster.post(body, key))
            except NotAccepted as error:
                refused += 1
                say(f"{where}: {error}")
    finally:
        poster.close()
    click.get_current_context().exit(FAILED if refused else OK)


def _act(options: SettingsOptions, verb: acting.Verb, meant: Meant[EventFilter], manner: Manner) -> None:
    done = acting.perform(_settings(options), verb, meant, manner)
    click.get_current_context().exit(OK if done else FAILED)


@command.command("retry")
@meant_option
@manner_option
@settings_options
def retry(options: SettingsOptions, meant: Meant[EventFilter], manner: Manner) -> None:
    """Let events that failed be processed again.

    With events.resume a pipeline goes on after the nodes that had finished. Attempts begin anew. Their dead
    letters are removed. The exit code is 1 if any could not be retried.
    """
    _act(options, acting.Verb("retry", "retried", ("FAILURE",), acting.retry), meant, manner)


@command.command("delete")
@meant_option
@manner_option
@settings_options
def delete(options: SettingsOptions, meant: Meant[EventFilter], manner: Manner) -> None:
    """Delete events that have ended, with their results and dead letters.

    One that waits for another try (status RETRY) can be deleted, too. An event that was posted with a key and
    is posted again is a new one then. The exit code is 1 if any could not be deleted.
    """
    verb = acting.Verb("delete", "deleted", ("SUCCESS", "FAILURE"), acting.delete, asks_always=True)
    _act(options, verb, meant, manner)


@command.command("graph")
@click.argument("name", required=False)
@click.option("--mermaid", is_flag=True, help="As a flowchart in Mermaid, for pages.")
@settings_options
def graph(options: SettingsOptions, name: str | None, mermaid: bool) -> None:
    """Draw a pipeline, by its name or that of its events; without a name all of them."""
    section = _settings(options).section(EventSettings)
    PipelineRegistry.scan(section.packages)
    for problem in PipelineRegistry.problems:
        say(f"Warning: {problem}")
    known = PipelineRegistry.pipelines
    if not known:
        found = ", ".join(section.packages)
        raise WrongSetting("events.packages", found, "packages with a pipeline")
    draw = as_mermaid if mermaid else as_text
    for number, pipeline in enumerate(_called(name) if name else known.values()):
        if number:
            click.echo()
        click.echo(draw(pipeline))


def _called(name: str) -> list[type[Pipeline]]:
    known = PipelineRegistry.pipelines
    found = [each for kind, each in known.items() if name in (kind, each.__name__)]
    if not found:
        names = ", ".join(known)
        raise click.UsageError(f"no pipeline and no type of events is called {name!r}; known: {names}")
    return found[:1]
