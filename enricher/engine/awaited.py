"""A delivery whose sender, in this process, awaits what becomes of it."""

from __future__ import annotations

import asyncio

from enricher.engine.ports import Delivery


class AwaitedDelivery(Delivery):
    """A delivery with ``ended``, a future of the label under which it left the engine.

    ``why`` says what made a dead letter of it, else "", and ``error`` is what was raised then.
    """

    awaited = True
    __slots__ = ("ended", "error", "why")

    def __init__(self, topic: str, body: bytes, received_us: int, id: str) -> None:  # noqa: A002
        super().__init__(topic, body, received_us, id)
        self.ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.why = ""
        self.error: Exception | None = None

    def failed(self, stage: str, text: str, error: Exception | None) -> None:
        """Keep what the dead letter says."""
        self.why = f"{stage}: {text}"
        self.error = error

    def settled(self, label: str) -> None:
        """Tell the sender."""
        if not self.ended.done():
            self.ended.set_result(label)
