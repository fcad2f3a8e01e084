"""What a reader of channels makes of what Redis said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from enricher.adapters.redis.pubsub import PubSubSource
from enricher.engine.ports import Delivery
from tests.rig import Clock


class Heard:
    """An intake that keeps what it is handed."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    def offer_all(self, deliveries: Sequence[Delivery]) -> None:
        self.bodies += [delivery.body for delivery in deliveries]


def test_messages_read_together_with_an_error_are_handed_over_all_the_same() -> None:
    client = Redis()
    source = PubSubSource(lambda: client, client, channels=["a"], instance="test", clock=Clock())
    heard: Any = Heard()
    read = [[b"message", b"a", b"1"], [b"message", b"a", b"2"], ResponseError("NOPERM no permissions")]
    with pytest.raises(ResponseError, match="NOPERM"):
        source._hand_over(read, heard)
    assert heard.bodies == [b"1", b"2"]
