"""Effects: what a handler wants written, as frozen data.

A handler returns effects and writes nothing itself. Each kind of effect names the sink that writes it;
a program adds its own kind by subclassing `Effect` with a ``sink`` of its own and registering a
sink of that name. Effects of one delivery travel together as an `enricher.engine.ports.Write`; a batch of
writes is what one commit carries.

    documents     Insert, Upsert                        durable: written first
    search        Index, Unindex                        durable: written after the documents
    live          SetKey, SetMember, Publish, claims,   visible: written second, atomically
                  Append, Delay, Ack
    dead_letters  DeadLetter                            visible
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import msgspec

from enricher.texts import as_bytes, as_text, for_json

DOCUMENTS = "documents"
LIVE = "live"
SEARCH = "search"
DEAD_LETTERS = "dead_letters"

EMITTED = "emitted"
"""The label of a write whose effects a program wants written without a message."""

SETTLED = "settled"
"""The label of a write with what the state of a lane as a whole has to say."""


class Effect(msgspec.Struct, frozen=True, gc=False):
    """A write as data. Subclass it, set ``sink`` and register a sink of that name."""

    sink: ClassVar[str] = ""


class Insert(Effect, frozen=True, gc=False):
    """Store ``document`` (it carries its ``_id``) in ``collection`` unless that ``_id`` is there.

    Doing it twice is harmless: the second time the sink answers with the stored document, and
    ``stored`` turns that into the effects that replace this write's visible ones, so that what is
    published is what was stored. ``None`` from it means: a duplicate, make nothing visible.
    """

    sink: ClassVar[str] = DOCUMENTS
    collection: str
    document: Mapping[str, Any]
    stored: Callable[[Mapping[str, Any]], Sequence[Effect] | None] | None = None


class Upsert(Effect, frozen=True, gc=False):
    """Write ``document`` under its ``_id``, replacing the one stored there.

    With ``guard`` the replacement happens only if the stored value of that field is smaller than
    the document's own, so an older write that comes late changes nothing. Without ``create`` nothing is
    written where none is stored.
    """

    sink: ClassVar[str] = DOCUMENTS
    collection: str
    document: dict[str, Any]
    guard: str | None = None
    create: bool = True


class Index(Effect, frozen=True, gc=False):
    """Index ``document`` under ``id`` unless the index has this ``version`` (from 0) or a newer one.

    So doing it twice is harmless. ``answered`` is called once with why the server will never take it, None
    where it has. The effects it returns are written before the write becomes visible, if they are durable, or
    with its dead letter.
    """

    sink: ClassVar[str] = SEARCH
    index: str
    id: str
    document: Mapping[str, Any]
    version: int
    answered: Callable[[str | None], Sequence[Effect]] | None = None


class Unindex(Effect, frozen=True, gc=False):
    """Remove what is indexed under ``id`` unless the index has this ``version`` or a newer one."""

    sink: ClassVar[str] = SEARCH
    index: str
    id: str
    version: int


class SetKey(Effect, frozen=True, gc=False):
    """Set ``key`` to ``value`` for ``ttl_ms`` milliseconds (0: for ever).

    With ``version`` (event time, microseconds) it is set only if no newer version was set in the
    last 24 hours. The comparison never reads the value.
    """

    sink: ClassVar[str] = LIVE
    key: str
    value: bytes
    ttl_ms: int
    version: int | None = None


class SetMember(Effect, frozen=True, gc=False):
    """Let ``field`` hold exactly one ``member`` (with ``score``) in the sorted set ``key``.

    The member it held before is removed, unless field ``twin``, the only other one that may, holds the
    same. A ``version`` (event time, microseconds) older than the field's own changes nothing. An empty
    ``member`` removes.
    """

    sink: ClassVar[str] = LIVE
    key: str
    field: str
    twin: str
    member: bytes
    score: float
    version: int


class DropMembers(Effect, frozen=True, gc=False):
    """Remove the members of all fields of sorted set ``key`` that sort before ``before``."""

    sink: ClassVar[str] = LIVE
    key: str
    before: str


class Publish(Effect, frozen=True, gc=False):
    """Publish ``message`` on ``channel``, once per claim if the write carries one."""

    sink: ClassVar[str] = LIVE
    channel: str
    message: bytes


class KeyClaim(Effect, frozen=True, gc=False):
    """Claim ``value`` under ``key``, which keeps the last eight values for ``ttl_s`` seconds."""

    sink: ClassVar[str] = LIVE
    key: str
    value: int
    ttl_s: int


class SetClaim(Effect, frozen=True, gc=False):
    """Claim ``member`` in the set ``key``; the set expires whole, ``ttl_s`` seconds after its last claim."""

    sink: ClassVar[str] = LIVE
    key: str
    member: str
    ttl_s: int


class Append(Effect, frozen=True, gc=False):
    """Append an entry with ``fields`` to ``stream``, once per claim or acknowledgement of its write.

    The stream is kept at about ``max_length`` entries (0: all are kept).
    """

    sink: ClassVar[str] = LIVE
    stream: str
    fields: Mapping[bytes, bytes]
    max_length: int = 0


class Delay(Effect, frozen=True, gc=False):
    """Keep an entry with ``fields`` in the delay set ``key`` for ``delay_ms`` ms of the server's time.

    Like `Append` it is written once per claim or acknowledgement of its write. The key ``place`` says where
    an entry is that somebody waits for: if it is there, it says ``later`` from then on.
    """

    sink: ClassVar[str] = LIVE
    key: str
    delay_ms: int
    fields: Mapping[bytes, bytes]
    place: str = ""


class Ack(Effect, frozen=True, gc=False):
    """Acknowledge entry ``id`` of ``stream`` for ``group``, together with its write and after all of it.

    It is a claim too: of an entry that somebody has acknowledged already nothing becomes visible.
    The acknowledgement of a write that sets its message aside is written by the store of dead letters.
    """

    sink: ClassVar[str] = LIVE
    stream: str
    group: str
    id: str


_TEXTS = ("task_id", "task_name", "topic", "key", "stage", "error", "error_type", "path", "traceback")


class DeadLetter(Effect, frozen=True, gc=False):
    """Set a message aside, whole, with why. Times are microseconds since 1970, UTC."""

    sink: ClassVar[str] = DEAD_LETTERS
    task_id: str
    task_name: str
    topic: str
    key: str | None
    body: bytes
    stage: str
    error: str
    error_type: str
    path: str | None
    traceback: str
    attempts: int
    first_us: int
    last_us: int

    def __post_init__(self) -> None:
        # Those that programs make themselves hold what their client of Redis gave them.
        for name in _TEXTS:
            value = getattr(self, name)
            if not isinstance(value, str) and value is not None:
                msgspec.structs.force_setattr(self, name, as_text(value))
        if isinstance(self.body, Mapping):
            msgspec.structs.force_setattr(self, "body", msgspec.json.encode(for_json(self.body)))
        elif not isinstance(self.body, bytes):
            msgspec.structs.force_setattr(self, "body", as_bytes(self.body))
