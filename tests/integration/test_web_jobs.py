"""Jobs in the dashboard: found, looked at, enqueued, retried, cancelled; queues, schedules, workers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import httpx
import msgspec
import pytest
from redis.asyncio import Redis

from enricher import Enricher, load
from enricher.job_admin import DeleteJob, ListWorkers
from enricher.job_store import Enqueue, Find, JobStore, Request
from enricher.jobs.client import close, connect, current
from enricher.jobs.runs import now_us
from enricher.jobs.selection import JobFilter
from enricher.schedule_store import FindSchedules, Occurrence, RunOccurrences
from tests.integration.worker import WorkerProcess
from tests.jobs_app.answers import Answer
from tests.jobs_app.limits import Fails, Talks
from tests.rig import PATIENCE, until
from tests.servers import free_port


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """The web app of a worker of jobs, asked as a program on this machine does."""
    connect(redis_url)
    given = {"redis.url": redis_url, "market.enabled": False, "jobs.packages": "tests.jobs_app"}
    given["jobs.health_url"] = "http://127.0.0.1:9/"
    async with Enricher(load(overrides=given)) as enricher:
        await enricher.wait_ready()
        transport = httpx.ASGITransport(app=enricher.asgi())
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as found:
            yield found
    await close()


async def get(client: httpx.AsyncClient, path: str, status: int = 200, **query: Any) -> Any:
    answer = await client.get(path if path.startswith("/") else f"/api/v1/{path}", params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


async def post(client: httpx.AsyncClient, path: str, body: Any = None, status: int = 200) -> Any:
    answer = await client.post(path if path.startswith("/") else f"/api/v1/{path}", json=body or {})
    assert answer.status_code == status, answer.text
    return answer.json()


async def ids(client: httpx.AsyncClient, **query: Any) -> list[str]:
    return [each["id"] for each in (await get(client, "jobs", **query))["jobs"]]


def store() -> JobStore:
    return current().in_loop()


async def keep(numbers: Sequence[int], queue: str = "unserved") -> list[str]:
    """Jobs that wait, of a queue that nobody serves."""
    made = [(f"{queue}/{number}", b"[[%d],{}]" % number) for number in numbers]
    jobs = [Request(id=id_, task="app.Mail", queue=queue, payload=said) for id_, said in made]
    return await store().ask(Enqueue(tuple(jobs)))


async def state(id_: str) -> str | None:
    job = await store().ask(Find(id_))
    return None if job is None else job.state


async def ended(client: httpx.AsyncClient) -> dict[str, Any]:
    """The run over many jobs, once it has ended."""
    run: dict[str, Any] = {}

    async def over() -> bool:
        nonlocal run
        try:
            run = await get(client, "bulk")
        except httpx.HTTPError:
            return False
        return run["state"] != "running"

    await until(over, "the run to end")
    return run


async def failed(number: int) -> str:
    handle = await Fails.enqueue(number)
    with pytest.raises(ValueError, match=str(number)):
        await handle.wait(60)
    return handle.id


async def test_jobs_are_found_page_by_page_and_by_what_they_are(client: httpx.AsyncClient) -> None:
    made = [*await keep(range(30)), *await keep(range(30, 45), "other")]
    seen: list[str] = []
    after = ""
    while True:
        page = await get(client, "jobs", state="waiting", limit=7, after=after)
        seen += [each["id"] for each in page["jobs"]]
        assert len(page["jobs"]) <= 7
        after = page["next"]
        if not after:
            break
    assert sorted(seen) == sorted(made)
    assert page["counts"]["waiting"] == 45
    assert {"unserved", "other"} <= set(page["queues"])
    assert await ids(client, state="waiting", queue="other", limit=500) == made[30:]
    assert sorted(await ids(client, state="waiting", args="[[4")) == [*made[40:], "unserved/4"]
    # A page ends at its last job, also where what it looked at has more.
    first = await get(client, "jobs", state="waiting", **{"class": "Mail"}, limit=4)
    rest = await get(client, "jobs", state="waiting", **{"class": "Mail"}, limit=500, after=first["next"])
    assert [each["id"] for each in first["jobs"] + rest["jobs"]] == seen
    assert await ids(client, state="waiting", **{"class": "Other*"}) == []
    assert await ids(client, state="waiting", until="1h") == []
    assert (await get(client, "jobs", 422, state="asleep"))["detail"]
    assert (await get(client, "jobs", 422, after="nowhere|1"))["detail"]
    assert (await get(client, "jobs", 422, since="noon"))["detail"]
    one, gone = await failed(7), await failed(8)
    assert await ids(client, state="failed", error="valueerror: 7") == [one]
    await store().ask(DeleteJob(gone))
    assert await ids(client, state="failed") == [one]


async def test_a_job_is_shown_whole_and_nothing_of_it_is_executed(client: httpx.AsyncClient) -> None:
    evil = '<script>alert(1)</script> redis://me:secret@host/0'
    done = await Answer.enqueue(evil, key={"a": [1]})
    await done.wait(60)
    said = await get(client, f"jobs/{done.id}")
    assert said["job"]["state"] == "succeeded"
    assert '"key"' in said["kwargs"]
    assert '"key"' in said["result"]
    page = await client.get(f"/ui/jobs/{done.id}")
    assert "&lt;script&gt;" in page.text
    for text in (page.text, (await client.get("/ui/jobs?state=succeeded")).text, str(said)):
        assert "secret" not in text
    assert "<script>alert" not in page.text
    wrong = await get(client, f"jobs/{await failed(5)}")
    assert (wrong["error_type"], wrong["error_message"]) == ("ValueError", "5")
    assert "Traceback" in wrong["traceback"]
    assert wrong["log"] == wrong["failures"] == []
    await get(client, "jobs/nobody", 404)
    assert (await client.get("/ui/jobs/nobody")).status_code == 404


async def test_a_job_shows_what_it_has_said_and_how_earlier_attempts_failed(
    client: httpx.AsyncClient, redis_url: str
) -> None:
    handle = await Talks.enqueue(3)

    async def shown(attempts: int) -> dict[str, Any]:
        said: dict[str, Any] = {}

        async def ended() -> bool:
            nonlocal said
            said = await get(client, f"jobs/{handle.id}")
            return len(said["failures"]) == attempts - 1 and said["job"]["state"] == "failed"

        await until(ended, f"{attempts} attempts to fail")
        return said

    said = await shown(2)
    assert [(line["attempt"], line["text"]) for line in said["log"]] == [
        (attempt, text) for attempt in (1, 2) for text in ("line 0", "line 1", "line 2", "odd")
    ]
    assert "size=1" in said["log"][1]["fields"]
    (first,) = said["failures"]
    assert (first["attempt"], first["error_message"]) == (1, "not found in attempt 1")
    assert "Traceback" in first["traceback"]
    assert said["error_message"] == "not found in attempt 2"
    page = (await client.get(f"/ui/jobs/{handle.id}")).text
    assert "not found in attempt 1" in page
    assert "line 2" in page
    assert "secret" not in page + str(said)
    # Tries begin anew with a retry by hand, and what was before is not forgotten.
    await post(client, f"jobs/{handle.id}/retry")
    assert [each["attempt"] for each in (await shown(4))["failures"]] == [1, 2, 1]

    many = await Talks.enqueue(1000)
    with pytest.raises(LookupError):
        await many.wait(60)
    assert (await get(client, f"jobs/{many.id}"))["log"][-2]["text"] == "line 999"
    async with Redis.from_url(redis_url) as redis:
        assert 10_000 < await redis.hstrlen(f"jobs:job:{many.id}", "log") <= 16_384


async def test_one_is_enqueued_retried_cancelled_and_deleted(client: httpx.AsyncClient) -> None:
    task = "tests.jobs_app.answers.Answer"
    form = await get(client, "enqueue")
    assert task in [each["task"] for each in form["classes"]]
    made = await post(client, "enqueue", {"task": task, "args": [1], "kwargs": '{"b": 2}'})
    id_ = made["to"].removeprefix("jobs/")

    async def ended() -> bool:
        return await state(id_) == "succeeded"

    await until(ended, "the job to run")
    assert (await get(client, f"jobs/{id_}"))["result"].replace(" ", "").replace("\n", "") == (
        '{"args":[1],"kwargs":{"b":2}}'
    )
    for wrong in ({"args": "{}"}, {"args": "[1"}, {"kwargs": "7"}, {"at": "noon"}, {"delay": -1}):
        await post(client, "enqueue", {"task": task, **wrong}, 422)
    await post(client, "enqueue", {"task": "tests.jobs_app.limits.Fails", "args": [1, 2, 3]}, 422)
    later = (await post(client, "enqueue", {"task": task, "delay": 1000}))["to"].removeprefix("jobs/")
    assert await state(later) == "scheduled"
    await post(client, f"jobs/{later}/retry")

    async def ran() -> bool:
        return await state(later) == "succeeded"

    await until(ran, "the job to run now")
    await post(client, f"jobs/{later}/retry", status=409)
    await post(client, f"jobs/{later}/cancel", status=409)

    first, *others = await keep(range(4))
    await post(client, f"jobs/{first}/cancel")
    assert await state(first) == "cancelled"
    await post(client, f"jobs/{first}/retry")
    assert await state(first) == "waiting"
    await post(client, f"jobs/{first}/delete")
    assert await state(first) is None
    await post(client, f"jobs/{first}/delete", status=404)
    done = await post(client, "jobs/cancel", {"ids": [*others, later, "nobody"]})
    assert (done["number"], done["message"].split(";")[0]) == (3, "3 cancelled")
    assert "1 no such job" in done["message"]
    assert (await post(client, "jobs/delete", {"ids": others}))["number"] == 3
    await post(client, "jobs/retry", {"ids": []}, 422)


async def test_queues_are_paused_resumed_and_cleared(client: httpx.AsyncClient, redis_url: str) -> None:
    await keep(range(130))

    async def row(name: str) -> dict[str, Any]:
        (found,) = (q for q in (await get(client, "queues"))["queues"] if q["name"] == name)
        return found

    found = await row("unserved")
    assert (found["waiting"], found["workers"], (await row("default"))["workers"]) == (130, 0, 1)
    await post(client, "queues/low/pause")
    assert (await row("low"))["paused"]
    # What was cancelled or deleted waits no more, though its entries are still there.
    await keep(range(150), "low")
    await post(client, "jobs/delete", {"ids": ["low/7", "low/8"]})
    await post(client, "bulk", {"verb": "cancel", "state": "waiting", "class": "Mail", "queue": "low"})
    assert (await ended(client))["processed"] == 148
    assert (await row("low"))["waiting"] == 0
    held = await Answer.options(queue="low").enqueue()
    assert (await row("low"))["waiting"] == 1
    await post(client, "queues/low/resume")
    await held.wait(60)
    assert (await row("low"))["waiting"] == 0
    async with Redis.from_url(redis_url) as redis:
        assert not await redis.exists("jobs:control:gone")
    await post(client, "queues/unserved/clear")
    run = await ended(client)
    assert (run["state"], run["meant"], run["processed"], run["failed"]) == ("done", 130, 130, 0)
    assert (await row("unserved"))["waiting"] == 0
    assert (await get(client, "jobs"))["counts"]["cancelled"] == 278
    for action in ("pause", "clear"):
        await post(client, f"queues/nobody/{action}", status=404)
    # As a worker leaves it that is killed: what came after it began stays.
    await keep(range(200, 230))
    await post(client, "bulk", {"verb": "cancel", "state": "waiting", "rate": 1000})
    assert (await ended(client))["processed"] == 30
    assert (await row("unserved"))["waiting"] == 0
    await keep(range(230, 260))
    began = await now_us(store())
    left = {"id": "x", "rate": 1000.0, "who": "me", "began_us": began, "meant": 50, "verb": "clear"}
    left["wanted"] = JobFilter(states=("waiting",), queues=("unserved",))

    async def later() -> bool:
        return await now_us(store()) > began

    await until(later, "the server's clock to go on")
    late = await keep([300])
    async with Redis.from_url(redis_url) as redis:
        await redis.set("jobs:control:run", msgspec.json.encode(left))
    run = await ended(client)
    assert (run["state"], run["meant"], run["processed"]) == ("done", 50, 50)
    assert await ids(client, state="waiting") == late


async def test_all_that_match_are_acted_on_at_a_pace_until_somebody_stops_it(
    client: httpx.AsyncClient,
) -> None:
    made = [*await keep(range(120)), *await keep(range(500, 503), "other")]
    order = {"verb": "cancel", "state": "waiting", "queue": "unserved", "class": "Mail", "rate": 20}
    for wrong in ({"verb": "retry"}, {"verb": "clear"}, {"state": "succeeded"}, {"rate": 0}):
        await post(client, "bulk", {**order, **wrong}, 422)
    await post(client, "bulk", order)

    async def some() -> bool:
        return bool((await get(client, "bulk"))["processed"] >= 5)

    await until(some, "some to be cancelled")
    late = await keep([700])
    assert "stop that first" in (await post(client, "bulk", order, 409))["detail"]
    assert "stop that first" in (await post(client, "queues/other/clear", status=409))["detail"]
    page = await client.get("/ui/jobs?state=waiting")
    assert "Cancelling waiting jobs" in page.text
    await post(client, "bulk/stop")
    run = await ended(client)
    assert (run["state"], run["why"], run["meant"]) == ("stopped", "by this machine", 120)
    assert 5 <= run["processed"] < 120
    assert (await get(client, "jobs"))["counts"]["cancelled"] == run["processed"]

    await post(client, "bulk", {**order, "rate": 5000, "args": "[[1"})
    assert (await ended(client))["state"] == "done"
    await post(client, "bulk", {**order, "rate": 5000})
    left = await ids(client, state="waiting", limit=500)
    await ended(client)
    assert sorted(await ids(client, state="waiting", limit=500)) == sorted(made[120:])
    assert set(left) >= set(late)
    await post(client, "bulk", {"verb": "retry", "state": "cancelled", "rate": 5000})
    run = await ended(client)
    assert (run["meant"], run["processed"], run["failed"]) == (121, 121, 0)
    await post(client, "bulk", {"verb": "delete", "state": "waiting", "class": "Mail", "rate": 5000})
    assert (await ended(client))["processed"] == 124
    assert set((await get(client, "jobs"))["counts"].values()) == {0}


async def test_a_run_goes_on_after_a_kill_with_the_right_counters(redis_url: str, mongo_url: str) -> None:
    connect(redis_url)
    await keep(range(600))
    port = free_port()
    on = {"ENRICHER_WEB__LISTEN": f"127.0.0.1:{port}", "ENRICHER_JOBS__ENABLED": "true"}
    process = WorkerProcess(redis_url, mongo_url, on, forked=True)
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE) as client, process:
        order = {"verb": "cancel", "state": "waiting", "class": "Mail", "rate": 300}
        await post(client, "bulk", order)

        async def some() -> bool:
            return bool((await get(client, "bulk"))["processed"] >= 100)

        await until(some, "some to be cancelled")
        await process.kill()
        late = await keep([1000])
        await process.start()
        run = await ended(client)
        assert (run["state"], run["meant"], run["processed"], run["failed"]) == ("done", 600, 600, 0)
        assert await ids(client, state="waiting", limit=500) == late
        # One that is told to stop ends as after a signal.
        names = [each["name"] for each in (await get(client, "workers"))["workers"]]
        (name,) = (name for name in names if name.startswith("test-2-"))
        await post(client, f"workers/{name}/stop")
        assert await process.ended() == 0
    assert name not in [each.name for each in await store().ask(ListWorkers())]
    await close()


async def test_workers_and_schedules_are_shown(client: httpx.AsyncClient) -> None:
    (worker,) = (await get(client, "workers"))["workers"]
    assert worker["slots"] == 8
    assert worker["memory"] > 1_000_000
    assert worker["cpu"] >= 0
    (schedule,) = (await get(client, "schedules"))["schedules"]
    assert (schedule["rule"], schedule["queue"]) == ("*/10 * * * *", "default")
    assert schedule["next"] % 600 == 0
    await post(client, f"schedules/{schedule['task']}/run")

    async def ran() -> bool:
        return bool(await ids(client, state="succeeded", **{"class": "HealthCheckWorker"}))

    await until(ran, "the job of the schedule")
    await post(client, "schedules/nothing/run", status=404)

    # What is due of a paused schedule passes, and is not made up for.
    task = schedule["task"]
    made = Request(id="due", task=task, queue="unserved", payload=b"[[],{}]")

    async def due() -> int:
        """How many jobs come of an occurrence in the next ms."""
        since = (await store().ask(FindSchedules((task,)))).since_ms[task]
        return await store().ask(RunOccurrences((Occurrence(since + 1, made),)))

    await post(client, f"schedules/{task}/pause")
    (paused,) = (await get(client, "schedules"))["schedules"]
    assert (paused["paused"], paused["late"]) == (True, False)
    assert await due() == 0
    assert await state("due") is None
    resumed = await now_us(store()) // 1000
    await post(client, f"schedules/{task}/resume")
    times = await store().ask(FindSchedules((task,)))
    assert times.since_ms[task] >= resumed
    assert times.paused == frozenset()
    assert await due() == 1

    # A quiet worker begins nothing.
    await post(client, f"workers/{worker['name']}/quiet")
    assert (await get(client, "workers"))["workers"][0]["told"] == "quiet"
    held = await Answer.enqueue(1)
    resumed = await now_us(store()) // 1000
    await post(client, f"workers/{worker['name']}/resume")
    await held.wait(60)
    begun = await store().ask(Find(held.id))
    assert begun is not None
    assert begun.started_ms >= resumed
    for action in ("quiet", "resume", "stop"):
        await post(client, f"workers/nobody/{action}", status=404)
    for page in ("workers", "schedules", "queues", "jobs", "enqueue"):
        assert (await client.get(f"/ui/{page}")).status_code == 200


async def test_flowers_paths_answer_as_flower_does(client: httpx.AsyncClient) -> None:
    task = "tests.jobs_app.answers.Answer"
    made = await post(client, f"/api/task/async-apply/{task}", {"args": [1, 2]})
    assert made["state"] == "PENDING"
    id_ = made["task-id"]
    result = await get(client, f"/api/task/result/{id_}", timeout=60)
    assert result == {"task-id": id_, "state": "SUCCESS", "result": {"args": [1, 2], "kwargs": {}}}
    info = await get(client, f"/api/task/info/{id_}")
    assert (info["uuid"], info["name"], info["state"], info["args"]) == (id_, task, "SUCCESS", "[1,2]")
    assert info["received"] <= info["started"] <= info["succeeded"]
    applied = await post(client, f"/api/task/apply/{task}", {"kwargs": {"a": 1}})
    assert (applied["state"], applied["result"]["kwargs"]) == ("SUCCESS", {"a": 1})
    wrong = await get(client, f"/api/task/result/{await failed(9)}")
    assert (wrong["state"], wrong["result"]) == ("FAILURE", "ValueError(9)")
    assert "Traceback" in wrong["traceback"]
    assert task in (await get(client, "/api/task/types"))["task-types"]
    await keep(range(3))
    lengths = (await get(client, "/api/queues/length"))["active_queues"]
    assert {"name": "unserved", "messages": 3} in lengths
    assert await post(client, "/api/task/revoke/unserved/1") == {"message": "Revoked 'unserved/1'"}
    assert (await get(client, "/api/task/info/unserved/1"))["state"] == "REVOKED"
    tasks = await get(client, "/api/tasks", limit=2)
    assert set(tasks) <= {"unserved/0", "unserved/1", "unserved/2"}
    assert len(tasks) == 2
    assert list(await get(client, "/api/tasks", state="REVOKED")) == ["unserved/1"]
    assert id_ in await get(client, "/api/tasks", taskname=task)
    ((name, there),) = (await client.get("/api/workers", params={"status": True})).json().items()
    assert there is True
    (worker,) = (await get(client, "/api/workers", workername=name)).values()
    assert worker["stats"]["pool"]["max-concurrency"] == 8
    assert {"name": "critical"} in worker["active_queues"]
    assert task in worker["registered"]
    await get(client, "/api/task/info/nobody", 404)
    await get(client, "/api/workers", 404, workername="nobody")
    await post(client, "/api/task/async-apply/no.such.Task", status=404)
    sent = await post(client, "/api/task/send-task/no.such.Task", {"args": [1], "countdown": 100})
    assert (await get(client, f"/api/task/info/{sent['task-id']}"))["eta"]
