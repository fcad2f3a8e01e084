"""Results of jobs as Celery's own client reads them, unmodified."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
import redis
from celery import Celery
from celery.exceptions import TaskRevokedError
from celery.result import AsyncResult as CelerysResult

from enricher.jobs import results


class OurError(Exception):
    pass


class Pair(Exception):
    """One that is made of two."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


Store = Callable[[str, bytes], None]


@pytest.fixture
def celery(redis_url: str) -> Celery:
    return Celery("anybody", broker=redis_url, backend=redis_url)


@pytest.fixture
def store(redis_url: str) -> Store:
    """Keeps and publishes a result as the end of a run does."""
    client = redis.Redis.from_url(redis_url)

    def keep(id: str, result: bytes) -> None:  # noqa: A002
        client.set(f"{results.KEY}{id}", result, ex=3600)
        client.publish(f"{results.KEY}{id}", result)

    return keep


def raised(error: Exception) -> Exception:
    try:
        raise error
    except Exception as caught:
        return caught


def test_a_job_that_nobody_knows_is_pending(celery: Celery) -> None:
    assert CelerysResult(str(uuid4()), app=celery).status == "PENDING"


def test_a_success_is_read(celery: Celery, store: Store) -> None:
    id_, child = str(uuid4()), str(uuid4())
    now = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)
    store(id_, results.success(id_, {"rows": [1, None, "é"]}, children=[child], now=now))
    result = CelerysResult(id_, app=celery)
    assert (result.status, result.ready(), result.successful()) == ("SUCCESS", True, True)
    assert result.get(timeout=60) == result.result == {"rows": [1, None, "é"]}
    assert [each.id for each in result.children or ()] == [child]
    assert result.date_done == now


def test_who_waits_is_told(celery: Celery, store: Store) -> None:
    id_ = str(uuid4())
    waiting = CelerysResult(id_, app=celery)
    end = threading.Timer(0.2, store, (id_, results.success(id_, 5)))
    end.start()
    assert waiting.get(timeout=60) == 5
    end.join()


def test_what_is_forgotten_is_gone(celery: Celery, store: Store) -> None:
    id_ = str(uuid4())
    store(id_, results.success(id_, 5))
    CelerysResult(id_, app=celery).forget()
    assert CelerysResult(id_, app=celery).status == "PENDING"


@pytest.mark.parametrize("error", [ValueError("bad", 7), OurError("ours"), Pair(3, "three"), KeyError("x")])
def test_a_failure_is_raised_again(celery: Celery, store: Store, error: Exception) -> None:
    id_ = str(uuid4())
    store(id_, results.failure(id_, raised(error)))
    result = CelerysResult(id_, app=celery)
    assert (result.status, result.failed()) == ("FAILURE", True)
    assert "in raised" in str(result.traceback)
    with pytest.raises(type(error)) as caught:
        result.get(timeout=60)
    assert caught.value.args == error.args


def test_an_exception_that_the_reader_does_not_have_keeps_its_name(celery: Celery, store: Store) -> None:
    id_ = str(uuid4())
    unknown: Any = type("QuotaExceeded", (Exception,), {"__module__": "nowhere.at.all"})
    store(id_, results.failure(id_, raised(unknown("used up"))))
    with pytest.raises(Exception, match="used up") as caught:
        CelerysResult(id_, app=celery).get(timeout=60)
    assert type(caught.value).__name__ == "QuotaExceeded"


def test_one_that_runs_or_is_tried_again_is_seen(celery: Celery, store: Store) -> None:
    id_ = str(uuid4())
    result = CelerysResult(id_, app=celery)
    store(id_, results.started(id_, "host-1"))
    assert (result.status, result.ready(), result.result) == ("STARTED", False, {"hostname": "host-1"})
    store(id_, results.retry(id_, raised(OurError("once more"))))
    assert (result.status, result.ready()) == ("RETRY", False)
    assert isinstance(result.result, OurError)


def test_a_cancelled_one_is_revoked(celery: Celery, store: Store) -> None:
    id_ = str(uuid4())
    store(id_, results.revoked(id_, "not needed"))
    result = CelerysResult(id_, app=celery)
    assert result.status == "REVOKED"
    with pytest.raises(TaskRevokedError, match="not needed"):
        result.get(timeout=60)


def test_what_celery_has_written_is_read_here(celery: Celery, redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url)

    def outcome(store: Callable[[str], Any]) -> results.Outcome:
        id_ = str(uuid4())
        store(id_)
        return results.read(id_, client.get(f"{results.KEY}{id_}"))  # type: ignore[arg-type]

    done = outcome(lambda id_: celery.backend.store_result(id_, {"rows": 3}, "SUCCESS"))
    assert results.value_of(done) == {"rows": 3}
    failed = outcome(lambda id_: celery.backend.mark_as_failure(id_, raised(Pair(3, "three"))))
    error = results.value_of(failed)
    assert isinstance(error, Pair)
    assert (error.code, failed.status) == (3, "FAILURE")
