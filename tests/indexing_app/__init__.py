"""A pipeline of events for tests that says itself what is indexed, and where."""

from __future__ import annotations

from typing import Any

from enricher.events import ElasticsearchIndexNode, Event, Node, Pipeline, TaskContext


class Note(Event):
    """Some text."""

    note: str


class IndexNote(ElasticsearchIndexNode):
    """The text, in an index of its own."""

    index = "notes"

    def document(self, context: TaskContext) -> dict[str, Any]:
        return {"text": context.event.note}


class Words(Node):
    """The words of the text."""

    async def process(self, context: TaskContext) -> TaskContext:
        context.nodes["Words"] = context.event.note.split()
        return context


class NotePipeline(Pipeline):
    """A note is indexed in the middle of it, and its words at the end."""

    event = Note
    start = IndexNote
    nodes = {IndexNote: Words}

    def __init__(self) -> None:
        super().__init__()
        found = ElasticsearchIndexNode("words", lambda context: {"words": context.nodes["Words"]})
        self.add_node(found)
