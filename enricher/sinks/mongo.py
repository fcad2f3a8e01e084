"""The durable sink: documents in MongoDB, through motor or PyMongo's own asyncio client.

This is the only file that knows a MongoDB driver. Both have the same calls, so one adapter serves
both; motor is past its end of life, and ``driver = "pymongo"`` is all it takes to leave it.

One batched insert costs this process about 8 us a document and a single one 350 us, so a commit is one
unordered `insert_many` per collection. ``_id`` comes from the message's identity: done again it is a
duplicate key, and the stored document is handed back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from inspect import iscoroutinefunction
from typing import Any, Literal

import anyio
import anyio.to_thread
import structlog
from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient, ReplaceOne
from pymongo.errors import (
    BulkWriteError,
    ConnectionFailure,
    OperationFailure,
    PyMongoError,
    WTimeoutError,
)

from enricher.engine.effects import DOCUMENTS, Answer, Insert, Refused, Stored, Upsert, Write
from enricher.errors import SinkUnavailable

log = structlog.get_logger("enricher")

Driver = Literal["motor", "pymongo"]

DUPLICATE_KEY = 11000
SELECTION_MS = 2000
# Server codes that mean "not now" or "not you", never "not this document": host unreachable, network
# timeout, unauthorized, authentication failed, exceeded time limit, shutdown, not primary, write
# conflict, out of disk space and their kin (mongo/src/mongo/base/error_codes.yml).
OUTAGE_CODES = frozenset(
    {6, 7, 13, 18, 50, 64, 89, 91, 112, 133, 189, 202, 262, 317, 358, 9001}
    | {10107, 11600, 11601, 11602, 13388, 13435, 13436, 14031}
)
_INDEX_CONFLICTS = {85, 86}

Index = tuple[str, tuple[tuple[str, int], ...]]


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
    if isinstance(error, OperationFailure) and not isinstance(error, BulkWriteError):
        outage = outage or error.code in OUTAGE_CODES
    # The driver appends its whole view of the topology, which says the same again at length.
    text = str(error).partition(", Timeout:")[0].partition(", Topology Description:")[0]
    return SinkUnavailable(sink, f"{type(error).__name__}: {text[:300]}") if outage else None


class MongoDocuments:
    """Lands `Insert` and `Upsert`, and reads documents back (dates in UTC)."""

    name = DOCUMENTS
    durable = True

    def __init__(
        self, client: Any, database: str, indexes: Sequence[Index] = (), *, server: str = ""
    ) -> None:
        self.server = server
        self._database = client.get_database(database, codec_options=CodecOptions(tz_aware=True))
        self._indexes = indexes

    async def open(self) -> None:
        """Create the indexes; those that exist are left as they are."""
        for collection, keys in self._indexes:
            try:
                await self._database[collection].create_index(list(keys))
            except OperationFailure as error:
                if error.code not in _INDEX_CONFLICTS:
                    raise unavailable(self.name, error) or error from error
                log.warning("index_differs", collection=collection, keys=keys, error=str(error))
            except PyMongoError as error:
                raise unavailable(self.name, error) or error from error

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Land the documents: per collection one unordered insert and one unordered bulk write."""
        inserts: dict[str, tuple[list[int], list[Insert]]] = {}
        upserts: dict[str, dict[Any, tuple[int, Upsert]]] = {}
        for index, write in enumerate(writes):
            for effect in write.effects:
                if type(effect) is Insert:
                    indices, effects = inserts.setdefault(effect.collection, ([], []))
                    indices.append(index)
                    effects.append(effect)
                elif type(effect) is Upsert:
                    # Unordered operations on one document would race: one of them says it all.
                    found = upserts.setdefault(effect.collection, {})
                    held = found.get(effect.document["_id"])
                    if held is None or replaces(effect, held[1].document):
                        found[effect.document["_id"]] = (index, effect)
                elif effect.sink == self.name:
                    raise TypeError(f"the MongoDB sink cannot land {type(effect).__name__}")
        answers: dict[int, Answer] = {}
        jobs = [(self._insert, name, *found, answers) for name, found in inserts.items()]
        more = [(self._upsert, name, found, answers) for name, found in upserts.items()]
        if len(jobs) + len(more) == 1:
            job = (jobs or more)[0]
            await job[0](*job[1:])
        elif jobs or more:
            await _together([*jobs, *more])
        return answers

    async def _insert(
        self, name: str, indices: list[int], effects: list[Insert], answers: dict[int, Answer]
    ) -> None:
        collection = self._database[name]
        try:
            await collection.insert_many([e.document for e in effects], ordered=False)
        except BulkWriteError as error:
            duplicates = self._sort_out(error.details, indices, answers)
        except PyMongoError as error:
            raise unavailable(self.name, error) or error from error
        else:
            return
        asked = [i for i in duplicates if effects[i].stored is not None]
        if not asked:
            return
        found = await self.find(name, {"_id": {"$in": [effects[i].document["_id"] for i in asked]}})
        stored = {document["_id"]: document for document in found}
        for i in asked:
            document = stored.get(effects[i].document["_id"])
            if document is not None and indices[i] not in answers:
                answers[indices[i]] = Stored(document)

    async def _upsert(
        self, name: str, effects: dict[Any, tuple[int, Upsert]], answers: dict[int, Answer]
    ) -> None:
        operations = []
        for identity, (_, effect) in effects.items():
            query: dict[str, Any] = {"_id": identity}
            if effect.guard is not None:
                query[effect.guard] = {"$lt": effect.document[effect.guard]}
            operations.append(ReplaceOne(query, effect.document, upsert=True))
        try:
            await self._database[name].bulk_write(operations, ordered=False)
        except BulkWriteError as error:
            # A duplicate key here is a stored document that the guard found newer: as it should be.
            self._sort_out(error.details, [index for index, _ in effects.values()], answers)
        except PyMongoError as error:
            raise unavailable(self.name, error) or error from error

    def _sort_out(
        self, details: Mapping[str, Any], indices: list[int], answers: dict[int, Answer]
    ) -> list[int]:
        """Positions of duplicate ``_id``s; other errors become refusals, or an outage is raised."""
        if details.get("writeConcernErrors"):
            raise SinkUnavailable(self.name, f"write concern: {details['writeConcernErrors'][0]}")
        duplicates = []
        for error in details.get("writeErrors", ()):
            code, text = error.get("code"), str(error.get("errmsg", ""))
            if code == DUPLICATE_KEY and _is_identity(error, text):
                duplicates.append(error["index"])
            elif code in OUTAGE_CODES:
                raise SinkUnavailable(self.name, f"{code}: {text}")
            else:
                answers[indices[error["index"]]] = Refused(text, f"WriteError {code}")
        return duplicates

    async def find(
        self,
        collection: str,
        query: Mapping[str, Any],
        *,
        sort: Sequence[tuple[str, int]] = (),
        limit: int = 0,
    ) -> list[dict[str, Any]]:
        """Documents that match ``query``. Raises `SinkUnavailable`."""
        cursor = self._database[collection].find(query, limit=limit)
        if sort:
            cursor = cursor.sort(list(sort))
        try:
            return list(await cursor.to_list(None))
        except PyMongoError as error:
            raise unavailable(self.name, error) or error from error

    async def close(self) -> None:
        """Nothing: the client belongs to who made it."""


def replaces(effect: Upsert, stored: Mapping[str, Any]) -> bool:
    """Whether ``effect`` would replace the document ``stored`` under its ``_id``."""
    guard = effect.guard
    return guard is None or (guard in stored and stored[guard] < effect.document[guard])


def _is_identity(error: Mapping[str, Any], text: str) -> bool:
    """Whether a duplicate key is the ``_id``; servers before 4.4 say so in the text alone."""
    pattern = error.get("keyPattern")
    return set(pattern) == {"_id"} if pattern else "index: _id" in text


async def _together(jobs: Sequence[tuple[Any, ...]]) -> None:
    """Run all jobs; the first outage (or other error) is raised plainly, after all have ended."""
    errors: list[Exception] = []

    async def one(job: tuple[Any, ...]) -> None:
        try:
            await job[0](*job[1:])
        except Exception as error:  # noqa: BLE001  raised below
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(one, job)
    if errors:
        raise next((e for e in errors if isinstance(e, SinkUnavailable)), errors[0])
