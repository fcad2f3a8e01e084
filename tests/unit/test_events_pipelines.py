"""Pipelines: the graph is checked, each node runs once after its predecessors, and an attempt goes on."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.engine.retry import RetryPolicy
from enricher.errors import EnricherError
from enricher.events import (
    Event,
    Node,
    NodeError,
    Pipeline,
    PipelineError,
    PipelineRegistry,
    Router,
    TaskContext,
    UnknownPipeline,
)
from enricher.events.drawing import as_mermaid, as_text
from enricher.events.graph import Graph
from enricher.events.registry import pipeline_for


class Ticket(Event):
    text: str
    urgent: bool = False


class Summarise(Node):
    async def process(self, context: TaskContext) -> TaskContext:
        context.nodes["Summarise"] = {"length": len(context.event.text)}
        return context


class Triage(Router):
    def route(self, context: TaskContext) -> type[Node] | None:
        return Escalate if context.event.urgent else Reply


class Escalate(Node):
    def process(self, context: TaskContext) -> TaskContext:
        context.nodes["Escalate"] = "called"
        return context


class Reply(Node):
    def process(self, context: TaskContext) -> TaskContext:
        context.nodes["Reply"] = f"{context.nodes['Summarise']['length']} characters"
        return context


class TicketPipeline(Pipeline):
    event = Ticket
    start = Summarise
    nodes = {Summarise: [Triage], Triage: [Escalate, Reply]}


def test_a_router_chooses_and_plain_nodes_run_beside_async_ones() -> None:
    context = TicketPipeline().run(Ticket("help"))
    assert context.nodes == {"Summarise": {"length": 4}, "Triage": None, "Reply": "4 characters"}
    assert context.metadata["routes"] == {"Triage": "Reply"}
    dumped = context.model_dump(mode="json")
    assert dumped["event"] == {"text": "help", "urgent": False}
    assert "Escalate" in TicketPipeline().run(Ticket("help", urgent=True)).nodes


async def test_in_a_loop_run_says_what_to_call() -> None:
    with pytest.raises(EnricherError, match="arun"):
        TicketPipeline().run(Ticket("x"))
    assert (await TicketPipeline().arun(Ticket("x"))).nodes["Reply"]


def test_an_added_node_comes_last_and_is_in_no_other_pipeline() -> None:
    class Archive(Node):
        def process(self, context: TaskContext) -> TaskContext:
            context.nodes["Archive"] = sorted(context.nodes)
            return context

    pipeline = TicketPipeline()
    pipeline.add_node(Archive())
    with pytest.raises(PipelineError, match="Archive already"):
        pipeline.add_node(Archive)
    assert pipeline.run(Ticket("x")).nodes["Archive"] == ["Reply", "Summarise", "Triage"]
    assert "Archive" not in TicketPipeline().run(Ticket("x")).nodes


def node(label: str, base: type[Node] = Node, **members: Any) -> Any:
    def process(self: Node, context: TaskContext) -> TaskContext:
        return context

    return type(label, (base,), {"process": process, **members})


def test_what_cannot_be_run_is_named() -> None:
    a, b, c = node("A"), node("B"), node("C")
    for start, nodes, said in (
        (a, {a: [b], b: [a]}, "round in a circle: A -> B -> A|round in a circle: B -> A -> B"),
        (a, {a: [], b: [c]}, "no way leads from A to B, C"),
        (a, {a: ["B"]}, "the successors of A has 'B': expected a class of Node"),
        (a, {a: [node("A")]}, "two nodes are called A"),
        (None, {}, "start has None"),
        (type("Misspelt", (Node,), {"proces": print}), {}, "Misspelt has no method process"),
    ):
        with pytest.raises(PipelineError, match=said):
            Graph(start, nodes)  # type: ignore[arg-type]


async def test_a_failed_node_is_named_and_the_next_attempt_goes_on_after_the_last() -> None:
    runs: list[str] = []

    class First(Node):
        def process(self, context: TaskContext) -> TaskContext:
            runs.append("First")
            context.nodes["First"] = 1
            return context

    class Second(Node):
        def process(self, context: TaskContext) -> TaskContext:
            runs.append("Second")
            context.nodes["Second"] = "half"
            if len(runs) < 3:
                raise OSError("not yet")
            return context

    class Two(Pipeline):
        event = Ticket
        start = First
        nodes = {First: Second}

    context = TaskContext(Ticket("x"))
    with pytest.raises(NodeError, match="Second: OSError: not yet") as caught:
        await Two().arun(context.event, context=context)
    assert caught.value.node == "Second"
    assert context.nodes == {"First": 1}
    await Two().arun(context.event, context=context)
    assert runs == ["First", "Second", "Second"]


async def test_branches_run_at_once_and_meet() -> None:
    both = asyncio.Barrier(2)

    def meets(label: str) -> Any:
        async def process(self: Node, context: TaskContext) -> TaskContext:
            async with asyncio.timeout(30):
                await both.wait()
            return context

        return type(label, (Node,), {"process": process})

    start, left, right, end = node("Start"), meets("Left"), meets("Right"), node("End")
    shape: Any = {start: [left, right], left: [end], right: [end]}
    kind = type("Diamond", (Pipeline,), {"event": Ticket, "start": start, "nodes": shape})
    context = await kind().arun(Ticket("x"))
    assert next(iter(context.nodes)) == "Start"
    assert list(context.nodes)[-1] == "End"


async def test_a_node_has_its_own_timeout_and_its_own_retries() -> None:
    tries: list[int] = []

    class Flaky(Node):
        timeout = 0.05
        retry = RetryPolicy(max_retries=2, base=0.0)

        async def process(self, context: TaskContext) -> TaskContext:
            tries.append(1)
            if len(tries) < 3:
                await asyncio.sleep(60)
            return context

    kind: Any = type("Once", (Pipeline,), {"event": Ticket, "start": Flaky})
    await kind().arun(Ticket("x"))
    assert len(tries) == 3

    class Slow(Node):
        timeout = 0.05

        def process(self, context: TaskContext) -> TaskContext:
            time.sleep(0.5)
            return context

    slow: Any = type("Slowly", (Pipeline,), {"event": Ticket, "start": Slow})
    with pytest.raises(NodeError, match="Slow: TimeoutError"):
        await slow().arun(Ticket("x"))


async def test_a_node_that_cannot_be_made_is_named() -> None:
    def cannot(self: Node) -> None:
        raise OSError("no such model")

    kind: Any = type("P", (Pipeline,), {"event": Ticket, "start": node("Wrong", __init__=cannot)})
    with pytest.raises(NodeError, match="Wrong: OSError: no such model"):
        await kind().arun(Ticket("x"))


@pytest.mark.parametrize("returned", [None, 7])
async def test_a_node_that_returns_no_context_is_told_so(returned: Any) -> None:
    wrong = node("Wrong", process=lambda self, context: returned)
    kind: Any = type("P", (Pipeline,), {"event": Ticket, "start": wrong})
    with pytest.raises(NodeError, match="expected the TaskContext that it was given"):
        await kind().arun(Ticket("x"))


@given(st.data())
def test_every_node_of_a_graph_runs_once_after_those_before_it(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 8))
    kinds = [node(f"N{at}") for at in range(size)]
    nodes: dict[Any, list[Any]] = {}
    for at in range(1, size):
        for before in data.draw(st.sets(st.integers(0, at - 1), min_size=1)):
            nodes.setdefault(kinds[before], []).append(kinds[at])
    graph = Graph(kinds[0], nodes)
    done: list[str] = []
    while len(done) < size:
        ready = graph.ready(done, {})
        assert ready
        assert all(set(graph.predecessors[name]) <= set(done) for name in ready)
        done.append(data.draw(st.sampled_from(ready)))
    assert graph.ready(done, {}) == ()


def test_pipelines_are_found_by_the_type_of_their_events() -> None:
    class Registry(PipelineRegistry):
        pipelines = {}
        problems = []

    Registry.register(TicketPipeline)
    assert isinstance(Registry.get_pipeline(Ticket("x")), TicketPipeline)
    assert isinstance(Registry.get_pipeline({"type": "Ticket"}), TicketPipeline)
    with pytest.raises(UnknownPipeline, match=r"^Unknown pipeline type: Order$"):
        Registry.get_pipeline({"type": "Order"})
    other = type("OtherPipeline", (TicketPipeline,), {})
    with pytest.raises(PipelineError, match="two pipelines are for events of type 'Ticket'"):
        Registry.register(other)


def test_a_pipeline_is_drawn() -> None:
    assert as_text(TicketPipeline) == (
        "TicketPipeline  (Ticket: Ticket)\n"
        "Summarise\n"
        "└─ Triage ?\n"
        "   ├─ Escalate\n"
        "   └─ Reply"
    )
    assert "    Triage{Triage}" in as_mermaid(TicketPipeline)
    assert "    Summarise --> Triage" in as_mermaid(TicketPipeline)


def test_outputs_of_any_kind_are_shown_as_json() -> None:
    class Found(msgspec.Struct):
        at: int

    context = TaskContext(Ticket("x"), nodes={"A": [Found(1)], "B": {2: (1, 2)}})
    assert context.model_dump(mode="json")["nodes"] == {"A": [{"at": 1}], "B": {"2": [1, 2]}}
    with pytest.raises(TypeError, match="object"):
        TaskContext(Ticket("x"), nodes={"A": object()}).model_dump(mode="json")


def test_a_registry_of_a_programs_own_may_choose_the_pipeline_of_a_stored_event() -> None:
    class Registry(PipelineRegistry):
        pipelines = {}
        problems = []

    class Urgent(TicketPipeline):
        event_type = "Urgent"

    Registry.register(TicketPipeline)
    Registry.register(Urgent)
    urgent = Ticket("fire", urgent=True)
    assert type(pipeline_for("Ticket", urgent, Registry)) is TicketPipeline

    class Own(Registry):
        @classmethod
        def get_pipeline_type(cls, event: Any) -> str:
            return "Urgent" if event.urgent else "Ticket"

    Registry.override = Own
    assert type(pipeline_for("Ticket", urgent, Registry)) is Urgent
    assert type(pipeline_for("Ticket", Ticket("x"), Registry)) is TicketPipeline
