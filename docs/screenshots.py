"""Makes pictures of the dashboard: docs/dashboard_{overview,product,letters}.png.

    python docs/screenshots.py http://127.0.0.1:5555 [--out docs] [--chromium /usr/bin/chromium]
    python docs/screenshots.py http://127.0.0.1:5555 --out /tmp --width 375 --theme light jobs streams

A worker must run there: `enricher demo --rate 150`, for some minutes before, so that the lines have a past.
"""

from __future__ import annotations

import argparse
import json
import urllib.request
from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import sync_playwright

# Milliseconds until figures and lines have come: they are told once a second.
SETTLED = 4000


def screens(base: str) -> dict[str, str]:
    """The paths of the screens by the names of their pictures."""
    with urllib.request.urlopen(f"{base}/api/v1/market") as answer:  # noqa: S310  an address of one's own
        products = json.load(answer)["products"]
    if not products:
        raise SystemExit(f"no product has come to {base} yet: try again when the demo shows prices")
    product = f"market/{quote(products[0]['name'], safe='')}"
    return {"overview": "overview", "product": product, "letters": "dead-letters"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base")
    parser.add_argument("paths", nargs="*", help="other screens than those of the docs, such as jobs/ID")
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--theme", choices=("dark", "light"), default="dark")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    given = parser.parse_intermixed_args()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        size = {"width": given.width, "height": 800}
        page = browser.new_page(viewport=size, color_scheme=given.theme)
        wanted = {path.replace("/", "_"): path for path in given.paths} or screens(given.base)
        for name, path in wanted.items():
            page.goto(f"{given.base}/ui/{path}")
            page.wait_for_timeout(SETTLED)
            page.screenshot(path=given.out / f"dashboard_{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
