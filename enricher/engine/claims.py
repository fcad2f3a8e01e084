"""What a handler asks that must handle each message once: whether it was processed, and whose turn it is.

A claim is made by the commit that makes a message visible. A handler whose work reaches beyond its effects
also reserves the message first, so that nobody else is at it at the same time.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import Protocol

import msgspec


class State(Enum):
    """How a message stands: reserved for who asked, processed before, or in somebody else's hands."""

    OURS = "ours"
    PROCESSED = "processed"
    BUSY = "busy"


class Found(msgspec.Struct, frozen=True):
    """The answer of `Claims.begin`; ``key`` and ``member`` say where the claim of a processed message is."""

    state: State
    key: str = ""
    member: str = ""


class Claims(Protocol):
    """Claims and reservations by id. While their server is away each method raises `SinkUnavailable`."""

    @property
    def ttl(self) -> int:
        """Seconds for which a claim is remembered."""

    def claim(self, message_id: str) -> tuple[str, str]:
        """Key and member of the claim that a commit makes now."""

    async def begin(
        self, message_id: str, token: str = "", lease_ms: int = 0, others: Sequence[str] = ()
    ) -> Found:
        """Look a message up and, with a ``token`` (unique to this attempt), reserve it for ``lease_ms``.

        ``others`` are further names under which an old worker may have claimed it.
        """

    async def renew(self, message_id: str, token: str, lease_ms: int) -> bool:
        """Keep a reservation; False if it is no longer the caller's."""

    async def release(self, message_id: str, token: str) -> None:
        """Give a reservation up, so that the next attempt may begin at once."""
