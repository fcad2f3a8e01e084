"""The runs of a worker: as many jobs as it has free slots are begun, highest queue first, and handed over.

    waiting     one script moves what is due to its queue, reads, begins and replies whole runs (`FETCH`);
                when there is less than there are free slots, a reader waits for the queues to grow, and
                what has come begins with the reply, in a slot that is kept for it
    running     a thread renews the leases (`Leases`), however long the loop is held up
    ended       the sink writes result, state, children and acknowledgement at once; a run that is not the
                job's last any more writes nothing
    silent      jobs of a worker that renews nothing are begun again beside new work, in half of the slots;
                those that took a worker with them before are kept apart, and are set aside after
                ``max_deliveries`` deaths that nobody else can have caused; after an outage everybody gets
                the time to renew first
    lapsed      a worker that was silent, and whose job has begun elsewhere, ends its own run of it
    told        somebody has told it to be quiet: the script begins nothing for it; or to stop: it ends, too
    stopped     what can be ended is, and handed back; a thread cannot, and keeps its lease until it ends
"""

from __future__ import annotations

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import anyio
import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.client import sibling_client
from enricher.adapters.redis.jobs.calls import END, FETCH, end_parts
from enricher.adapters.redis.jobs.control import listen
from enricher.adapters.redis.jobs.delivery import JobDelivery, Poison
from enricher.adapters.redis.jobs.fetch import Fetch
from enricher.adapters.redis.jobs.leases import Leases
from enricher.adapters.redis.jobs.reader import Reader
from enricher.adapters.redis.jobs.records import end_settings
from enricher.adapters.redis.jobs.restore import create
from enricher.adapters.redis.jobs.started import StartedResults
from enricher.adapters.redis.jobs.takeover import AT_ONCE, take_over
from enricher.adapters.redis.raw_connection import RawConnection
from enricher.adapters.redis.reconnect import Connection, ending, own_client, reconnecting
from enricher.engine.ports import Clock, Intake
from enricher.engine.retry import Backoff
from enricher.job_store import Description, End, JobQueueSettings, Run, Runner, Shares
from enricher.log import log


class JobSource:
    """Delivers runs for the routes ``{prefix}:{queue}``, as ``worker``.

    ``client`` says where Redis is; the source has connections of its own. ``shares`` divides free slots among
    the queues. ``description`` says what others see of this worker, ``end`` ends it. ``started`` shows the
    runs where results have a server of their own.
    """

    name = "job queues"

    def __init__(
        self,
        client: Redis,
        settings: JobQueueSettings,
        *,
        worker: str,
        shares: Shares,
        runner: Runner,
        clock: Clock,
        backoff: Backoff,
        description: Description = lambda: b"{}",
        end: Callable[[], None] = lambda: None,
        started: StartedResults | None = None,
    ) -> None:
        self._client = client
        self._end = end
        self._settings = settings
        # Whoever comes after this process under the same name is another worker.
        self._worker = worker = f"{worker}-{secrets.token_hex(2)}"
        shown = settings.result_ttl if started is None else 0
        self._fetch = Fetch(settings, worker, shares, shown=shown)
        self._runner = runner
        self._clock = clock
        self._connection = Connection(self.name, backoff, expected=("NOGROUP",))
        self._under_way: dict[str, JobDelivery] = {}
        # Asked by the thread of the leases; replaced as a whole, never changed.
        self._held: tuple[Run, ...] = ()
        self._counts: Counter[str] = Counter()
        self._started = started
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._reader: Reader | None = None
        # Whether there is nothing to begin before the reader says so, or before its time.
        self._idle = False
        self._stopped = self._served = False
        self._scope: anyio.CancelScope | None = None
        self._leases = Leases(settings, worker, description, lambda: self._held, self._found)
        self._ended = asyncio.Event()

    # -- life --------------------------------------------------------------------------------------

    async def run(self, intake: Intake) -> None:
        """Begin jobs until `stop_intake`; leases are renewed until `close`."""
        self._leases.start()
        self._turn()
        try:
            with anyio.CancelScope() as self._scope:
                await reconnecting(
                    self._connection, lambda: self._serve(intake), wanted=lambda: not self._stopped
                )
        finally:
            self._turning.cancel()
            self._connection.works = False
            self._ended.set()

    async def _serve(self, intake: Intake) -> None:
        # One each: for what it begins, for the reader that waits, for announcements, for the rest.
        clients = [sibling_client(self._client, protocol=2) for _ in range(4)]
        fetching, waiting = (RawConnection(each, timeout=None) for each in clients[:2])
        fetching.timeout = self._settings.timeout
        closes = (fetching.close, waiting.close, *(each.aclose for each in clients))
        self._idle = False
        self._reader = Reader(
            waiting,
            self._settings,
            self._fetch,
            free=self._free,
            hand_over=lambda runs: self._hand_over(runs, intake),
            wake=self._wake.set,
        )
        async with ending(*closes):
            with anyio.fail_after(60):
                for queue in self._settings.queues:
                    await create(clients[2], self._settings, queue)
            if self._served:
                # What began here while the connection broke, and was never told.
                await self._take_over(clients[2], intake, reconnected=True)
            self._connection.up()
            log.info("serving_jobs", queues=list(self._settings.queues), worker=self._worker)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._reader.run)
                heeds = self._runner.cancel, self._told, self._wake.set
                tasks.start_soon(listen, clients[2], self._settings, *heeds)
                if self._started is not None:
                    tasks.start_soon(self._started.run)
                tasks.start_soon(self._look_after, clients[3], intake)
                self._served = True
                while not self._stopped:
                    await self._begin(fetching, self._reader, intake)
                tasks.cancel_scope.cancel()
            # What began for the reader in its last moment goes on elsewhere.
            await self._take_over(clients[3], intake, reconnected=True)

    async def stop_intake(self) -> None:
        """Begin nothing new."""
        self._stopped = True
        self._wake.set()
        if self._scope is not None and not self._connection.works:
            self._scope.cancel()

    async def close(self) -> None:
        """End and hand back what is not finished; what cannot be ended keeps its lease until it ends."""
        if self._scope is not None:
            self._scope.cancel()
            with anyio.move_on_after(2):
                await self._ended.wait()
        going_on = set(await self._runner.stop())
        left = [d.run for d in self._under_way.values()]
        back = [End(run=run, state="waiting") for run in left if run.id not in going_on]
        self._leases.stop([run for run in left if run.id in going_on], self._runner.goes_on)
        if back:
            async with own_client(self._client) as client:
                with suppress(errors.RedisError, OSError), anyio.fail_after(2):
                    await self._hand_back(client, back)

    async def _hand_back(self, client: Redis, ends: Sequence[End]) -> None:
        parts = [part for end in ends for part in end_parts(end, shown=False)]
        await END(client, [self._settings.prefix], *end_settings(self._settings), *parts)

    # -- beginning ---------------------------------------------------------------------------------

    async def _begin(self, connection: RawConnection, reader: Reader, intake: Intake) -> None:
        """Begin what there are free slots for; wait for slots, or for jobs, where there are none."""
        self._wake.clear()
        free = self._free()
        if free <= 0:
            await self._wait(-1)
            return
        again = [d.run.lost for d in self._under_way.values() if d.run.lost]
        (reply,) = await connection.run(FETCH, self._fetch.parts(free, again))
        begun = self._fetch.read(reply)
        await self._hand_over(begun.runs, intake)
        if len(begun.runs) < free:
            reader.drained(begun.newest)
            self._idle = True
            await self._wait(begun.due_ms)
            self._idle = False

    def _free(self) -> int:
        kept = self._reader.kept if self._reader is not None else 0
        return self._settings.concurrency - len(self._under_way) - self._runner.abandoned - kept

    async def _hand_over(self, runs: Sequence[Run], intake: Intake) -> None:
        deliveries = [self._delivery(run) for run in runs]
        self._under_way |= {each.run.id: each for each in deliveries}
        self._hold()
        if self._started is not None:
            self._started.add(runs)
        self._counts["recovered"] += sum(run.lost > 0 for run in runs)
        for delivery in deliveries:
            if intake.full_for(delivery):
                await intake.put(delivery)
            else:
                intake.offer(delivery)

    def _delivery(self, run: Run) -> JobDelivery:
        topic = f"{self._settings.prefix}:{run.queue}"
        return JobDelivery(topic, run, self._clock(), self._runner, self._settled)

    def _hold(self) -> None:
        self._held = tuple(d.run for d in self._under_way.values())

    def _settled(self, delivery: JobDelivery, label: str) -> None:
        if label == "handed_back":
            return
        if self._under_way.get(delivery.run.id) is delivery:
            del self._under_way[delivery.run.id]
            self._hold()
        # A free slot finds nothing in queues that are empty, but among jobs of silent workers it may.
        reading = self._idle and self._reader is not None and self._reader.kept
        if not reading or delivery.run.lost:
            self._wake.set()

    async def _wait(self, due_ms: int) -> None:
        """Until there may be something to begin: news, or what is due."""
        seconds = self._settings.poll if due_ms < 0 else min(due_ms / 1000, self._settings.poll)
        with anyio.move_on_after(max(seconds, 0.001)):
            await self._wake.wait()

    # -- what goes on beside -----------------------------------------------------------------------

    def _turn(self) -> None:
        """Tell the thread of the leases that the loop lives, whether there is a connection or not."""
        self._leases.turn()
        self._turning = self._loop.call_later(min(self._settings.max_block / 3, 1.0), self._turn)

    async def _look_after(self, client: Redis, intake: Intake) -> None:
        """Find the jobs of workers that went silent."""
        lease = self._settings.lease
        while True:
            found = await self._take_over(client, intake)
            again_soon = found < 0 or found >= AT_ONCE
            await anyio.sleep(min(lease / 10, 1.0) if again_soon else lease / 2)

    async def _take_over(self, client: Redis, intake: Intake, *, reconnected: bool = False) -> int:
        mine = [each.run for each in self._under_way.values()]
        found, poison = await take_over(client, self._settings, self._worker, mine, reconnected=reconnected)
        if found > 0:
            if not reconnected:
                log.warning("jobs_of_silent_worker", jobs=found)
            self._wake.set()
        for run in poison:
            self._counts["poison"] += 1
            intake.set_aside(self._delivery(run), "poison", Poison(self._settings))
        return found

    def _told(self, worker: str, order: str) -> None:
        if worker != self._worker:
            return
        self._wake.set()
        if order == "stop":
            self._end()

    def _found(
        self, lapsed: Sequence[Run], gone: Sequence[Run], cancelled: Sequence[Run], order: str
    ) -> None:
        """By the thread of the leases."""
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._heed, lapsed, gone, cancelled, order)

    def _heed(
        self, lapsed: Sequence[Run], gone: Sequence[Run], cancelled: Sequence[Run], order: str
    ) -> None:
        if order == "stop":
            self._end()
        for run in lapsed:
            if self._runner.lapse(run):
                self._counts["lapsed"] += 1
                log.warning("run_lapsed", task=run.task, job=run.id, reason="it has begun elsewhere")
        for run in gone:
            delivery = self._under_way.get(run.id)
            if delivery is not None and not delivery.missing:
                delivery.missing = True
                log.warning("running_job_is_gone", task=run.task, job=run.id)
        for run in cancelled:
            self._runner.cancel(run.id)

    def health(self) -> Mapping[str, Any]:
        """Connected or not, what is under way, what was taken over from silent workers."""
        return {
            "ready": self._connection.works,
            "last_error": self._connection.last_error,
            "worker": self._worker,
            "queues": list(self._settings.queues),
            "under_way": len(self._under_way),
            **{name: self._counts[name] for name in ("recovered", "poison", "lapsed")},
        }
