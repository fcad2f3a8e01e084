"""Documents leave MongoDB by themselves: one TTL index per collection, as the settings say.

It is made, changed in place and dropped. Its name is its own, so that one that somebody else made is never
touched. The server looks about once a minute for what is older than it says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import anyio

from enricher.adapters.mongo import MongoDocuments
from enricher.adapters.mongo_commands import NO_COLLECTION, NO_INDEX, UNAUTHORIZED, CommandRefused
from enricher.engine.retry import Backoff
from enricher.errors import SinkUnavailable
from enricher.log import log

NAME: Final = "enricher_retention"
FIELD: Final = "processed_at"

# The build of an index on a large collection outlives the request that asked for it, which is made again.
_AGAIN = Backoff(base=1.0, max_delay=60.0)

Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """What is to be done about the index of one collection; ``why`` says what stands in the way."""

    kind: Literal["none", "create", "change", "replace", "drop", "foreign"]
    why: str = ""


def decide(indexes: Sequence[Document], seconds: int) -> Step:
    """What makes these indexes (as listIndexes shows them) keep documents for ``seconds``, 0 for ever."""
    ours = next((index for index in indexes if index["name"] == NAME), None)
    others = [i for i in indexes if i["name"] != NAME and dict(i["key"]) == {FIELD: 1}]
    if not seconds:
        return Step("none" if ours is None else "drop")
    if ours is None:
        if not others:
            return Step("create")
        name, kept = others[0]["name"], others[0].get("expireAfterSeconds")
        if kept == seconds:
            return Step("none")
        does = "removes nothing" if kept is None else f"removes documents after {kept} s"
        return Step("foreign", f"the index {name} on {FIELD} is not ours and {does}; drop it first")
    if dict(ours["key"]) != {FIELD: 1} or "expireAfterSeconds" not in ours:
        return Step("replace")
    return Step("none" if int(ours["expireAfterSeconds"]) == seconds else "change")


class Retention:
    """Makes the indexes keep each collection for its time: ``plan`` {collection: seconds}."""

    def __init__(self, documents: MongoDocuments, plan: Mapping[str, int]) -> None:
        self._documents = documents
        self._plan = plan

    async def run(self) -> None:
        """Go on until every collection is as planned; beside the service, which does not wait for it."""
        waiting, attempt = dict(self._plan), 0
        while waiting:
            for collection, seconds in list(waiting.items()):
                try:
                    await self._apply(collection, seconds)
                except SinkUnavailable:
                    continue
                except CommandRefused as error:
                    # Who keeps all need not be allowed to look; what another worker has dropped is gone.
                    if seconds or error.code not in (UNAUTHORIZED, NO_INDEX):
                        _not_applied(collection, seconds, str(error))
                del waiting[collection]
            attempt += 1
            if waiting:
                log.debug("retention_waits", collections=list(waiting), attempt=attempt)
                await anyio.sleep(_AGAIN.delay(attempt))

    async def _apply(self, collection: str, seconds: int) -> None:
        step = decide(await self._indexes(collection), seconds)
        if step.kind == "none":
            return
        if step.kind == "foreign":
            _not_applied(collection, seconds, step.why)
            return
        if step.kind in ("drop", "replace"):
            await self._documents.command({"dropIndexes": collection, "index": NAME})
        if step.kind in ("create", "replace"):
            index = {"key": {FIELD: 1}, "name": NAME, "expireAfterSeconds": seconds}
            await self._documents.command({"createIndexes": collection, "indexes": [index]})
        if step.kind == "change":
            change = {"name": NAME, "expireAfterSeconds": seconds}
            await self._documents.command({"collMod": collection, "index": change})
        log.info("retention_applied", collection=collection, seconds=seconds, step=step.kind)

    async def _indexes(self, collection: str) -> Sequence[Document]:
        # A collection has 64 at most, which fit one batch.
        question = {"listIndexes": collection, "cursor": {"batchSize": 100}}
        try:
            reply = await self._documents.command(question)
        except CommandRefused as error:
            if error.code == NO_COLLECTION:
                return ()
            raise
        return reply["cursor"]["firstBatch"]  # type: ignore[no-any-return]


def _not_applied(collection: str, seconds: int, why: str) -> None:
    log.error("retention_not_applied", collection=collection, seconds=seconds, error=why)
