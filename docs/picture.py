"""Makes docs/demo.svg: what `enricher demo` shows on a terminal after some seconds.

    python docs/picture.py [--seconds 40] [--width 110] [--height 42] [--rate 500] [--out docs/demo.svg]

The demo runs as it is, with its own servers in a folder that is removed afterwards.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import re
import tempfile
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme

from enricher.cli import logs
from enricher.cli.live import wait
from enricher.cli.options import SettingsOptions
from enricher.config import LogSettings
from enricher.embedded import EmbeddedServers
from enricher.market.cli.demo import Plan, show_demo
from enricher.market.cli.demo_view import Viewer

THEME = TerminalTheme(
    (13, 17, 23),
    (201, 209, 217),
    [
        *((72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34)),
        *((88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)),
    ],
    [
        *((110, 118, 129), (255, 161, 152), (86, 211, 100), (227, 179, 65)),
        *((121, 192, 255), (210, 168, 255), (86, 212, 221), (240, 246, 252)),
    ],
)


async def picture(seconds: float, rate: float, products: int, console: Console) -> None:
    """Run the demo for so many seconds and print the last view on ``console``."""

    async def watch(viewer: Viewer, stop: asyncio.Event) -> None:
        view = await viewer.view()
        while not await wait(stop, 1.0):
            view = await viewer.view()
        console.print(view)

    with tempfile.TemporaryDirectory() as folder:
        servers = EmbeddedServers(Path(folder))
        plan = Plan(seconds, products, rate, seed=7)
        nowhere = Console(file=io.StringIO())
        if await show_demo(SettingsOptions(None, {}), plan, servers, nowhere, watch):
            raise SystemExit("the demo failed")


def main() -> None:
    """Write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--products", type=int, default=4)
    parser.add_argument("--width", type=int, default=110)
    parser.add_argument("--height", type=int, default=42)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("demo.svg"))
    given = parser.parse_args()
    logs.configure(LogSettings(level="error"), "demo")
    console = Console(
        record=True, file=io.StringIO(), force_terminal=True, color_system="standard",
        width=given.width, height=given.height, highlight=False,
    )  # fmt: skip
    asyncio.run(picture(given.seconds, given.rate, given.products, console))
    drawn = console.export_svg(title="enricher demo", theme=THEME)
    # A page that shows the picture loads no font for it: the reader's own will do.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    given.out.write_text(drawn, encoding="utf-8")


if __name__ == "__main__":
    main()
