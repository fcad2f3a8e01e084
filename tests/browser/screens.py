"""Which browser there is, and what is wrong with a screen."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page

WIDTHS = (1280, 375)
_WORST = ("serious", "critical")
_WHOLE = {"include": [["html"]]}
_EVERY_RULE: dict[str, Any] = {}
_COLOURS = {"runOnly": ["color-contrast"]}
# Further rows of a table look as the first ones do.
_FIRST_ROWS = {"exclude": [["tbody tr:nth-child(n + 8)"]]}


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


async def wrong(page: Page) -> Sequence[str]:
    """What a reader would stumble over: it scrolls sideways, or axe-core finds something serious.

    It is looked at wide and narrow, in both themes, with every rule once at each width and in each theme; a
    theme differs in its colours alone.
    """
    found: list[str] = []
    await page.evaluate(Axe().axe_script)
    for width in WIDTHS:
        await page.set_viewport_size({"width": width, "height": 800})
        if await page.evaluate("document.documentElement.scrollWidth > innerWidth"):
            found.append(f"{page.url} scrolls sideways at {width} px")
        found += await _violations(page, _WHOLE, _EVERY_RULE)
        await page.locator("#theme").click()
        found += await _violations(page, _FIRST_ROWS, _COLOURS)
    return found


async def _violations(page: Page, within: dict[str, Any], rules: dict[str, Any]) -> list[str]:
    options = {**rules, "resultTypes": ["violations"], "preload": False}
    script = "async ([within, options]) => (await axe.run(within, options)).violations"
    where = await page.evaluate("`${document.documentElement.dataset.theme}, ${innerWidth} px`")
    return [
        f"{page.url} ({where}): {each['id']}: {each['help']}: "
        f"{[node['html'][:160] for node in each['nodes']][:3]}"
        for each in await page.evaluate(script, [within, options])
        if each["impact"] in _WORST
    ]
