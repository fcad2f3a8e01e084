"""``retry`` and ``delete``: one event after the other, paced, with a line for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass

import click

from enricher.cli.bulk import Manner, Meant, Outcome, ask, paced
from enricher.cli.output import listed, say
from enricher.config import Settings
from enricher.events.cli.opening import Events, with_events
from enricher.events.cli.selection import EventFilter, as_json
from enricher.events.documents import Document, Status, is_unindexed

_KINDS = 20


@dataclass(frozen=True, slots=True)
class Verb:
    """Something that is done with events: to those in ``statuses`` unless others are asked for."""

    name: str
    past: str
    statuses: tuple[Status, ...]
    act: Callable[[Events, Document], Awaitable[Outcome]]
    asks_always: bool = False


_CHANGED = Outcome("it has changed meanwhile: look at it again", done=False)


async def retry(events: Events, event: Document) -> Outcome:
    """Let a failed event wait for a worker again, and one that could not be indexed be indexed."""
    if event["status"] == "SUCCESS" and is_unindexed(event):
        await events.complete(event)
        return Outcome("is indexed again", done=True)
    others: dict[Status, str] = {
        "SUCCESS": "not retried: it has succeeded; post it anew",
        "STARTED": "not retried: its pipeline runs",
        "RETRY": "not retried: it is tried again by itself",
        "PENDING": "not retried: it waits already",
    }
    if event["status"] in others:
        return Outcome(others[event["status"]], done=False)
    return Outcome("waits again", done=True) if await events.wait_again(event) else _CHANGED


async def delete(events: Events, event: Document) -> Outcome:
    """Remove an event that has ended, or that waits for another try."""
    if event["status"] not in ("SUCCESS", "FAILURE", "RETRY"):
        return Outcome(f"not deleted: it has not ended, it is {event['status']}", done=False)
    return Outcome("deleted", done=True) if await events.delete(event) else _CHANGED


def perform(settings: Settings, verb: Verb, meant: Meant[EventFilter], manner: Manner) -> bool:
    """Find the events that are meant, ask, and act on them; whether all was done."""
    found: list[Document] = []
    outcomes: Counter[str] = Counter()
    done, complete = 0, False

    async def find(events: Events) -> None:
        nonlocal complete
        async for event in _meant(events, verb, meant):
            # Of many only what is needed until their turn comes.
            found.append({name: event[name] for name in ("_id", "status", "type", "revision")})
            if len(found) == manner.limit:
                break
        complete = True

    async def work(events: Events) -> None:
        nonlocal done
        await events.letters.find({event["_id"] for event in found})
        try:
            async for each in paced(found, manner.rate):
                event = await events.get(each["_id"])
                outcome = _CHANGED
                if event["revision"] == each["revision"]:
                    outcome = await verb.act(events, event)
                done += outcome.done
                outcomes[outcome.label] += 1
                _say_outcome(event, outcome, json=manner.json)
        finally:
            if len(found) > 1:
                say(f"{done:,} of {len(found):,} events: {listed(outcomes)}")

    with_events(settings, find)
    if not complete:
        return True  # a signal came first
    if manner.dry_run:
        for event in found:
            _say_outcome(event, Outcome(f"would be {verb.past}", done=True), json=manner.json)
        say(f"{len(found):,} events are meant; nothing was changed")
        return True
    if not found:
        say(f"no event to {verb.name} among those")
        return not meant.names
    if manner.asks and (len(found) > 1 or verb.asks_always):
        events = "this event" if len(found) == 1 else f"these {len(found):,} events"
        ask(f"{verb.name.capitalize()} {events}?", _kinds(found), always=verb.asks_always)
    with_events(settings, work)
    return done == len(found)


def _kinds(found: Sequence[Document]) -> Iterator[str]:
    kinds = Counter((event["status"], event["type"]) for event in found)
    for (status, kind), number in kinds.most_common(_KINDS):
        yield f"{number:>9,}  {status:<8}  {kind}"


async def _meant(events: Events, verb: Verb, meant: Meant[EventFilter]) -> AsyncIterator[Document]:
    if meant.names:
        for name in dict.fromkeys(meant.names):
            yield await events.get(name)
        return
    async for event in events.matching(meant.wanted, verb.statuses):
        yield event


def _say_outcome(event: Document, outcome: Outcome, *, json: bool) -> None:
    if json:
        said = {"id": event["_id"], "type": event["type"], "was": event["status"]}
        click.echo(as_json({**said, "done": outcome.done, "outcome": outcome.label}))
        return
    click.echo(f"{event['_id']}  {event['status']:<8}  {event['type']}  {outcome}")
