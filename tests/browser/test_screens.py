"""Every screen as people see it: with live data, in both themes, wide and narrow; and what its buttons do."""

from __future__ import annotations

import signal

from playwright.async_api import Browser, Page, expect
from redis.asyncio import Redis

from tests.browser import screens
from tests.browser.conftest import Worker
from tests.integration.worker import database
from tests.rig import PATIENCE, until

expect.set_options(timeout=PATIENCE * 1000)


async def live(page: Page, url: str) -> None:
    """Open a screen and wait until the worker's figures have reached it."""
    answer = await page.goto(url)
    assert answer is not None
    assert answer.status == 200, f"{url}: {answer.status}"
    await expect(page.locator("#state")).to_have_text("ready")


async def ways(page: Page, url: str) -> list[str]:
    """The screens of the menu, and of each list the first that it leads to."""
    await live(page, url)
    menu = await page.locator("header nav a").evaluate_all("all => all.map(a => a.href)")
    found = []
    for entry in menu:
        found.append(entry)
        await live(page, entry)
        # What a list shows may come a moment after the page.
        inside = page.locator(f"main a[href*='{entry.removeprefix(url)}/']")
        if await inside.count():
            found.append(await inside.first.evaluate("a => a.href"))
    return found


async def test_every_screen_is_whole(worker: Worker, browser: Browser) -> None:
    page = await browser.new_page()
    every = await ways(page, worker.url)
    await live(page, f"{worker.url}/ui/overview")
    names = await page.locator("header nav a").all_inner_texts()
    for key, name in (("]", names[1]), ("[", names[0])):
        await page.keyboard.press(key)
        await expect(page.locator("header nav [aria-current]")).to_have_text(name)
    await page.close()
    assert len(every) > 8
    problems: list[str] = []
    for theme in ("dark", "light"):
        for width in (1280, 375):
            context = await browser.new_context(
                viewport={"width": width, "height": 800},
                color_scheme="dark" if theme == "dark" else "light",
                reduced_motion="reduce",
            )
            for url in every:
                page = await context.new_page()
                said = screens.listen(page)
                await live(page, url)
                # Narrow differs from wide in what fits, and not in colours or names.
                problems += await screens.wrong(page, accessible=width == 1280)
                problems += said
                await page.close()
            await context.close()
    assert problems == []


async def test_buttons_do_what_they_say(worker: Worker, browser: Browser) -> None:
    page = await browser.new_page()
    page.on("dialog", lambda dialog: dialog.accept())
    events = database(worker.urls.mongo)["events"]
    async with Redis.from_url(worker.urls.redis) as redis:

        async def letters() -> int:
            return int(await redis.llen("dlq:enrichment"))

        # An event that failed once ends well the second time, and its dead letter goes.
        failed = events.find_one({"status": "FAILURE"})
        await live(page, f"{worker.url}/ui/events/{failed['_id']}")
        await page.get_by_role("button", name="Run again").click()
        await expect(page.locator("h1 .badge")).to_have_text("Success")
        assert events.find_one({"_id": failed["_id"]})["status"] == "SUCCESS"
        assert await letters() == 1

        # A dead letter is tried as it is, changed, and thrown away.
        await live(page, f"{worker.url}/ui/dead-letters")
        await page.get_by_role("button", name="Retry", exact=True).click()
        await expect(page.locator(".toast.bad")).to_contain_text("price")
        assert await letters() == 1
        await page.locator("#letters a").first.click()
        good = '{"tick_id": 9, "product": "NIFTY", "price": 1.5, "timestamp": "2026-01-05T09:15:00Z"}'
        await page.get_by_label("The message that is tried").fill(good)
        await page.get_by_role("button", name="Retry with this message").click()
        await page.wait_for_url("**/ui/dead-letters")
        assert await letters() == 0
        ticks = database(worker.urls.mongo)["underlying_ticks"]
        assert ticks.count_documents({"product": "NIFTY", "price": 1.5}) == 1

        await redis.publish("market:underlying", b"no JSON")

        async def one() -> bool:
            return await letters() == 1

        await until(one, "another dead letter")
        await live(page, f"{worker.url}/ui/dead-letters")
        await page.get_by_role("button", name="Discard").click()

        async def none() -> bool:
            return await letters() == 0

        await until(none, "the dead letter to go")
        await expect(page.locator(".nothing")).to_contain_text("No dead letters")


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
