"""What events add to an enricher: the route that accepts them, and the stream that processes them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import inf
from typing import TYPE_CHECKING, Any

from enricher.config import StreamSettings
from enricher.config.listen import parse
from enricher.engine.effects import DOCUMENTS, LIVE, SEARCH
from enricher.engine.ports import Source
from enricher.engine.retry import RetryPolicy
from enricher.engine.router import Route
from enricher.errors import WrongSetting
from enricher.events.failures import Failures
from enricher.events.intake import EventIntake
from enricher.events.processing import Processor, read_id
from enricher.events.registry import PipelineRegistry
from enricher.events.running import PipelineRunner
from enricher.events.settings import ACCEPT, TASK, TOPIC, EventSettings
from enricher.events.sweep import Sweep
from enricher.events.types import EventTypes
from enricher.system import Host, Index, Plan, StreamUse, code_of

_GRACE = 60.0  # more than a server that hangs is waited for
_NO_WAY = (
    "events come in by submit() alone, and by an app that a program mounts: set web.listen or events.listen "
    "to accept them over HTTP, or events.source to read a stream"
)

if TYPE_CHECKING:
    from starlette.routing import BaseRoute


def plan(events: EventSettings, host: Host) -> Plan:
    """The routes that accept and process events, their streams, and the sweep.

    Connects to nothing. Raises `ConfigError`.
    """
    addresses = [address for address in (events.listen, host.settings.web.address) if address]
    if not events.tokens and not all(parse(address).is_own for address in addresses):
        right = "tokens of clients {name: token}, for others than this machine reach web.listen"
        raise WrongSetting("events.tokens", {}, right)
    PipelineRegistry.scan(events.packages)
    schemas = {name: pipeline.event for name, pipeline in PipelineRegistry.pipelines.items()}
    types = EventTypes(schemas, strict=events.strict, type_field=events.type_field)
    searches = host.settings.search.is_on()
    runner = PipelineRunner(events, PipelineRegistry, types, searches=searches)
    policy = RetryPolicy(
        max_retries=events.max_retries,
        base=events.initial_backoff,
        max_delay=events.max_backoff,
        jitter=events.jitter,
    )

    def stream(name: str, task: str) -> Source:
        return host.stream(
            name,
            group=events.group,
            consumer=host.instance,
            task=task,
            settings=StreamSettings(
                prefetch=4 * events.concurrency,
                lease=events.lease,
                max_deliveries=events.max_deliveries,
                retention=0.0,
            ),
        )

    source = stream(events.stream, TASK)

    def figures() -> Mapping[str, Any]:
        return source.health()

    def waiting() -> int:
        health = figures()
        return sum(int(health.get(name) or 0) for name in ("lag", "pending", "delayed", "retrying"))

    def oldest() -> float | None:
        found: float | None = figures().get("oldest_ms")
        return found

    intake = EventIntake(events, types, host, waiting)
    accepting = Route(
        topic=TOPIC,
        handler=intake.handle,
        decode=intake.decode,
        name=ACCEPT,
        intake="none",
        max_bytes=events.max_body,
    )
    # The messages of a stream are whole entries. With a limit of its own no flood shuts it out.
    entries = replace(accepting, decode=intake.decode_entry, max_bytes=0, max_concurrency=events.concurrency)
    brought = [replace(entries, topic=name) for name in (events.source,) if name]
    processor = Processor(events, host, runner, policy)
    failures = Failures(events, host, processor)
    processing = Route(
        topic=events.stream,
        handler=processor,
        decode=read_id,
        sinks=(DOCUMENTS, LIVE, SEARCH) if searches else (DOCUMENTS, LIVE),
        retry=policy,
        max_concurrency=events.concurrency,
        # The pipeline's own comes first, for it says what had finished.
        timeout=events.timeout + _GRACE if events.timeout else None,
        # A pipeline takes its time, and its nodes are in the figures.
        slow_handler=events.timeout or inf,
        on_dead=failures.note,
        name=TASK,
        events=("event_processed", "event_already_processed"),
        intake="none",
    )

    def pages() -> Sequence[BaseRoute]:
        from enricher.events.http import Endpoints

        return Endpoints(intake, events, host.settings.web).routes()

    sweep = Sweep(events, host, oldest, lambda: bool(figures().get("ready")))
    return Plan(
        routes=[accepting, processing, *brought],
        sources=[source, *(stream(route.topic, ACCEPT) for route in brought)],
        services={"events_sweep": sweep.run, "events_failures": failures.run},
        pages=pages,
        views=lambda: code_of("enricher.events.web.views:EventScreens")(events, intake, host).views(),
        listens={events.listen: pages} if events.listen else {},
        indexes=indexes(events),
        search_indices=runner.indices(),
        streams=[StreamUse(name, events.group) for name in (events.stream, events.source) if name],
        warnings=lambda: [*runner.warnings(), *([] if addresses or events.source else [_NO_WAY])],
        notes=[_note(events, address) for address in addresses],
        problems=runner.problems,
        metrics=runner.attempts.metrics,
    )


def _note(events: EventSettings, address: str) -> str:
    who = f"clients with a token ({', '.join(events.tokens)})" if events.tokens else "anybody on this machine"
    return f"Events are accepted from {who} at {parse(address)}{'' if parse(address).path else '/events'}."


def indexes(events: EventSettings) -> tuple[Index, ...]:
    """By status and by type, newest first."""
    newest = (("created_at", -1), ("_id", -1))
    return (
        (events.collection, newest),
        (events.collection, (("status", 1), *newest)),
        (events.collection, (("type", 1), *newest)),
    )
