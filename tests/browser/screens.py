"""Which browser there is, and what is wrong with a screen."""

from __future__ import annotations

import shutil
from collections.abc import Sequence

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

_WORST = ("serious", "critical")


def chromium() -> str | None:
    """The browser of this machine, None if it has none."""
    return shutil.which("chromium")


def listen(page: Page) -> list[str]:
    """What the console of a page says from now on; what breaks the content policy is there too."""
    said: list[str] = []
    page.on("console", lambda message: said.append(f"{page.url}: {message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"{page.url}: {error}"))
    page.on("dialog", lambda dialog: said.append(f"{page.url}: a dialog: {dialog.message}"))
    return said


async def wrong(page: Page, *, accessible: bool = True) -> Sequence[str]:
    """What a reader would stumble over: it scrolls sideways, or axe-core finds something serious."""
    found = []
    if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
        found.append(f"{page.url} scrolls sideways")
    if accessible:
        results = await Axe().run(page)
        found += [
            f"{page.url}: {each['id']}: {each['help']}: {[node['html'][:160] for node in each['nodes']][:3]}"
            for each in results.response["violations"]
            if each["impact"] in _WORST
        ]
    return found
