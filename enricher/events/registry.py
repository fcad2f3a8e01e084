"""Which pipeline an event goes through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, TypeVar

from enricher.events.errors import PipelineError, UnknownPipeline
from enricher.events.nodes import Event
from enricher.events.pipeline import Pipeline, graph_of, type_name
from enricher.log import log
from enricher.packages import modules

P = TypeVar("P", bound=type[Pipeline])


class PipelineRegistry:
    """Pipelines by type of event; a subclass may override `get_pipeline_type`.

    ``problems`` are modules that could not be imported and pipelines that cannot be run, ``events`` the types
    of events that were found.
    """

    pipelines: ClassVar[dict[str, type[Pipeline]]] = {}
    problems: ClassVar[list[str]] = []
    events: ClassVar[dict[str, type[Event]]] = {}
    override: ClassVar[type[PipelineRegistry] | None] = None

    @classmethod
    def register(cls, pipeline: P, type: str | None = None) -> P:  # noqa: A002
        """Register a pipeline, under its type of event unless another name is given; also as a decorator.

        Raises `PipelineError` for a graph that cannot be run, and for a type that has another pipeline.
        """
        graph_of(pipeline)
        name = type or type_name(pipeline)
        other = cls.pipelines.setdefault(name, pipeline)
        if other is not pipeline:
            paths = " and ".join(f"{each.__module__}.{each.__qualname__}" for each in (other, pipeline))
            raise PipelineError(f"two pipelines are for events of type {name!r}: {paths}")
        return pipeline

    @classmethod
    def scan(cls, packages: Iterable[str]) -> None:
        """Register the pipelines in these packages and all below; what is wrong is logged and noted."""

        def problem(text: str) -> None:
            if text not in cls.problems:
                cls.problems.append(text)
            log.error(text)

        def not_imported(module: str, why: str) -> None:
            problem(f"Failed to import pipeline module {module}: {why}")

        for package in packages:
            for module in modules(package, not_imported):
                for found in list(vars(module).values()):
                    if isinstance(found, type) and issubclass(found, Event) and found is not Event:
                        cls.events[f"{found.__module__}.{found.__qualname__}"] = found
                    if isinstance(found, type) and issubclass(found, cls) and found is not cls:
                        cls.override = found
                    if isinstance(found, type) and issubclass(found, Pipeline) and _is_whole(found):
                        try:
                            cls.register(found)
                        except PipelineError as error:
                            problem(str(error))

    @classmethod
    def get_pipeline_type(cls, event: Any) -> str:
        """The type of an event: that of the pipeline whose ``event`` it is an instance of.

        Of plain JSON it is the field ``type``.
        """
        if isinstance(event, Mapping):
            return str(event.get("type", ""))
        kinds = [name for name, pipeline in cls.pipelines.items() if isinstance(event, pipeline.event)]
        exact = [name for name in kinds if cls.pipelines[name].event is event.__class__]
        return (exact or kinds or [event.__class__.__name__])[0]

    @classmethod
    def get_pipeline(cls, event: Any) -> Pipeline:
        """A new pipeline for an event. Raises `UnknownPipeline`."""
        return cls.of_type(cls.get_pipeline_type(event))

    @classmethod
    def of_type(cls, type: str) -> Pipeline:  # noqa: A002
        """A new pipeline for events of a type. Raises `UnknownPipeline`."""
        found = cls.pipelines.get(type)
        if found is None:
            raise UnknownPipeline(type)
        return found()


def pipeline_for(kind: str, event: Any, registry: type[PipelineRegistry]) -> Pipeline:
    """A new pipeline for an event that was stored as ``kind``.

    If a program's package has a `PipelineRegistry` of its own with a `get_pipeline_type`, that decides.
    Raises `UnknownPipeline`.
    """
    own = registry.override
    if own is not None and any("get_pipeline_type" in vars(each) for each in own.__mro__[:-2]):
        return own.get_pipeline(event)
    return registry.of_type(kind)


def unserved(registry: type[PipelineRegistry]) -> list[str]:
    """Types of events that were found and that no pipeline is for, nor for one that is made of them."""
    served = [pipeline.event for pipeline in registry.pipelines.values()]
    return [
        name
        for name, event in registry.events.items()
        if not any(issubclass(each, event) or issubclass(event, each) for each in served)
    ]


def _is_whole(pipeline: type[Pipeline]) -> bool:
    """Whether it is meant to run: one without a start that others are made of is their base."""
    return pipeline is not Pipeline and hasattr(pipeline, "start")
