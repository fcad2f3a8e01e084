"""What a program holds of a job: its id, and from it status and result."""

from __future__ import annotations

from typing import Any

from enricher.job_store import Cancel, Forget, Result, State
from enricher.jobs import client, results
from enricher.jobs.errors import WrongPlace


class Handle:
    """A job by its ``id``, from wherever: ``AsyncResult(id).get(timeout=60)``.

    What asks the store takes a round trip, and raises `StoreUnavailable` if there is no answer. A result is
    kept for its ``result_ttl`` seconds; afterwards the job is as one that nobody knows: ``PENDING``.
    """

    __slots__ = ("_child", "_stores", "id")

    def __init__(self, id: str, stores: client.Stores | None = None, *, child: bool = False) -> None:  # noqa: A002
        self.id = id
        self._stores = stores
        self._child = child

    def __repr__(self) -> str:
        return f"<Job {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)

    def __reduce__(self) -> tuple[type[Handle], tuple[str]]:
        return Handle, (self.id,)

    @property
    def status(self) -> str:
        """PENDING (unknown, too), STARTED, RETRY, SUCCESS, FAILURE or REVOKED."""
        return self._outcome().status

    @property
    def state(self) -> str:
        """As ``status``."""
        return self.status

    @property
    def result(self) -> Any:
        """What `perform` returned; after a failure, a cancel or before a retry the exception; else None."""
        return results.value_of(self._outcome())

    @property
    def traceback(self) -> str | None:
        """The traceback of the last failure, as text."""
        return self._outcome().traceback

    def ready(self) -> bool:
        """Whether it has ended."""
        return self.status in results.ENDED

    def successful(self) -> bool:
        """Whether it has succeeded."""
        return self.status == "SUCCESS"

    def failed(self) -> bool:
        """Whether it has failed."""
        return self.status == "FAILURE"

    def get(self, timeout: float | None = 60) -> Any:
        """What `perform` returned, once it has; waits for at most ``timeout`` seconds (None: for ever).

        Raises what `perform` raised if its class is imported here, else `JobFailed`; `JobCancelled`;
        TimeoutError.
        """
        if client.runs_jobs_here():
            raise WrongPlace(
                "get() would stop this loop, in which jobs run, until the time is up: "
                f"await its twin, `await job.wait(timeout)` (job {self.id})"
            )
        self._refuse_child("get")
        return self._ended(self._reach().blocking().wait(self.id, timeout), timeout)

    async def wait(self, timeout: float | None = 60) -> Any:
        """As `get`, without holding the loop."""
        self._refuse_child("wait")
        return self._ended(await self._reach().in_loop().wait(self.id, timeout), timeout)

    def cancel(self) -> bool:
        """Cancel it: at once if it waits, by telling its worker if it runs. False: it had ended."""
        return _cancels(self._reach().blocking().ask(Cancel(self.id, results.revoked(self.id))))

    async def cancel_async(self) -> bool:
        """As `cancel`, without holding the loop."""
        return _cancels(await self._reach().in_loop().ask(Cancel(self.id, results.revoked(self.id))))

    def forget(self) -> None:
        """Remove its stored result."""
        self._reach().blocking().ask(Forget(self.id))

    def _reach(self) -> client.Stores:
        return self._stores or client.current()

    def _outcome(self) -> results.Outcome:
        return results.read(self.id, self._reach().blocking().ask(Result(self.id)))

    def _ended(self, data: bytes | None, timeout: float | None) -> Any:
        outcome = results.read(self.id, data)
        if outcome.status not in results.ENDED:
            raise TimeoutError(f"job {self.id} has no result after {timeout} s: it is {outcome.status}")
        value = results.value_of(outcome)
        if outcome.status == "SUCCESS":
            return value
        raise value

    def _refuse_child(self, name: str) -> None:
        if self._child:
            raise WrongPlace(
                f"{name}() of a child waits for ever: job {self.id} is enqueued when its parent succeeds. "
                f"Enqueue it at once with perform_async, or ask for AsyncResult({self.id!r}) later, elsewhere"
            )


AsyncResult = Handle


def _cancels(state: State | None) -> bool:
    return state in ("waiting", "scheduled", "running", "retrying")
