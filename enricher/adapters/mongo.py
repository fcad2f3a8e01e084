"""The durable sink: documents in MongoDB, through motor or PyMongo's own asyncio client.

This is the only file that knows a MongoDB driver. Both have the same calls, so one adapter serves
both; motor is past its end of life, and ``driver = "pymongo"`` is all it takes to leave it.

One batched insert costs this process about 8 us a document and a single one 350 us, so a commit is one
unordered insert per collection. ``_id`` comes from the message's identity: done again it is a
duplicate key, and the stored document is handed back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from inspect import iscoroutinefunction
from typing import Any, Literal

import anyio
import anyio.to_thread
from bson.errors import BSONError
from pymongo import AsyncMongoClient
from pymongo.errors import (
    CollectionInvalid,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from enricher.engine.effects import DOCUMENTS, SETTLED, Insert, Upsert
from enricher.engine.ports import Answer, Failed, Refused, Stored, Write
from enricher.errors import SinkError, SinkUnavailable, WriteRefused
from enricher.log import log
from enricher.storable import misfit

Driver = Literal["motor", "pymongo"]

DUPLICATE_KEY = 11000
NO_COLLECTION, NO_INDEX, UNAUTHORIZED, COLLECTION_EXISTS = 26, 27, 13, 48
SELECTION_MS = 2000
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
_BAD_INDEX = REFUSAL_CODES | {67, 72, 197}
_INDEX_CONFLICTS = {85, 86}
# As many groups of routes may commit at the same time.
_THREADS = 8

Index = tuple[str, tuple[tuple[str, int], ...]]
Effects = Sequence[tuple[int, Insert | Upsert]]
"""Each with the index of its write."""
Command = tuple[dict[str, Any], Effects]


def mongo_client(url: str, *, driver: Driver, timeout: float) -> Any:
    """A client for ``url``; ``timeout`` (seconds) bounds connecting, choosing a server and each reply.

    Options in the URL win. No connection is made yet. With motor it must be called inside the loop
    it will be used in.
    """
    milliseconds = int(timeout * 1000)
    given = url.partition("?")[2].lower()
    wanted = {
        # An outage should be known, and said, soon: the engine repeats whatever found no server.
        "serverSelectionTimeoutMS": min(milliseconds, SELECTION_MS),
        "connectTimeoutMS": milliseconds,
        "socketTimeoutMS": milliseconds,
    }
    options: dict[str, Any] = {name: ms for name, ms in wanted.items() if name.lower() not in given}
    if driver == "pymongo":
        return AsyncMongoClient(url, **options)
    from motor.motor_asyncio import AsyncIOMotorClient

    return AsyncIOMotorClient(url, **options)


async def close_client(client: Any, patience: float = 1.0) -> None:
    """Close a client of either driver; a frozen server is not waited for longer than ``patience`` seconds.

    Closing ends the server's sessions, which is a request like any other.
    """
    with anyio.move_on_after(patience):
        if iscoroutinefunction(client.close):
            await client.close()
        else:
            await anyio.to_thread.run_sync(client.close, abandon_on_cancel=True)


def unavailable(sink: str, error: PyMongoError) -> SinkUnavailable | None:
    """The outage behind a driver exception; None if it is none."""
    outage = isinstance(error, (ConnectionFailure, WTimeoutError))
    if isinstance(error, OperationFailure):
        outage = outage or error.code in OUTAGE_CODES
    return _waits(sink, error) if outage else None


def _waits(sink: str, error: PyMongoError) -> SinkUnavailable:
    # The driver appends its whole view of the topology, which says the same again at length.
    text = str(error).partition(", Timeout:")[0].partition(", Topology Description:")[0]
    return SinkUnavailable(sink, f"{type(error).__name__}: {text[:300]}")


class CommandRefused(SinkError):
    """The server refuses a command for good; ``code`` is its error code."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(text)


class MongoDocuments:
    """Lands `Insert` and `Upsert`, and reads documents back (dates in UTC).

    The collections of the ``indexes`` and the other ``collections`` are made before anything is written.
    """

    name = DOCUMENTS
    durable = True

    def __init__(
        self,
        client: Any,
        database: str,
        indexes: Sequence[Index] = (),
        *,
        collections: Sequence[str] = (),
        server: str = "",
    ) -> None:
        self.server = server
        self._database = client.get_database(database)
        options = self._database.codec_options.with_options(tz_aware=True)
        self._database = self._database.with_options(codec_options=options)
        self._indexes = indexes
        self._to_make = {*collections, *(collection for collection, _ in indexes)}
        self._making = asyncio.Lock()
        # Under motor there is a client that blocks, and its database (`delegate`) does our commands.
        self._blocking = None if isinstance(client, AsyncMongoClient) else self._database.delegate
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="enricher-mongo")
        concern = self._database.write_concern.document
        self._unordered = {"ordered": False, **({"writeConcern": concern} if concern else {})}

    async def open(self) -> None:
        """Create collections and indexes; those that exist are left as they are."""
        await self._make()
        for collection, keys in self._indexes:
            try:
                await self._database[collection].create_index(list(keys))
            except OperationFailure as error:
                if error.code not in _INDEX_CONFLICTS:
                    raise (error if error.code in _BAD_INDEX else _waits(self.name, error)) from error
                log.warning("index_differs", collection=collection, keys=keys, error=str(error))
            except PyMongoError as error:
                raise unavailable(self.name, error) or error from error

    async def _make(self) -> None:
        """Create the collections that are missing.

        Written to for the first time while an index makes another one, the bundled server (SecantusDB 0.7)
        stands still: its two threads wait for each other.
        """
        async with self._making:
            try:
                there = await self._database.list_collection_names() if self._to_make else ()
                for collection in sorted(self._to_make.difference(there)):
                    with suppress(CollectionInvalid):  # another worker was quicker
                        await self._database.create_collection(collection)
            except OperationFailure as error:
                if error.code not in (UNAUTHORIZED, COLLECTION_EXISTS):
                    raise _waits(self.name, error) from error
            except PyMongoError as error:
                raise unavailable(self.name, error) or error from error
            self._to_make.clear()

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Land the documents: per collection one unordered insert and one unordered update.

        What the state of a lane has to say comes last, and not at all where one of the lane's messages was
        refused: it is in that state, which is loaded anew.
        """
        inserts: dict[str, list[tuple[int, Insert]]] = {}
        of_states: dict[str, list[tuple[int, Insert]]] = {}
        upserts: dict[str, dict[Any, tuple[int, Upsert]]] = {}
        for index, write in enumerate(writes):
            for effect in write.effects:
                if type(effect) is Insert:
                    if "_id" not in effect.document:
                        raise _without_identity(effect)
                    where = inserts if write.label != SETTLED else of_states
                    where.setdefault(effect.collection, []).append((index, effect))
                elif type(effect) is Upsert:
                    if "_id" not in effect.document:
                        raise _without_identity(effect)
                    # Unordered operations on one document would race: one of them says it all.
                    found = upserts.setdefault(effect.collection, {})
                    held = found.get(effect.document["_id"])
                    if held is None or replaces(effect, held[1].document):
                        found[effect.document["_id"]] = (index, effect)
                elif effect.sink == self.name:
                    raise TypeError(f"the MongoDB sink cannot land {type(effect).__name__}")
        first = [self._insert(name, found) for name, found in inserts.items()]
        last: list[Command] = []
        if of_states:
            last += [self._insert(name, found) for name, found in of_states.items()]
        if upserts:
            last += [self._update(name, list(found.values())) for name, found in upserts.items()]
        if not first and not last:
            return {}
        if self._to_make:
            await self._make()
        answers: dict[int, Answer] = {}
        try:
            done = await self._run(first, last, writes)
        except (BSONError, OverflowError, UnicodeError, RecursionError) as error:
            raise _refused(error, writes) from error
        except PyMongoError as error:
            refused = isinstance(error, OperationFailure) and error.code in REFUSAL_CODES
            raise (WriteRefused(str(error)) if refused else unavailable(self.name, error) or error) from error
        for effects, reply in done:
            if "writeErrors" not in reply and "writeConcernError" not in reply:
                continue
            duplicates = self._sort_out(reply, [index for index, _ in effects], answers)
            # One of an `Upsert` is a stored document that the guard found newer: as it should be.
            if duplicates and "nModified" not in reply:
                await self._look_at_stored([effects[i] for i in duplicates], answers)
        return answers

    def _insert(self, name: str, found: Effects) -> Command:
        return {"insert": name, "documents": [e.document for _, e in found], **self._unordered}, found

    def _update(self, name: str, found: Effects) -> Command:
        updates = []
        for _, effect in found:
            query: dict[str, Any] = {"_id": effect.document["_id"]}
            guard = getattr(effect, "guard", None)
            if guard is not None:
                query[guard] = {"$lt": effect.document[guard]}
            if next(iter(effect.document)).startswith("$"):
                raise ValueError(f"{effect.document!r} is an update, not a document")
            updates.append({"q": query, "u": effect.document, "upsert": True})
        return {"update": name, "updates": updates, **self._unordered}, found

    async def _run(
        self, first: Sequence[Command], last: Sequence[Command], writes: Sequence[Write]
    ) -> list[tuple[Effects, dict[str, Any]]]:
        """The effects of each command and its reply, in order. Raises the first failure.

        These are the commands that `insert_many` and `bulk_write` send, without the Python they spend on
        every document: the driver encodes all of them in one call in C.
        """
        if self._blocking is not None:
            # Motor would take a thread for each. One does them in turn: a trip to a thread and back costs
            # more than a small insert, and a large one keeps the server busy by itself.
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, _in_turn, self._blocking, first, last, writes)
        database, options = self._database, self._database.codec_options
        done = [(found, await database.command(command, codec_options=options)) for command, found in first]
        for command, found in _without_refused(last, done, writes) if last else ():
            done.append((found, await database.command(command, codec_options=options)))
        return done

    async def _look_at_stored(self, duplicates: Effects, answers: dict[int, Answer]) -> None:
        """Answer with the documents that were there already, for those whose effects depend on them."""
        asked = [(i, e) for i, e in duplicates if type(e) is Insert and e.stored is not None]
        if not asked:
            return
        query = {"_id": {"$in": [effect.document["_id"] for _, effect in asked]}}
        stored = {document["_id"]: document for document in await self.find(asked[0][1].collection, query)}
        for index, effect in asked:
            document = stored.get(effect.document["_id"])
            if document is not None and index not in answers:
                answers[index] = Stored(document)

    def _sort_out(
        self, reply: Mapping[str, Any], indices: Sequence[int], answers: dict[int, Answer]
    ) -> list[int]:
        """Positions of duplicate ``_id``s; other errors become answers, or an outage is raised."""
        if "writeConcernError" in reply:
            raise SinkUnavailable(self.name, f"write concern: {reply['writeConcernError']}")
        duplicates = []
        for error in reply.get("writeErrors", ()):
            code, text = error.get("code"), str(error.get("errmsg", ""))
            if _is_identity(error):
                duplicates.append(error["index"])
            elif code in OUTAGE_CODES:
                raise SinkUnavailable(self.name, f"{code}: {text}")
            else:
                kind = Refused if code in REFUSAL_CODES else Failed
                answers[indices[error["index"]]] = kind(text, f"WriteError {code}")
        return duplicates

    async def command(self, command: Mapping[str, Any]) -> Mapping[str, Any]:
        """The reply to a command. Raises `SinkUnavailable`, or `CommandRefused` with the server's code."""
        if self._to_make:
            await self._make()
        try:
            return await self._database.command(command)  # type: ignore[no-any-return]
        except PyMongoError as error:
            outage = unavailable(self.name, error)
            if isinstance(error, OperationFailure) and (outage is None or error.code == UNAUTHORIZED):
                raise CommandRefused(error.code or 0, str(error)[:300]) from error
            raise outage or error from error

    async def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """Documents that match ``query``. Raises `SinkUnavailable`."""
        # One more than wanted: after a batch as large as the limit servers keep the cursor for another trip.
        cursor = self._database[collection].find(query, limit=limit, batch_size=limit + 1 if limit else 0)
        if sort:
            cursor = cursor.sort(list(sort))
        try:
            return list(await cursor.to_list(None))
        except PyMongoError as error:
            raise unavailable(self.name, error) or error from error

    async def close(self) -> None:
        """End its threads; the client belongs to who made it."""
        self._threads.shutdown(wait=False)


def replaces(effect: Upsert, stored: Mapping[str, Any]) -> bool:
    """Whether ``effect`` would replace the document ``stored`` under its ``_id``."""
    guard = effect.guard
    return guard is None or (guard in stored and stored[guard] < effect.document[guard])


def _refused(error: Exception, writes: Sequence[Write]) -> WriteRefused:
    """What cannot be encoded: where, once it is known whose it is."""
    documents = [e.document for e in writes[0].effects if isinstance(e, (Insert, Upsert))]
    found = next(filter(None, map(misfit, documents)), None) if len(writes) == 1 else None
    if found is None:
        return WriteRefused(str(error))
    return WriteRefused(f"{error}: {found.path}: expected {found.expected}, got {found.found}", found.path)


def _without_identity(effect: Insert | Upsert) -> ValueError:
    """What is refused, since a server would name it anew each time that it is written."""
    names = ", ".join(map(str, effect.document)) or "nothing"
    where = f"a document for {effect.collection!r}"
    return ValueError(f"{where} needs an '_id' of its message's own; it has {names}")


def _is_identity(error: Mapping[str, Any]) -> bool:
    """Whether an error is a duplicate ``_id``; servers before 4.4 say so in the text alone."""
    if error.get("code") != DUPLICATE_KEY:
        return False
    pattern = error.get("keyPattern")
    return set(pattern) == {"_id"} if pattern else "index: _id" in str(error.get("errmsg", ""))


def _in_turn(
    database: Any, first: Sequence[Command], last: Sequence[Command], writes: Sequence[Write]
) -> list[tuple[Effects, dict[str, Any]]]:
    options = database.codec_options
    done = [(found, database.command(command, codec_options=options)) for command, found in first]
    if last:
        for command, found in _without_refused(last, done, writes):
            done.append((found, database.command(command, codec_options=options)))
    return done


def _without_refused(
    last: Sequence[Command], done: Sequence[tuple[Effects, Mapping[str, Any]]], writes: Sequence[Write]
) -> Sequence[Command]:
    """The commands in ``last`` without what states have to say that hold a message which was not stored."""
    owners = {
        writes[found[error["index"]][0]].owner
        for found, reply in done
        for error in reply.get("writeErrors", ())
        if error.get("code") in REFUSAL_CODES and not _is_identity(error)
    } - {None}
    if not owners:
        return last
    left: list[Command] = []
    for command, found in last:
        kept = [writes[i].label != SETTLED or writes[i].owner not in owners for i, _ in found]
        name = "updates" if "update" in command else "documents"
        documents = [document for document, keep in zip(command[name], kept, strict=True) if keep]
        if documents:
            effects = [effect for effect, keep in zip(found, kept, strict=True) if keep]
            left.append(({**command, name: documents}, effects))
    return left
