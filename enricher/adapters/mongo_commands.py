"""The commands that write effects to MongoDB as data, and what the codes in its replies mean.

These are the commands that `insert_many` and `bulk_write` send, without the Python they spend on every
document: the driver encodes all of them in one call in C.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import compress
from typing import Any

from enricher.engine.effects import DOCUMENTS, SETTLED, Insert, Upsert
from enricher.engine.ports import Write
from enricher.errors import SinkError, WriteRefused
from enricher.storable import misfit

DUPLICATE_KEY = 11000
NO_COLLECTION, NO_INDEX, UNAUTHORIZED, COLLECTION_EXISTS = 26, 27, 13, 48
# Server codes that mean "not now" or "not you", never "not this document": host unreachable, network
# timeout, unauthorized, authentication failed, a lock that is held, exceeded time limit, shutdown, not
# primary, write conflict, out of disk space, too many requests and their kin
# (mongo/src/mongo/base/error_codes.yml; 16500 is Azure's).
OUTAGE_CODES = frozenset(
    {6, 7, 13, 18, 24, 46, 50, 64, 89, 91, 107, 112, 133, 134, 149, 189, 202, 262, 290, 317, 358, 391}
    | {462, 9001, 10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031, 16500}
)
# What a server says of one document, whoever sends it and whenever: bad value, failed to parse, wrong type,
# overflow, invalid length, invalid BSON, names with a dollar or a dot or none, an immutable field, a failed
# validation, a name that is no collection's, a duplicate in another index, too large, too deep, a value that
# an index cannot take, a capped collection's document that would grow.
REFUSAL_CODES = frozenset(
    {2, 9, 14, 15, 16, 22, 28, 52, 53, 54, 55, 56, 57, 66, 73, 121, 204, 10003, 10334, 11000, 11001, 12582}
    | {15998, 16755, 16766, 17280, 17419, 17420, 31025}
)
# An index that can never be made, as it is asked for.
BAD_INDEX = REFUSAL_CODES | {67, 72, 197}
INDEX_CONFLICTS = {85, 86}

Effects = Sequence[tuple[int, Insert | Upsert]]
"""Each with the index of its write."""
Command = tuple[dict[str, Any], Effects]


def commands(
    writes: Sequence[Write], options: Mapping[str, Any]
) -> tuple[list[Command], list[Command]]:
    """The commands for what messages say, and for what states say: those come last.

    Per collection one insert and one update, with ``options``. Raises ValueError for a document without an
    ``_id``, TypeError for an effect that is none of documents.
    """
    inserts: dict[str, list[tuple[int, Insert]]] = {}
    of_states: dict[str, list[tuple[int, Insert]]] = {}
    upserts: dict[str, dict[Any, tuple[int, Upsert]]] = {}
    for index, write in enumerate(writes):
        for effect in write.effects:
            if type(effect) is Insert:
                if "_id" not in effect.document:
                    raise without_identity(effect)
                where = inserts if write.label != SETTLED else of_states
                where.setdefault(effect.collection, []).append((index, effect))
            elif type(effect) is Upsert:
                if "_id" not in effect.document:
                    raise without_identity(effect)
                # Unordered operations on one document would race: one of them says it all.
                newest = upserts.setdefault(effect.collection, {})
                earlier = newest.get(effect.document["_id"])
                if earlier is None or replaces(effect, earlier[1].document):
                    newest[effect.document["_id"]] = (index, effect)
            elif effect.sink == DOCUMENTS:
                raise TypeError(f"the MongoDB sink cannot write {type(effect).__name__}")
    last = [_insert(name, effects, options) for name, effects in of_states.items()]
    last += [_update(name, list(newest.values()), options) for name, newest in upserts.items()]
    return [_insert(name, effects, options) for name, effects in inserts.items()], last


def _insert(name: str, effects: Effects, options: Mapping[str, Any]) -> Command:
    documents = [effect.document for _, effect in effects]
    return {"insert": name, "documents": documents, **options}, effects


def _update(name: str, effects: Sequence[tuple[int, Upsert]], options: Mapping[str, Any]) -> Command:
    updates = []
    for _, effect in effects:
        query: dict[str, Any] = {"_id": effect.document["_id"]}
        if effect.guard is not None:
            query[effect.guard] = {"$lt": effect.document[effect.guard]}
        if next(iter(effect.document)).startswith("$"):
            raise ValueError(f"{effect.document!r} is an update, not a document")
        updates.append({"q": query, "u": effect.document, "upsert": effect.create})
    return {"update": name, "updates": updates, **options}, effects


def replaces(effect: Upsert, stored: Mapping[str, Any]) -> bool:
    """Whether ``effect`` would replace the document ``stored`` under its ``_id``."""
    guard = effect.guard
    return guard is None or (guard in stored and stored[guard] < effect.document[guard])


def without_refused(
    last: Sequence[Command], done: Sequence[tuple[Effects, Mapping[str, Any]]], writes: Sequence[Write]
) -> Sequence[Command]:
    """The commands in ``last`` without what states have to say that hold a message which was not stored."""
    owners = {
        writes[effects[error["index"]][0]].owner
        for effects, reply in done
        for error in reply.get("writeErrors", ())
        if error.get("code") in REFUSAL_CODES and not is_identity(error)
    } - {None}
    if not owners:
        return last
    left: list[Command] = []
    for command, effects in last:
        kept = [writes[i].label != SETTLED or writes[i].owner not in owners for i, _ in effects]
        name = "updates" if "update" in command else "documents"
        documents = list(compress(command[name], kept))
        if documents:
            left.append(({**command, name: documents}, list(compress(effects, kept))))
    return left


class CommandRefused(SinkError):
    """The server refuses a command for good; ``code`` is its error code."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


def refused(error: Exception, writes: Sequence[Write]) -> WriteRefused:
    """What cannot be encoded: where, once it is known whose it is."""
    documents = [e.document for e in writes[0].effects if isinstance(e, (Insert, Upsert))]
    wrong = next(filter(None, map(misfit, documents)), None) if len(writes) == 1 else None
    if wrong is None:
        return WriteRefused(str(error))
    return WriteRefused(f"{error}: {wrong.path}: expected {wrong.expected}, got {wrong.found}", wrong.path)


def without_identity(effect: Insert | Upsert) -> ValueError:
    """What is refused, since a server would name it anew each time that it is written."""
    names = ", ".join(map(str, effect.document)) or "nothing"
    where = f"a document for {effect.collection!r}"
    return ValueError(f"{where} needs an '_id' of its message's own; it has {names}")


def is_identity(error: Mapping[str, Any]) -> bool:
    """Whether an error is a duplicate ``_id``; servers before 4.4 say so in the text alone."""
    if error.get("code") != DUPLICATE_KEY:
        return False
    pattern = error.get("keyPattern")
    return set(pattern) == {"_id"} if pattern else "index: _id" in str(error.get("errmsg", ""))
