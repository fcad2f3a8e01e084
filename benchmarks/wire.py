"""A plain blocking connection to Redis: what feeds a benchmark should cost next to nothing itself."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import hiredis

if TYPE_CHECKING:
    from enricher.market.feed.channels import Message

PIECE = 1 << 20


class Wire:
    """Commands packed and replies read by hiredis, without a client in between. Use it as a block."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname or "127.0.0.1", parts.port or 6379))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def send(self, packed: bytes) -> None:
        """Send commands made by `pack`."""
        self.socket.sendall(packed)

    def replies(self, *, wait: bool) -> list[Any]:
        """The replies that have come; with ``wait`` at least one. ConnectionError at the end."""
        found: list[Any] = []
        while True:
            while (reply := self._reader.gets()) is not False:
                if isinstance(reply, hiredis.ReplyError):
                    raise reply
                found.append(reply)
            if found or not (wait or select.select((self.socket,), (), (), 0)[0]):
                return found
            piece = self.socket.recv(PIECE)
            if not piece:
                raise ConnectionError("the benchmark's Redis closed the connection")
            self._reader.feed(piece)

    def call(self, *words: str | bytes) -> Any:
        """The reply to one command."""
        self.send(pack(words))
        return self.replies(wait=True)[0]

    def publish(self, messages: Sequence[Message], batch: int = 200) -> None:
        """Publish everything, in order, ``batch`` to a round trip."""
        for start in range(0, len(messages), batch):
            some = messages[start : start + batch]
            self.send(b"".join(pack(("PUBLISH", topic, body)) for topic, body in some))
            answered = 0
            while answered < len(some):
                answered += len(self.replies(wait=True))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()


def pack(words: Iterable[str | bytes]) -> bytes:
    """One command as bytes."""
    packed: bytes = hiredis.pack_command(tuple(words))  # type: ignore[arg-type]
    return packed
