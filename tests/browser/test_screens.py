"""Every screen as people see it: with live data, in both themes, wide and narrow; and what its buttons do."""

from __future__ import annotations

import signal
from typing import Any
from urllib.parse import urlsplit

import httpx
from playwright.async_api import Browser, Locator, Page, expect
from redis.asyncio import Redis

from tests.browser import screens
from tests.browser.conftest import TALKS, Worker
from tests.integration.worker import database
from tests.rig import PATIENCE, until

FOUR_PULSES = """new Promise((done) => {
  let left = 4;
  document.addEventListener("pulse", () => --left || done());
})"""

expect.set_options(timeout=PATIENCE * 1000)


async def live(page: Page, url: str) -> None:
    """Open a screen and wait until the worker's figures have reached it."""
    answer = await page.goto(url)
    assert answer is not None
    assert answer.status == 200, f"{url}: {answer.status}"
    await expect(page.locator("#state")).to_have_text("ready")


def kind_of(url: str) -> tuple[str, ...]:
    """Which screen an address has, whatever it shows: ``("market", "*", "chain")``."""
    first, *rest = urlsplit(url).path.removeprefix("/ui/").split("/")
    return (first, *("*" for _ in rest[:1]), *(part for part in rest[1:] if part.isalpha()))


async def test_every_screen_is_whole(filled: Worker, browser: Browser) -> None:
    page = await browser.new_page(reduced_motion="reduce")
    said = screens.listen(page)
    await live(page, f"{filled.url}/ui/overview")
    names = await page.locator("header nav a").all_inner_texts()
    for key, name in (("]", names[1]), ("[", names[0])):
        await page.keyboard.press(key)
        await expect(page.locator("header nav [aria-current]")).to_have_text(name)
    links = "header nav a, main a, main [aria-label=States] a"
    waiting, problems = [f"{filled.url}/ui/overview", f"{filled.url}/ui/jobs?state=failed"], list[str]()
    seen: set[tuple[str, ...]] = set()
    while waiting:
        url = waiting.pop(0)
        if kind_of(url) in seen or not url.startswith(f"{filled.url}/ui/"):
            continue
        seen.add(kind_of(url))
        await live(page, url)
        problems += await screens.wrong(page)
        # What a list shows may come a moment after the page: it was looked at meanwhile.
        waiting += await page.locator(links).evaluate_all("all => all.map(a => a.href)")
    assert problems + said == []
    lists = ("dead-letters", "events", "jobs", "mails", "market")
    assert {(name, "*") for name in lists} | {("streams",), ("market", "*", "chain"), ("enqueue",)} <= seen


async def test_buttons_do_what_they_say(filled: Worker, browser: Browser) -> None:
    page = await browser.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    events = database(filled.urls.mongo)["events"]
    async with Redis.from_url(filled.urls.redis) as redis:

        async def letters() -> int:
            return int(await redis.llen("dlq:enrichment"))

        # An event that failed once ends well the second time, and its dead letter goes.
        failed = events.find_one({"status": "FAILURE"})
        await live(page, f"{filled.url}/ui/events/{failed['_id']}")
        await page.get_by_role("button", name="Run again").click()
        await expect(page.locator("h1 .badge")).to_have_text("Success")
        assert events.find_one({"_id": failed["_id"]})["status"] == "SUCCESS"
        assert await letters() == 1

        # A dead letter is tried as it is, changed, and thrown away.
        await live(page, f"{filled.url}/ui/dead-letters")
        await page.get_by_role("button", name="Retry", exact=True).click()
        await expect(page.locator(".toast.bad")).to_contain_text("price")
        assert await letters() == 1
        await page.locator("#letters a").first.click()
        good = '{"tick_id": 9, "product": "NIFTY", "price": 1.5, "timestamp": "2026-01-05T09:15:00Z"}'
        await page.get_by_label("The message that is tried").fill(good)
        await page.get_by_role("button", name="Retry with this message").click()
        await page.wait_for_url("**/ui/dead-letters")
        assert await letters() == 0
        ticks = database(filled.urls.mongo)["underlying_ticks"]
        assert ticks.count_documents({"product": "NIFTY", "price": 1.5}) == 1

        await redis.publish("market:underlying", b"no JSON")

        async def one() -> bool:
            return await letters() == 1

        await until(one, "another dead letter")
        await live(page, f"{filled.url}/ui/dead-letters")
        await page.get_by_role("button", name="Discard").click()

        async def none() -> bool:
            return await letters() == 0

        await until(none, "the dead letter to go")
        await expect(page.locator(".nothing")).to_contain_text("No dead letters")


async def test_jobs_are_steered_from_their_screens(worker: Worker, browser: Browser) -> None:
    page = await browser.new_page()
    page.on("dialog", lambda dialog: dialog.accept())

    def button(name: str) -> Locator:
        return page.get_by_role("button", name=name, exact=True)

    async with Redis.from_url(worker.urls.redis) as redis:

        async def is_(expected: Any, *command: str) -> None:
            async def found() -> bool:
                return bool(await redis.execute_command(*command) == expected)

            await until(found, f"{command} to be {expected!r}")

        # One is enqueued, and what can be done with it is done.
        await live(page, f"{worker.url}/ui/enqueue?queue=unserved&task={TALKS}")
        await page.get_by_label("Arguments").first.fill("[3]")
        await button("Enqueue").click()
        await page.wait_for_url("**/ui/jobs/*")
        key = f"jobs:job:{page.url.rpartition('/')[2]}"
        await is_(b"waiting", "HGET", key, "state")
        for name, state in (("Cancel", b"cancelled"), ("Retry", b"waiting")):
            await button(name).click()
            await expect(page.locator("h1 .badge")).to_have_text(state.decode())
            await is_(state, "HGET", key, "state")
        await button("Delete").click()
        await page.wait_for_url("**/ui/jobs")
        await is_(0, "EXISTS", key)

        # What somebody reads stays open while the page goes on asking; what he does is shown all the same.
        await live(page, f"{worker.url}/ui/enqueue?task={TALKS}&args=[1]")
        await button("Enqueue").click()
        await page.wait_for_url("**/ui/jobs/*")
        await expect(page.locator("h1 .badge")).to_have_text("failed")
        await page.locator("summary").click()
        await page.evaluate(FOUR_PULSES)
        await expect(page.locator("details[open] pre")).to_contain_text("not found in attempt 1")
        await button("Retry").click()
        await expect(page.locator("summary")).to_have_count(3)
        await button("Delete").click()
        await page.wait_for_url("**/ui/jobs")

        # Those that are picked, and all that match.
        async with httpx.AsyncClient(base_url=worker.url) as client:
            for number in range(6):
                job = {"task": TALKS, "args": [number], "queue": "unserved", "id": f"job-{number}"}
                assert (await client.post("/api/v1/enqueue", json=job)).status_code == 200
        await live(page, f"{worker.url}/ui/jobs?state=waiting&queue=unserved&args=[[")
        await page.keyboard.press("/")
        await expect(page.locator("#class")).to_be_focused()
        for number in (1, 2):
            await page.get_by_label(f"Pick job-{number}").check()
        await button("Cancel").click()
        await is_(2, "ZCARD", "jobs:finished:cancelled")
        await page.get_by_label("so many a second").fill("1000")
        await button("Cancel all").click()
        await expect(page.get_by_role("heading", name="Cancelled waiting jobs")).to_be_visible()
        await is_(6, "ZCARD", "jobs:finished:cancelled")
        await live(page, f"{worker.url}/ui/jobs?state=cancelled")
        await button("Retry all").click()
        await expect(page.get_by_role("heading", name="Retried cancelled jobs")).to_be_visible()
        await is_(0, "ZCARD", "jobs:finished:cancelled")

        await live(page, f"{worker.url}/ui/queues")
        row = page.locator("#queue-unserved")
        await row.get_by_role("button", name="Pause").click()
        await is_(1, "SISMEMBER", "jobs:paused", "unserved")
        await row.get_by_role("button", name="Resume").click()
        await is_(0, "SISMEMBER", "jobs:paused", "unserved")
        await row.get_by_role("button", name="Clear").click()
        await expect(page.get_by_role("heading", name="Cleared queue unserved")).to_be_visible()
        await is_(6, "ZCARD", "jobs:finished:cancelled")

        await live(page, f"{worker.url}/ui/schedules")
        task = "enricher.jobs.health_check.HealthCheckWorker"
        await button("Pause").click()
        await is_(1, "SISMEMBER", "jobs:schedules:paused", task)
        await button("Resume").click()
        await is_(0, "SISMEMBER", "jobs:schedules:paused", task)
        await button("Run now").click()
        await is_(1, "ZCARD", "jobs:finished:succeeded")

        await live(page, f"{worker.url}/ui/workers")
        (name,) = [name.decode() for name in await redis.zrange("jobs:workers", 0, -1)]
        await button("Quiet").click()
        await is_(b"quiet", "GET", f"jobs:control:told:{name}")
        await button("Resume").click()
        await is_(None, "GET", f"jobs:control:told:{name}")
        await button("Stop").click()
        assert await worker.ended() == 0


async def test_a_page_goes_on_after_the_worker_was_killed(worker: Worker, browser: Browser) -> None:
    page = await browser.new_page()
    await live(page, f"{worker.url}/ui/overview")
    async with Redis.from_url(worker.urls.redis) as redis:

        async def kept() -> bool:
            return await redis.exists("enricher:stats:history:worker-enricher:one") == 1

        await until(kept, "the history to be kept")
    await worker.end(signal.SIGKILL)
    await expect(page.locator("#lost")).to_be_visible()
    await expect(page.locator("#state")).to_have_text("not answering")
    await worker.start()
    await expect(page.locator("#lost")).to_be_hidden()
    await expect(page.locator("#state")).to_have_text("ready")
    await page.reload()
    points = await page.evaluate("JSON.parse(document.getElementById('history').textContent)")
    assert len(points) > 0, "what was before the kill"
