"""enricher: a type of events and its pipeline of two nodes; nothing is processed while a file is there."""

from __future__ import annotations

import asyncio
import os

from enricher.events import Event, Node, Pipeline, TaskContext

GATE = os.environ.get("EVENTS_GATE", "")


class Ticket(Event):
    """What is sent."""

    text: str
    user: int
    urgent: bool = False


class Wait(Node):
    """Lets an event through when the gate is open."""

    async def process(self, context: TaskContext) -> TaskContext:
        while os.access(GATE, os.F_OK):  # quick, on a local disk
            await asyncio.sleep(0.1)
        return context


class Measure(Node):
    """The work, which is none."""

    async def process(self, context: TaskContext) -> TaskContext:
        context.nodes["Measure"] = {"length": len(context.event.text)}
        return context


class TicketPipeline(Pipeline):
    """One after the other."""

    event = Ticket
    start = Wait
    nodes = {Wait: [Measure]}  # noqa: RUF012  as users write it
