"""The durable sink: documents in MongoDB, through motor or PyMongo's own asyncio client.

Beside `mongo_lean`, `mongo_encoded` and what listens for slow commands this is the only file that knows a
MongoDB driver. Both drivers have the same calls, so one adapter serves both; motor is past its end of life,
and ``driver = "pymongo"`` is all it takes to leave it. That is also the faster way: motor needs a thread for
each commit.

One batched insert costs this process about 8 us a document and a single one 350 us, so a commit is one
unordered insert per collection. ``_id`` comes from the message's identity: done again it is a
duplicate key, and the stored document is handed back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
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

from enricher.adapters.command_threads import CommandThreads
from enricher.adapters.mongo_commands import (
    BAD_INDEX,
    COLLECTION_EXISTS,
    INDEX_CONFLICTS,
    OUTAGE_CODES,
    REFUSAL_CODES,
    UNAUTHORIZED,
    Command,
    CommandRefused,
    Effects,
    commands,
    is_identity,
    refused,
    without_refused,
)
from enricher.adapters.mongo_encoded import encoded
from enricher.adapters.mongo_lean import BlockingCommands, Commands, LeanPool
from enricher.adapters.mongo_numbers import PLAIN
from enricher.adapters.mongo_slow import SlowCommands
from enricher.engine.effects import DOCUMENTS, Insert
from enricher.engine.ports import Answer, Failed, Refused, Stored, Write
from enricher.errors import SinkUnavailable, WriteRefused
from enricher.log import log
from enricher.metrics import Metric

Driver = Literal["motor", "pymongo"]
COSTS: Mapping[Driver, str] = {
    "motor": "a thread for each commit; pymongo takes up to a tenth less CPU",
    "pymongo": "no threads, up to a tenth less CPU than motor",
}
"""What a commit takes with each driver, for people to read."""

_SELECTION_MS = 2000
# As many groups of routes may commit at the same time.
_THREADS = 8

Index = tuple[str, tuple[tuple[str, int], ...]]


def mongo_client(url: str, *, driver: Driver, timeout: float, slow: SlowCommands | None = None) -> Any:
    """A client for ``url``; ``timeout`` (seconds) bounds connecting, choosing a server and each reply.

    Options in the URL win. No connection is made yet. With motor it must be called inside the loop
    it will be used in.
    """
    milliseconds = int(timeout * 1000)
    given = url.partition("?")[2].lower()
    wanted = {
        # An outage should be known, and said, soon: the engine repeats whatever found no server.
        "serverSelectionTimeoutMS": min(milliseconds, _SELECTION_MS),
        "connectTimeoutMS": milliseconds,
        "socketTimeoutMS": milliseconds,
    }
    options: dict[str, Any] = {name: ms for name, ms in wanted.items() if name.lower() not in given}
    options["event_listeners"] = [] if slow is None else [slow]
    if driver == "pymongo":
        return AsyncMongoClient(url, **options, _pool_class=LeanPool)
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
    is_outage = isinstance(error, (ConnectionFailure, WTimeoutError))
    if isinstance(error, OperationFailure):
        is_outage = is_outage or error.code in OUTAGE_CODES
    return outage(sink, error) if is_outage else None


def outage(sink: str, error: PyMongoError) -> SinkUnavailable:
    """The error as an outage, in few words."""
    # The driver appends its whole view of the topology, which says the same again at length.
    text = str(error).partition(", Timeout:")[0].partition(", Topology Description:")[0]
    return SinkUnavailable(sink, f"{type(error).__name__}: {text[:300]}")


class MongoDocuments:
    """Writes `Insert` and `Upsert`, and reads documents back (dates in UTC).

    The collections of the ``indexes`` and the other ``collections`` are made before anything is written.
    ``slow`` listens to the client's commands.
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
        slow: SlowCommands | None = None,
    ) -> None:
        self.server = server
        self._slow = slow
        options = client.get_database(database).codec_options.with_options(tz_aware=True)
        self._database = client.get_database(database, codec_options=options)
        self._reading = client.get_database(database, codec_options=options.with_options(type_registry=PLAIN))
        self._indexes = indexes
        self._to_make = {*collections, *(collection for collection, _ in indexes)}
        self._making = asyncio.Lock()
        # Under motor there is a client that blocks, and its database (`delegate`) does our commands.
        if isinstance(client, AsyncMongoClient):
            self._commands: Commands | BlockingCommands = Commands(client, database, options)
        else:
            self._commands = BlockingCommands(self._database.delegate)
        self._threads = CommandThreads(_THREADS)
        concern = self._database.write_concern.document
        self._unordered = {"ordered": False, **({"writeConcern": concern} if concern else {})}

    async def metrics(self) -> Sequence[Metric]:
        """The slow commands, where somebody listens to them."""
        return () if self._slow is None else (self._slow.metric(),)

    async def open(self) -> None:
        """Create collections and indexes; those that exist are left as they are."""
        await self._make()
        for collection, keys in self._indexes:
            try:
                await self._database[collection].create_index(list(keys))
            except OperationFailure as error:
                if error.code not in INDEX_CONFLICTS:
                    raise (error if error.code in BAD_INDEX else outage(self.name, error)) from error
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
                    raise outage(self.name, error) from error
            except PyMongoError as error:
                raise unavailable(self.name, error) or error from error
            self._to_make.clear()

    def prepare(self, write: Write) -> None:
        """Encode the documents that ``write`` inserts."""
        options = self._database.codec_options
        write.effects = [encoded(e, options) if type(e) is Insert else e for e in write.effects]

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Write the documents: per collection one unordered insert and one unordered update.

        What the state of a lane has to say comes last, and not at all where one of the lane's messages was
        refused: it is in that state, which is loaded anew.
        """
        first, last = commands(writes, self._unordered)
        if not first and not last:
            return {}
        if self._to_make:
            await self._make()
        answers: dict[int, Answer] = {}
        try:
            done = await self._run(first, last, writes)
        except (BSONError, OverflowError, UnicodeError, RecursionError) as error:
            raise refused(error, writes) from error
        except PyMongoError as error:
            if isinstance(error, OperationFailure) and error.code in REFUSAL_CODES:
                raise WriteRefused(str(error)) from error
            raise unavailable(self.name, error) or error from error
        for effects, reply in done:
            if "writeErrors" not in reply and "writeConcernError" not in reply:
                continue
            duplicates = self._sort_out(reply, [index for index, _ in effects], answers)
            # One of an `Upsert` is a stored document that the guard found newer: as it should be.
            if duplicates and "nModified" not in reply:
                await self._look_at_stored([effects[i] for i in duplicates], answers)
        return answers

    async def _run(
        self, first: Sequence[Command], last: Sequence[Command], writes: Sequence[Write]
    ) -> list[tuple[Effects, dict[str, Any]]]:
        """The effects of each command and its reply, in order. Raises the first failure."""
        commands = self._commands
        if isinstance(commands, BlockingCommands):
            # Motor would take a thread for each. One does them in turn: a trip to a thread and back costs
            # more than a small insert, and a large one keeps the server busy by itself.
            done: list[tuple[Effects, dict[str, Any]]]
            done = await self._threads.run(_in_turn, commands, first, last, writes)
            return done
        done = [(effects, await commands.run(body)) for body, effects in first]
        for body, effects in without_refused(last, done, writes) if last else ():
            done.append((effects, await commands.run(body)))
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
            if is_identity(error):
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
            away = unavailable(self.name, error)
            if isinstance(error, OperationFailure) and (away is None or error.code == UNAUTHORIZED):
                raise CommandRefused(error.code or 0, str(error)[:300]) from error
            raise away or error from error

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
        cursor = self._reading[collection].find(query, limit=limit, batch_size=limit + 1 if limit else 0)
        if sort:
            cursor = cursor.sort(list(sort))
        try:
            return list(await cursor.to_list(None))
        except PyMongoError as error:
            raise unavailable(self.name, error) or error from error

    async def close(self) -> None:
        self._threads.close()
        if isinstance(self._commands, Commands):
            await self._commands.close()
        else:
            self._commands.close()


def _in_turn(
    blocking: BlockingCommands, first: Sequence[Command], last: Sequence[Command], writes: Sequence[Write]
) -> list[tuple[Effects, dict[str, Any]]]:
    done = [(effects, blocking.run(body)) for body, effects in first]
    for body, effects in without_refused(last, done, writes) if last else ():
        done.append((effects, blocking.run(body)))
    return done
