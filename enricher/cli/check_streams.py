"""What ``enricher check`` says about streams: length, groups, lag, pending, dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from enricher.adapters.redis.stream.entry import GroupKeys
from enricher.adapters.redis.stream.group import StreamGroup, WrongKey, check_key
from enricher.adapters.redis.stream.shards import Shard
from enricher.config import Settings
from enricher.engine.router import Overload, Route
from enricher.intake import intake_group, intake_stream, spill_stream, topics_by_stream
from enricher.system import Plan, StreamUse
from enricher.texts import as_text

HEAD = ("stream", "group", "length", "lag", "pending", "delayed", "dead letters")


@dataclass(frozen=True, slots=True)
class StreamState:
    """A group on a stream: figures by name (none when nobody has made it yet), and groups nobody here reads.

    ``letters`` is the stream of its own dead letters; "" where they go with all others. ``problem`` is a key
    that holds something else, which stops the worker.
    """

    keys: GroupKeys
    figures: dict[str, Any]
    letters: str = ""
    others: tuple[str, ...] = ()
    problem: str = ""

    @property
    def row(self) -> list[str]:
        shown = [str(self.figures.get(name, "-")) for name in ("length", "lag", "pending", "delayed")]
        if "lag" in self.figures and self.figures["lag"] is None:
            shown[1] = "unknown"
        number = self.figures.get("dead_letters", "?")
        letters = f"{number} in {self.letters}" if self.letters else "-"
        return [self.keys.stream, self.keys.group, *shown, letters]


def groups_of(settings: Settings, routes: Sequence[Route], plans: Sequence[Plan]) -> list[StreamUse]:
    """The groups that workers with these settings read, with the stream of their dead letters."""
    found: list[StreamUse] = []
    topics = topics_by_stream(settings, routes)
    by_stream = [route for route in routes if route.topic in topics]
    if by_stream:
        stream, shard = intake_stream(settings), settings.streams.shard
        siblings = Shard.parse(shard).siblings if shard else []
        if not shard or any(route.state_store is None for route in by_stream):
            found.append(StreamUse(stream, intake_group(settings)))
        found += [StreamUse(stream, intake_group(settings, each)) for each in siblings]
    if any(route.overload is Overload.SPILL for route in routes):
        found.append(StreamUse(spill_stream(settings), settings.service.name))
    return [*found, *(use for plan in plans for use in plan.streams)]


async def ask_streams(
    client: Redis, settings: Settings, groups: Sequence[StreamUse]
) -> list[StreamState]:
    """What Redis says about the groups; nothing is written. Errors of the client are passed on."""
    # Where dead letters are in another Redis, their number is that server's to tell.
    here = settings.dead_letters.url in ("", settings.redis.url)
    known = {(use.stream, use.group) for use in groups}
    found: list[StreamState] = []
    for stream, group_name, own_letters in groups:
        keys = GroupKeys(stream, group_name)
        figures: dict[str, Any] = {}
        others: list[str] = []
        try:
            for each in (keys, GroupKeys(keys.again, keys.group)):
                await StreamGroup(client, each, "check").check_keys()
            if own_letters and here:
                await check_key(client, own_letters, "stream")
        except WrongKey as error:
            found.append(StreamState(keys, figures, own_letters, problem=str(error)))
            continue
        try:
            figures = await StreamGroup(client, keys, "check").figures()
            both = (keys, GroupKeys(keys.again, keys.group))
            lost = [await StreamGroup(client, each, "check").entries_lost() for each in both]
            figures["entries_lost"] = sum(lost)
            for group in await client.xinfo_groups(keys.stream):
                name = as_text(group["name"])
                if (keys.stream, name) not in known:
                    others.append(name)
        except ResponseError as error:
            if "no such key" not in str(error):
                raise
            figures = {}
        if own_letters and here:
            figures["dead_letters"] = await client.xlen(own_letters)
        found.append(StreamState(keys, figures, own_letters, tuple(others)))
    return found


def stream_warnings(states: Sequence[StreamState]) -> Iterator[str]:
    """What looks wrong about streams, one sentence each."""
    for state in states:
        if lost := state.figures.get("entries_lost"):
            yield (
                f"stream {state.keys.stream}: group {state.keys.group} has lost {lost} entries, trimmed or "
                "deleted before they were read; whoever appends may bound the stream (MAXLEN) too tightly"
            )
    for stream, others in {state.keys.stream: state.others for state in states}.items():
        if others:
            yield (
                f"stream {stream}: nobody with these settings reads for {', '.join(sorted(others))}; the "
                "stream keeps what a group has not acknowledged, so end one that is done: XGROUP DESTROY"
            )
