"""A run under way, as the engine delivers it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from enricher.engine.effects import Effect
from enricher.engine.ports import Delivery
from enricher.errors import EnricherError
from enricher.job_store import End, JobQueueSettings, Run, Runner

_encode = msgspec.json.Encoder().encode


class Poison(EnricherError):
    """A job that took its worker with it again and again."""

    def __init__(self, settings: JobQueueSettings) -> None:
        times, still = settings.max_deliveries, settings.max_block
        super().__init__(
            f"its worker ended {times} times while it ran, or stood still for {still:g} s, "
            "and no other job can have done it"
        )


class JobDelivery(Delivery):
    """A run under way; its body is the `Run` as JSON."""

    kept = True
    __slots__ = ("_runner", "_settled", "end", "missing", "run")

    def __init__(
        self,
        topic: str,
        run: Run,
        received_us: int,
        runner: Runner,
        settled: Callable[[JobDelivery, str], None],
    ) -> None:
        super().__init__(topic, _encode(run), received_us, f"{run.id}/{run.number}")
        self.run = run
        self.end: End | None = None
        self.missing = False
        self._runner = runner
        self._settled = settled

    @property
    def traceparent(self) -> str:
        return self.run.trace

    def failed(self, stage: str, text: str, error: Exception | None) -> None:
        self.end = self._runner.failure(self.run, stage, text, error)

    def ack(self) -> Sequence[Effect]:
        """The end of a run that is set aside; any other end comes from its handler."""
        return () if self.end is None else (self.end,)

    def settled(self, label: str) -> None:
        self._settled(self, label)
