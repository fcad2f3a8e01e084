"""Stream entries as deliveries: the format of an entry, the names of a group's keys, acknowledgement.

An entry of ours has the field ``body`` (bytes), and may have ``topic`` (default: the source's), ``at``
(when the message was received, microseconds since 1970 UTC; default: now) and ``traceparent``. A hook reads
other formats.
An entry that comes back from the delay set also has ``enricher-*`` fields: who it was, how often its handler
ran, how often it was left unfinished. They are taken off before anybody reads the rest.

Keys of group ``g`` on stream ``s``:

    s:g:later   delay set: entries (MessagePack) by the millisecond at which they are due
    s:g:again   stream on which they come back, read by this group alone
    s:g:cursor  where the group begins should it have to be created again (see ``ack.lua``)
    s:g:gone    ids of pending entries that were deleted and counted as lost, though a worker may have them
    s:g:early   ids of entries that were committed while the group was destroyed
    s:g:later:at:ID  where the entry ID is that somebody waits for (see ``dead_letters/target_stream.py``)
    s:g:ledger  what was acknowledged and what was lost (see ``ledger.py``)
    s:trimmed   how many entries were trimmed after all groups had acknowledged them
    s:g:exposed entries that were tried in a cohort that nobody finished (see ``quarantine.py``)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from math import ceil
from typing import Any

import msgspec

from enricher.engine.effects import Ack, Delay, Effect
from enricher.engine.ports import Delivery
from enricher.errors import BadMessage
from enricher.texts import as_text, for_json
from enricher.trace_context import FIELD

BODY, TOPIC, AT = b"body", b"topic", b"at"
_TRACE = FIELD.encode()
_OWN = b"enricher-"
_ID, _ATTEMPTS, _UNFINISHED = (_OWN + name for name in (b"id", b"attempts", b"unfinished"))
_AT, _MARK = _OWN + b"at", _OWN + b"mark"

Fields = Mapping[bytes, bytes]
ReadEntry = Callable[[Fields], bytes | Delivery]
"""Fields of an entry -> body, or a delivery whose topic, body and time of receipt are taken over.

Whatever it raises makes the entry a dead letter.
"""


class GroupKeys(msgspec.Struct, frozen=True):
    """A consumer group on a stream, and the keys that belong to it (see the top of this file)."""

    stream: str
    group: str

    def _of_group(self, name: str) -> str:
        return f"{self.stream}:{self.group}:{name}"

    @property
    def cursor(self) -> str:
        return self._of_group("cursor")

    @property
    def later(self) -> str:
        return self._of_group("later")

    @property
    def again(self) -> str:
        return self._of_group("again")

    @property
    def ledger(self) -> str:
        return self._of_group("ledger")

    @property
    def early(self) -> str:
        return self._of_group("early")

    @property
    def exposed(self) -> str:
        return self._of_group("exposed")

    @property
    def trimmed(self) -> str:
        return f"{self.stream}:trimmed"

    def place(self, identity: str) -> str:
        """Where an entry is that somebody waits for: ``sent``, ``later``, or its id in ``again``."""
        return f"{self.later}:at:{identity}"


class StreamDelivery(Delivery):
    """An entry under way.

    ``unfinished`` counts the deliveries before this one that nobody finished, ``left`` those among them since
    its handler last came to an end, ``missed`` the renewals that found its lease in other hands, ``running``
    the tasks and threads that run its handler. ``counted``: this delivery is counted by the server. ``life``
    tells its stream from others that had the same name; an entry that came back, or was sent again, brings
    ``id`` and ``mark`` along and has none.
    """

    kept = True
    __slots__ = (
        *("_settled", "counted", "entry", "fields"),
        *("later", "left", "life", "mark", "missed", "place", "running", "unfinished"),
    )

    def __init__(
        self,
        place: GroupKeys,
        entry: str,
        fields: Fields,
        *,
        topic: str,
        body: bytes,
        received_us: int,
        later: str,
        settled: Callable[[StreamDelivery, str], None],
        life: str | None = None,
    ) -> None:
        super().__init__(topic, body, received_us, f"{place.stream}/{place.group}/{entry}")
        self.place = place
        self.entry = entry
        self.fields = fields
        self.later = later
        self.unfinished = 0
        self.left = 0
        self.missed = 0
        self.running = 0
        self.counted = True
        self.life = life
        self.mark = ""
        self._settled = settled

    @property
    def traceparent(self) -> str:
        return as_text(self.fields.get(_TRACE, b""))

    @property
    def identity(self) -> str | None:
        """Its id and, as in a stream made anew another entry may have it, the mark that tells them apart."""
        if self.life is not None and not self.mark:
            self.mark = f"{self.life}/{sha256(whole(self.fields)).hexdigest()[:32]}"
        return f"{self.id}/{self.mark}" if self.mark else self.id

    def ack(self) -> Sequence[Effect]:
        """Acknowledge the entry in the commit that writes its effects."""
        return (Ack(self.place.stream, self.place.group, self.entry),)

    def defer(self, delay: float) -> Sequence[Effect]:
        """Move the entry to the delay set, in one script: no slot, lane or lease waits with it."""
        identity = self.id or ""
        fields = {
            **self.fields,
            _ID: identity.encode(),
            **({_MARK: self.mark.encode()} if self.identity != identity else {}),
            _ATTEMPTS: b"%d" % self.attempts,
            _UNFINISHED: b"%d" % self.unfinished,
            _AT: b"%d" % self.received_us,
        }
        return (Delay(self.later, ceil(delay * 1000), fields, f"{self.later}:at:{identity}"), *self.ack())

    def run_began(self) -> None:
        self.running += 1

    def run_ended(self) -> None:
        self.running -= 1

    def settled(self, label: str) -> None:
        """Tell the source."""
        self._settled(self, label)


class EntryReader:
    """Makes deliveries of entries."""

    def __init__(
        self,
        topic: str,
        later: str,
        clock: Callable[[], int],
        read: ReadEntry | None,
        settled: Callable[[StreamDelivery, str], None],
    ) -> None:
        self._topic = topic
        self._later = later
        self._clock = clock
        self._read = read_ours if read is None else read
        self._settled = settled

    def delivery(
        self, place: GroupKeys, entry: str, fields: Fields, life: str = ""
    ) -> tuple[StreamDelivery, Exception | None]:
        """The delivery of an entry, and why it cannot be understood if so: then it is one to set aside.

        ``life`` is that of its stream.
        """
        own = {name: fields[name] for name in fields if name.startswith(_OWN)}
        plain = {name: value for name, value in fields.items() if name not in own} if own else fields
        topic, received_us, problem = self._topic, self._clock(), None
        try:
            read = self._read(plain)
            if isinstance(read, Delivery):
                topic, body, received_us = read.topic or topic, read.body, read.received_us or received_us
            else:
                body = read
            if self._read is read_ours:
                topic = plain[TOPIC].decode() if TOPIC in plain else topic
                received_us = _number(plain, AT, received_us)
        except Exception as error:  # noqa: BLE001  an entry may be wrong in any way; the others go on
            body, problem = whole(plain), error
        delivery = StreamDelivery(
            place,
            entry,
            plain,
            topic=topic,
            body=body,
            received_us=received_us,
            later=self._later,
            settled=self._settled,
            life=None if own else life,
        )
        if own:
            try:
                delivery.id = own[_ID].decode()
                delivery.mark = own.get(_MARK, b"").decode()
                delivery.attempts = _number(own, _ATTEMPTS, 0)
                delivery.unfinished = _number(own, _UNFINISHED, 0)
                delivery.received_us = _number(own, _AT, received_us)
            except (KeyError, ValueError, BadMessage) as error:
                problem = error
        return delivery, problem


def entries_of(reply: Any, places: Sequence[GroupKeys]) -> list[tuple[GroupKeys, str, Fields]]:
    """The entries in the reply to XREADGROUP (RESP2, raw), each with the group it was read for."""
    if not reply:
        return []
    known = {place.stream.encode(): place for place in places}
    return [
        (known[stream], id_.decode(), dict(zip(fields[::2], fields[1::2], strict=True)))
        for stream, entries in reply
        for id_, fields in entries
    ]


def read_ours(fields: Fields) -> bytes:
    """The body of an entry in our own format."""
    if BODY not in fields:
        names = ", ".join(sorted(name.decode("utf-8", "replace") for name in fields))
        raise BadMessage("$.body", "a field 'body'", f"an entry with fields {names}")
    return fields[BODY]


def _number(fields: Fields, name: bytes, default: int) -> int:
    digits = fields.get(name)
    if digits is None:
        return default
    if not digits.isdigit() or len(digits) > 18:
        raise BadMessage(f"$.{name.decode()}", "a whole number", digits[:40].decode("utf-8", "replace"))
    return int(digits)


def whole(fields: Fields) -> bytes:
    """All fields as a JSON object; a value that is no text becomes {"base64": ...}."""
    return msgspec.json.encode(for_json(fields))
