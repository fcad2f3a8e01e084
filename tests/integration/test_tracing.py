"""Spans: messages and jobs are received, handled and committed in the context that they bring and pass on."""

from __future__ import annotations

import http.server
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from redis.asyncio import Redis

from enricher import Enricher, Route, load, trace_context
from enricher.engine.effects import LIVE, Append
from enricher.jobs import connect
from enricher.jobs.client import close
from tests.integration.commands import Command, environment, eventually
from tests.jobs_app.orders import ThreadOrder
from tests.rig import until
from tests.servers import LOOPBACK, RedisProcess, Urls

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SENT = f"00-{TRACE}-{PARENT}-01"


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[InMemorySpanExporter]:
    """The spans that have ended; the process has no provider of its own afterwards either."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    monkeypatch.setattr(trace_context, "_read", str)
    yield exporter
    provider.shutdown()


def by_name(spans: InMemorySpanExporter) -> dict[str, list[ReadableSpan]]:
    found: dict[str, list[ReadableSpan]] = {}
    for span in spans.get_finished_spans():
        found.setdefault(span.name, []).append(span)
    return found


def ids(span: ReadableSpan) -> tuple[str, str, str]:
    """Trace, span and parent in hexadecimal."""
    context, parent = span.get_span_context(), span.parent
    assert context is not None
    return f"{context.trace_id:032x}", f"{context.span_id:016x}", f"{parent.span_id:016x}" if parent else ""


async def test_the_context_of_an_entry_goes_on_with_what_its_handler_appends(
    urls: Urls, spans: InMemorySpanExporter
) -> None:
    def pure(event: Any, context: Any) -> list[Append]:
        if event["n"] < 0:
            raise ValueError("no")
        return [Append("out", {b"n": b"%d" % event["n"]})]

    async def waiting(event: Any, context: Any) -> list[Append]:
        return pure(event, context)

    routes = [
        Route(topic=topic, handler=handler, name=topic, sinks=(LIVE,), intake="stream")
        for topic, handler in (("pure", pure), ("waiting", waiting))
    ]
    given: dict[str, Any] = {"redis.url": urls.redis, "mongo.url": urls.mongo, "market.enabled": False}
    given["trace.enabled"] = True
    given["streams.intake"] = {"pure": "stream", "waiting": "stream"}
    client = Redis.from_url(urls.redis)
    async with Enricher(load(overrides=given), routes=routes) as enricher:
        await enricher.wait_ready()
        for topic, number in (("pure", 1), ("waiting", 2), ("pure", -1)):
            fields = {"topic": topic, "body": json.dumps({"n": number}), "traceparent": SENT}
            await client.xadd("enricher:intake:worker-enricher", fields)
        await until(lambda: len(by_name(spans).get("commit pure", ())) == 2, "commits")
        await until(lambda: "commit waiting" in by_name(spans), "the other commit")
    out = {entry[b"n"]: entry[b"traceparent"].decode() for _, entry in await client.xrange("out")}
    await client.aclose()
    found = by_name(spans)
    for topic, number, entries in (("pure", b"1", 2), ("waiting", b"2", 1)):
        names = [f"{stage} {topic}" for stage in ("receive", "handle", "commit")]
        assert [len(found[name]) for name in names] == [entries] * 3
        # Two entries may be committed in any order: those of the one that was handled well.
        handled = next(span for span in found[names[1]] if span.status.is_ok)
        received = next(span for span in found[names[0]] if ids(span)[1] == ids(handled)[2])
        committed = next(span for span in found[names[2]] if ids(span)[2] == ids(received)[1])
        assert ids(received)[0] == ids(handled)[0] == ids(committed)[0] == TRACE
        assert ids(received)[2] == PARENT
        assert out[number] == f"00-{TRACE}-{ids(handled)[1]}-01"
        times = [(span.start_time or 0, span.end_time or 0) for span in (received, handled, committed)]
        assert times[0][1] <= times[1][1] <= times[2][1]
    assert sorted(span.status.is_ok for span in found["handle pure"]) == [False, True]
    labels = {(span.attributes or {})["enricher.label"] for span in found["commit pure"]}
    assert labels == {"processed", "dead"}


async def test_the_context_of_a_job_goes_on_with_the_jobs_that_it_enqueues(
    redis_url: str, spans: InMemorySpanExporter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ENRICHER_REDIS__URL", redis_url)
    connect(redis_url)
    given = {"redis.url": redis_url, "market.enabled": False, "jobs.packages": "tests.jobs_app"}
    try:
        async with Enricher(load(overrides={**given, "trace.enabled": True})) as enricher:
            await enricher.wait_ready()
            with trace.get_tracer("test").start_as_current_span("request") as request:
                # In a thread.
                job = await ThreadOrder.enqueue(1, 0)
            await job.wait(60)
            await until(lambda: "commit jobs:low" in by_name(spans), "its receipt")
    finally:
        await close()
    context = request.get_span_context()
    names = ("receive jobs:default", "handle jobs:default", "receive jobs:low")
    received, handled, child = (by_name(spans)[name][0] for name in names)
    assert ids(received)[::2] == (f"{context.trace_id:032x}", f"{context.span_id:016x}")
    assert ids(child)[::2] == (f"{context.trace_id:032x}", ids(handled)[1])


def test_nothing_is_imported_for_it_while_it_is_off() -> None:
    program = "import sys, enricher.assembly, enricher.cli.run; print('enricher.tracing' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout == "False\n"


def test_run_exports_its_spans_by_otlp_the_last_ones_too(
    tmp_path: Path, urls: Urls, own_redis: RedisProcess
) -> None:
    bodies: list[bytes] = []

    class Collector(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.path.encode() + self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer((LOOPBACK, 0), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        given = {
            "REDIS_URL": own_redis.url,
            "MONGO_URL": urls.mongo,
            "ENRICHER_TRACE__ENABLED": "true",
            "ENRICHER_LOG__FORMAT": "json",
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://{LOOPBACK}:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
        }
        with Command(tmp_path, "run", **given) as worker:
            worker.until("ready")
            own_redis.call("PUBLISH", "market:underlying", '{"product": "X"}')
            eventually(lambda: "dead_letter" in worker.events(), "the message")
            assert worker.signal(signal.SIGTERM).end() == 0
        collector.shutdown()
    sent = b"".join(bodies)
    assert sent.startswith(b"/v1/traces")
    for text in (b"worker-enricher", b"receive market:underlying", b"handle process_underlying_tick"):
        assert text in sent
