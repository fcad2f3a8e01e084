"""The events of the settings opened for work, and the events that are meant, page by page."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import click

from enricher.adapters.mongo import MongoDocuments, close_client, mongo_client
from enricher.adapters.redis.client import redis_client
from enricher.adapters.search import SearchIndices, search_client
from enricher.cli.output import talking_to
from enricher.cli.signals import until_signal
from enricher.clock import wall_clock
from enricher.config import Settings
from enricher.engine.effects import Unindex
from enricher.engine.ports import Write
from enricher.events.cli.letters import LettersOfEvents
from enricher.events.cli.selection import EventFilter
from enricher.events.documents import Document, Status, removals, waiting_again
from enricher.events.settings import EventSettings

_LEAST_OF_ID = 4
_PAGE = 200


class Events:
    """What a command works with: the settings and both servers. Nothing is connected before it is needed.

    ``letters`` are the dead letters that go with the events, once they were looked for.
    """

    def __init__(self, settings: Settings) -> None:
        self.section = settings.section(EventSettings)
        mongo, server = settings.mongo, settings.redis
        self._search = settings.search
        self._client = mongo_client(mongo.url, driver=mongo.driver, timeout=mongo.timeout)
        self._documents = MongoDocuments(self._client, mongo.database_name)
        self._redis = redis_client(server.url, socket_timeout=server.socket_timeout)
        self.letters = LettersOfEvents(settings)

    async def close(self) -> None:
        """Close all connections."""
        await self.letters.close()
        await self._redis.aclose()
        await self._documents.close()
        await close_client(self._client)

    async def matching(
        self, wanted: EventFilter, statuses: tuple[Status, ...] = ()
    ) -> AsyncIterator[Document]:
        """The events that ``wanted`` lets through, the newest first. Raises `SinkUnavailable`."""
        query, before = wanted.query(statuses), dict[str, Any]()
        order = [("created_at", -1), ("_id", -1)]
        while True:
            asked = {"$and": [query, before]} if before else query
            page = await self._documents.find(self.section.collection, asked, sort=order, limit=_PAGE)
            for event in page:
                if wanted.matches(event):
                    yield event
            if len(page) < _PAGE:
                return
            at, id_ = page[-1]["created_at"], page[-1]["_id"]
            before = {"$or": [{"created_at": {"$lt": at}}, {"created_at": at, "_id": {"$lt": id_}}]}

    async def get(self, name: str) -> Document:
        """The event of this id, or whose id begins so.

        Raises click.UsageError where there is none, or several, and `SinkUnavailable`.
        """
        query: Mapping[str, Any] = {"_id": name}
        if len(name) >= _LEAST_OF_ID:
            query = {"_id": {"$gte": name, "$lt": f"{name}\U0010ffff"}}
        alike = await self._documents.find(self.section.collection, query, sort=[("_id", 1)], limit=5)
        if alike and (len(alike) == 1 or alike[0]["_id"] == name):
            return alike[0]
        if alike:
            ids = ", ".join(event["_id"] for event in alike)
            raise click.UsageError(f"several events begin with {name}: {ids}")
        least = f"; of an id give at least the first {_LEAST_OF_ID} characters"
        raise click.UsageError(f"there is no event {name}" + (least if len(name) < _LEAST_OF_ID else ""))

    async def wait_again(self, event: Document) -> bool:
        """Let it be processed once more; False if it has changed since it was read.

        Raises `SinkUnavailable`, and what the client of Redis does: the sweep of a worker appends it then.
        """
        again = waiting_again(event, wall_clock())
        where = {"_id": event["_id"], "revision": event["revision"]}
        command = {"update": self.section.collection, "updates": [{"q": where, "u": again}]}
        if not (await self._documents.command(command))["n"]:
            return False
        await self._append(event)
        return True

    async def complete(self, event: Document) -> None:
        """Have an event that has succeeded indexed once more. Raises what the client of Redis does."""
        await self._append(event)

    async def _append(self, event: Document) -> None:
        await self._redis.xadd(self.section.stream, {b"id": event["_id"].encode()})
        await self.letters.drop(event["_id"])

    async def delete(self, event: Document) -> bool:
        """Remove it, its result, its dead letters and what is indexed of it. Raises as `wait_again`.

        False if it has changed since it was read: what it changes to is indexed anew.
        """
        if gone := removals(event):
            await self._unindex(gone)
        where = {"_id": event["_id"], "revision": event["revision"]}
        command = {"delete": self.section.collection, "deletes": [{"q": where, "limit": 1}]}
        if not (await self._documents.command(command))["n"]:
            return False
        result = f"celery-task-meta-{event['_id']}"
        await self._redis.delete(result, f"version:{result}", f"{self.section.stream}:{event['_id']}")
        await self.letters.drop(event["_id"])
        return True

    async def _unindex(self, gone: Sequence[Unindex]) -> None:
        client = search_client(self._search)
        try:
            indices = SearchIndices(client, {}, timeout=self._search.timeout, max_bulk=self._search.max_bulk)
            await indices.commit([Write(gone)])
        finally:
            await client.close()


def with_events(settings: Settings, work: Callable[[Events], Awaitable[None]]) -> None:
    """Run ``work`` on the events, until a signal. Errors of Redis become those that name the server."""

    async def main() -> None:
        events = Events(settings)
        try:
            await work(events)
        finally:
            await events.close()

    with talking_to(settings.redis.url):
        until_signal(main)
