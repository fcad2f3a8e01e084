"""What the files of the pool share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from enricher.config import PoolSettings
from enricher.engine.pipeline import Pipeline
from enricher.engine.ports import Clock, Reader
from enricher.engine.router import Router
from enricher.engine.stats import Stats
from enricher.engine.writer import Writer


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The parts of an engine around its pool, and the pool's settings.

    ``owns`` says which keys are this process's, where several share them. A handler run of ``slow_handler``
    seconds is logged; a lane that is idle for ``evict_after`` seconds loses its state.
    """

    router: Router
    pipeline: Pipeline
    writer: Writer
    stats: Stats
    clock: Clock
    steady: Clock
    reader: Reader | None
    owns: Callable[[str], bool] | None
    limits: PoolSettings
    slow_handler: float
    evict_after: float
