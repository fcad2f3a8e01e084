"""Tickets: summarised, then answered or escalated; one kind of text makes a node fail."""

from __future__ import annotations

import asyncio
import os
import signal

from enricher import Publish
from enricher.events import Event, Node, Pipeline, Router, TaskContext

RUNS: list[str] = []


class Ticket(Event):
    """What users write."""

    text: str
    urgent: bool = False


class Summarise(Node):
    """The length of the text."""

    async def process(self, context: TaskContext) -> TaskContext:
        RUNS.append(f"Summarise {context.event.text}")
        context.nodes["Summarise"] = {"length": len(context.event.text)}
        return context


class Triage(Router):
    """To escalate, or to reply."""

    def route(self, context: TaskContext) -> type[Node] | None:
        return Escalate if context.event.urgent else Reply


class Escalate(Node):
    """Calls somebody."""

    async def process(self, context: TaskContext) -> TaskContext:
        context.emit(Publish("calls", context.event.text.encode()))
        context.nodes["Escalate"] = "called"
        return context


class Reply(Node):
    """Does as the text says: ``fail 2`` fails twice, ``fail`` always; ``sleep 2``, ``die``, ``odd``."""

    async def process(self, context: TaskContext) -> TaskContext:
        RUNS.append(f"Reply {context.event.text}")
        word, _, times = context.event.text.partition(" ")
        if word == "fail" and (not times or RUNS.count(f"Reply {context.event.text}") <= int(times)):
            raise OSError("no answer")
        if word == "sleep":
            await asyncio.sleep(float(times))
        if word == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        context.nodes["Reply"] = object() if word == "odd" else "thank you"
        return context


class TicketPipeline(Pipeline):
    """The pipeline of tickets."""

    event = Ticket
    start = Summarise
    nodes = {Summarise: [Triage], Triage: [Escalate, Reply]}
