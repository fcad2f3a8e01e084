"""Spans of OpenTelemetry for every message, with the extra ``otel`` and ``trace.enabled``.

    receive TOPIC   from its receipt until its handler begins; child of the context that the message brings
    handle ROUTE    a run of the handler; what it appends to streams and the jobs it enqueues carry it on
    commit TOPIC    until its effects are written

Contexts travel as W3C's traceparent: a field of stream entries, an attribute of jobs. Spans go to the global
provider, which a host program sets; ``enricher run`` makes one that exports by OTLP, as the variables
``OTEL_...`` say (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import msgspec
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from enricher import trace_context
from enricher.engine.effects import Append, Effect
from enricher.engine.lanes import Lane
from enricher.engine.pipeline import Pipeline, RetryLater, Unfinished
from enricher.engine.ports import Answer, Delivery, Write
from enricher.engine.router import Route

_W3C = TraceContextTextMapPropagator()
_FIELD = trace_context.FIELD.encode()
# Messages of which something is remembered: one that is dropped after a failed run is not let go else.
_MOST = 500_000

Settle = Callable[[list[Write], Mapping[int, Answer]], None]
Outcome = Write | RetryLater | Unfinished


def traceparent() -> str:
    """The context of the current span; "" without one."""
    carrier: dict[str, str] = {}
    _W3C.inject(carrier)
    return carrier.get(trace_context.FIELD, "")


class _Received(NamedTuple):
    """A message under way: the context of its receipt, and when its handler last ended (ns)."""

    context: Context
    handled_ns: int


class Tracing:
    """Traces the messages of one engine, which takes its pipeline from here."""

    def __init__(self) -> None:
        self._tracer = trace.get_tracer("enricher")
        self._under_way: dict[Delivery, _Received] = {}
        trace_context.read_with(traceparent)

    def pipeline(self, *arguments: Any) -> Pipeline:
        """A pipeline whose runs are spans."""
        return _TracedPipeline(self, *arguments)

    def settling(self, settle: Settle) -> Settle:
        """``settle``, with a span for each message that it lets go."""

        def traced(batch: list[Write], answers: Mapping[int, Answer]) -> None:
            settle(batch, answers)
            for write in batch:
                found = self._under_way.pop(write.delivery, None) if write.delivery is not None else None
                if found is not None and write.delivery is not None:
                    self._committed(write.delivery, found, write.label)

        return traced

    def _committed(self, delivery: Delivery, received: _Received, label: str) -> None:
        name, began = f"commit {delivery.topic}", received.handled_ns
        span = self._tracer.start_span(name, received.context, start_time=began)
        span.set_attribute("enricher.label", label)
        span.end()

    @contextmanager
    def handling(self, route: Route, delivery: Delivery) -> Iterator[Span]:
        """A span in which a handler runs."""
        known = self._under_way.get(delivery)
        received = self._receive(delivery) if known is None else known.context
        with self._tracer.start_as_current_span(f"handle {route.name}", received) as span:
            span.set_attribute("enricher.attempt", delivery.attempts + 1)
            try:
                yield span
            finally:
                self._under_way[delivery] = _Received(received, time.time_ns())

    def _receive(self, delivery: Delivery) -> Context:
        if len(self._under_way) > _MOST:
            del self._under_way[next(iter(self._under_way))]
        sent, began = _W3C.extract({trace_context.FIELD: delivery.traceparent}), delivery.received_us * 1000
        span = self._tracer.start_span(f"receive {delivery.topic}", sent, SpanKind.CONSUMER, start_time=began)
        span.set_attribute("messaging.destination.name", delivery.topic)
        span.set_attribute("messaging.message.id", delivery.id or "")
        span.end()
        return trace.set_span_in_context(span)


class _TracedPipeline(Pipeline):
    def __init__(self, tracing: Tracing, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._tracing = tracing
        # What `finish` has a span for.
        self._waiting: set[Delivery] = set()

    def enrich(self, route: Route, delivery: Delivery, lane: Lane) -> Outcome:
        if delivery in self._waiting:
            return super().enrich(route, delivery, lane)
        with self._tracing.handling(route, delivery) as span:
            outcome = super().enrich(route, delivery, lane)
            _told(span, outcome)
            return outcome

    async def finish(
        self, route: Route, delivery: Delivery, lane: Lane, rest: Unfinished | None = None
    ) -> Write | RetryLater:
        with self._tracing.handling(route, delivery) as span:
            self._waiting.add(delivery)
            try:
                outcome = await super().finish(route, delivery, lane, rest)
            finally:
                self._waiting.discard(delivery)
            _told(span, outcome)
            return outcome


def _told(span: Span, outcome: Outcome) -> None:
    """Note on ``span`` what came of a run; what it appends to streams carries its context."""
    if isinstance(outcome, RetryLater):
        span.set_status(Status(StatusCode.ERROR, outcome.error))
    elif isinstance(outcome, Write):
        if outcome.label == "dead":
            span.set_status(Status(StatusCode.ERROR, "a dead letter"))
        outcome.effects = [_carrying(effect, traceparent()) for effect in outcome.effects]


def _carrying(effect: Effect, context: str) -> Effect:
    if not isinstance(effect, Append) or not context or _FIELD in effect.fields:
        return effect
    return msgspec.structs.replace(effect, fields={**effect.fields, _FIELD: context.encode()})


def set_up(service: str) -> Callable[[], None]:
    """Export spans of this process by OTLP over HTTP; what is returned sends the last ones."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    return provider.shutdown
