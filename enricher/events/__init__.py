"""Events: accepted over HTTP or a stream, kept, and processed by pipelines of nodes.

What is listed here is promised.
"""

from typing import TYPE_CHECKING

from enricher.lazy_exports import at_first_use

if TYPE_CHECKING:
    from enricher.events.errors import NodeError, PipelineError, UnknownEvent, UnknownPipeline
    from enricher.events.nodes import Event, Node, Router, TaskContext
    from enricher.events.pipeline import Pipeline
    from enricher.events.registry import PipelineRegistry
    from enricher.events.search_node import ElasticsearchIndexNode
    from enricher.events.settings import EventSettings
    from enricher.events.types import InvalidEvent
else:
    __getattr__, __dir__ = at_first_use(
        __name__,
        {
            "enricher.events.errors": "NodeError PipelineError UnknownEvent UnknownPipeline",
            "enricher.events.nodes": "Event Node Router TaskContext",
            "enricher.events.pipeline": "Pipeline",
            "enricher.events.registry": "PipelineRegistry",
            "enricher.events.search_node": "ElasticsearchIndexNode",
            "enricher.events.settings": "EventSettings",
            "enricher.events.types": "InvalidEvent",
        },
    )

__all__ = [
    "ElasticsearchIndexNode",
    "Event",
    "EventSettings",
    "InvalidEvent",
    "Node",
    "NodeError",
    "Pipeline",
    "PipelineError",
    "PipelineRegistry",
    "Router",
    "TaskContext",
    "UnknownEvent",
    "UnknownPipeline",
]
