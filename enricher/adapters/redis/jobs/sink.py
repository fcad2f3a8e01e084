"""The sink of jobs: how runs end, by one script, and their results where these are kept on another server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from redis.asyncio import Redis

from enricher.adapters.redis.client import is_outage, unavailable
from enricher.adapters.redis.jobs.calls import END, end_parts
from enricher.adapters.redis.jobs.records import end_settings
from enricher.adapters.redis.jobs.wires import Part
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.engine.ports import Answer, Claimed, Write
from enricher.errors import SinkUnavailable
from enricher.job_store import RUNS, End, JobQueueSettings
from enricher.log import log
from enricher.redaction import redact
from enricher.texts import as_text

_AT_ONCE = 100
_BYTES_AT_ONCE = 16 * 1024 * 1024


class JobSink:
    """Writes `End` effects, about a hundred to a call; it answers `Claimed` for a run that is not the last.

    Where results have a server of their own they are written there first, if the run is the last: doing that
    twice is harmless.
    """

    name = RUNS
    durable = False

    def __init__(self, settings: JobQueueSettings, client: Redis, results: Redis) -> None:
        self.server = redact(settings.url)
        self._settings = settings
        self._client = client
        self._results = results
        self._first = end_settings(settings)
        self._connection = RawConnection(client, timeout=settings.timeout)

    async def open(self) -> None:
        """Load the script. Raises `SinkUnavailable` if the server is away."""
        try:
            await self._client.script_load(END.text)
        except Exception as error:
            raise unavailable(self.name, error) or error from error

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Write the ends in their order."""
        ends = [(i, end) for i, write in enumerate(writes) for end in write.effects if type(end) is End]
        if not ends:
            return {}
        answers: dict[int, Answer] = {}
        try:
            if self._results is not self._client:
                await self._show([end for _, end in ends])
            for page in _pages(ends):
                parts: list[Part] = [1, self._settings.prefix, *self._first]
                for _, end in page:
                    parts += end_parts(end, shown=self._results is self._client)
                (replies,) = await self._connection.run(END, parts)
                for (index, end), reply in zip(page, replies, strict=True):
                    if reply:
                        answers[index] = Claimed()
                    if reply == b"-":
                        told = {"task": end.run.task, "job": end.run.id, "state": end.state}
                        log.warning("job_is_gone", **told, reason="it was deleted while it ran")
        except Exception as error:
            text = as_text(str(error))
            if is_outage(text):
                await self._connection.close()
                raise SinkUnavailable(self.name, text) from error
            raise unavailable(self.name, error) or error from error
        return answers

    async def _show(self, ends: Sequence[End]) -> None:
        asked = self._client.pipeline(transaction=False)
        for end in ends:
            asked.hmget(f"{self._settings.prefix}:job:{end.run.id}", "run", "state")
        last = await asked.execute()
        pipeline = self._results.pipeline(transaction=False)
        for end, (number, state) in zip(ends, last, strict=True):
            # Of one that was taken for dead and goes on, or is written again, there is nothing to show.
            if end.result and number == b"%d" % end.run.number and state in (b"running", b"waiting"):
                key = f"celery-task-meta-{end.run.id}"
                pipeline.set(key, end.result, ex=end.result_ttl)
                pipeline.publish(key, end.result)
        await pipeline.execute()

    async def close(self) -> None:
        """Close its own connection; the clients belong to who made them."""
        await self._connection.close()


def _pages(ends: Sequence[tuple[int, End]]) -> Iterator[list[tuple[int, End]]]:
    """Parts of ``ends`` that one call takes, for Redis hangs up on one of a gigabyte."""
    page: list[tuple[int, End]] = []
    size = 0
    for each in ends:
        if page and (len(page) == _AT_ONCE or size > _BYTES_AT_ONCE):
            yield page
            page, size = [], 0
        page.append(each)
        end = each[1]
        size += len(end.result) + sum(len(child.payload) for child in end.children)
    yield page
