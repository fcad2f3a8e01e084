"""What every engine tells Prometheus: bounded labels, counters that begin at 0, nothing twice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from enricher.engine.ports import Delivery
from enricher.engine.router import Route
from enricher.engine.service import Engine
from enricher.engine.stats import Histogram
from enricher.metrics import merged, of_engine, single
from tests.rig import Rig, echo

Found = dict[str, float]


def figures(engine: Engine) -> Found:
    """Every sample by its name and the values of its labels; of a histogram how many there were."""
    return {
        " ".join([metric.name, *labels.values()]): value.total if isinstance(value, Histogram) else value
        for metric in of_engine(engine)
        for labels, value in metric.samples
    }


class Heard:
    """A source that delivers nothing, with the health of a subscription."""

    name = "pubsub"

    def __init__(self, **health: Any) -> None:
        self._health = {"ready": True, **health}

    def health(self) -> Mapping[str, Any]:
        return self._health


def engine_of(*routes: Route, **health: Any) -> Engine:
    rig = Rig(*routes)
    return Engine(routes, [Heard(**health)], rig.engine.sinks, clock=rig.clock)  # type: ignore[list-item]


async def test_counters_of_a_route_are_there_before_anything_has_happened() -> None:
    found = figures(Rig(Route(topic="t", handler=echo)).engine)
    for status in ("received", "processed", "dead", "retried", "dropped", "lost"):
        assert found[f"enricher_messages t {status}"] == 0
    assert found["enricher_channel_gaps t"] == 0
    assert found["enricher_sink_failures documents"] == 0


async def test_dead_letters_are_counted_by_the_stage_at_which_they_failed() -> None:
    def handler(event: Any, context: Any) -> Any:
        raise ValueError("no")

    rig = Rig(Route(topic="t", handler=handler))
    async with rig.engine:
        for body in (b"{}", b"{}", b"not JSON"):
            rig.engine.pool.offer(Delivery("t", body, rig.clock()))
        for topic in ("a", "b"):
            rig.engine.pool.offer(Delivery(topic, b"{}", rig.clock()))
        await rig.drained()
    found = figures(rig.engine)
    assert found["enricher_messages t dead"] == 3
    assert found["enricher_dead_letters t enrich"] == 2
    assert found["enricher_dead_letters t decode"] == 1
    # Whatever a topic is called that has no route, it makes no label of its own.
    assert found["enricher_messages other dead"] == 2
    assert not [name for name in found if name.split()[1:2] in (["a"], ["b"])]


async def test_gaps_are_no_messages() -> None:
    engine = engine_of(Route(topic="t", handler=echo))
    engine.stats.count("t", "gaps", 2)
    found = figures(engine)
    assert found["enricher_channel_gaps t"] == 2
    assert "enricher_messages t gaps" not in found


async def test_the_channels_of_a_pattern_are_silent_as_one_and_those_without_a_route_are_not_told() -> None:
    channels = {"orders.a": 5.0, "orders.b": 2.0, "ticks": 7.0, "else": 1.0}
    engine = engine_of(
        Route(topic="orders.*", handler=echo), Route(topic="ticks", handler=echo), channels=channels
    )
    silent = {name: value for name, value in figures(engine).items() if "silent" in name}
    assert silent == {
        "enricher_channel_silent_seconds orders.*": 2.0,
        "enricher_channel_silent_seconds ticks": 7.0,
    }


async def test_figures_of_a_source_are_counters_where_they_only_rise() -> None:
    engine = engine_of(Route(topic="t", handler=echo), lag=4, entries_lost=5, poison=6)
    found = {metric.name: metric for metric in of_engine(engine)}
    for name, kind, value in (("lag", "gauge", 4), ("entries_lost", "counter", 5), ("poison", "counter", 6)):
        metric = found[f"enricher_source_{name}"]
        assert (metric.kind, list(metric.samples)) == (kind, [({"source": "pubsub"}, value)])


def test_figures_of_one_name_are_one_family() -> None:
    one, other = single("n", "text", 1), single("n", "text", 2)
    assert [list(metric.samples) for metric in merged([one, other])] == [[({}, 1.0), ({}, 2.0)]]
