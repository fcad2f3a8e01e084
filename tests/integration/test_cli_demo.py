"""`enricher demo` from an empty folder."""

from __future__ import annotations

import re
import signal
import time
from pathlib import Path

import psutil

from enricher.embedded import read_endpoints
from tests.integration.commands import ESCAPE, PATIENCE, Command


def until_flowing(demo: Command, pattern: str = r"out [1-9]") -> None:
    """Wait until a line shows that messages come out of the worker, or whatever ``pattern`` matches."""
    deadline = time.monotonic() + PATIENCE
    while not re.search(pattern, demo.out):
        assert demo.process.poll() is None, demo.err + demo.out
        assert time.monotonic() < deadline, demo.out
        time.sleep(0.05)


def test_it_shows_rates_latency_prices_and_dead_letters_until_ctrl_c_and_ends_with_0(tmp_path: Path) -> None:
    options = ("--products", "2", "--rate", "300", "--set", "dead_letters.store=stream")
    with Command(tmp_path, "demo", *options) as demo:
        until_flowing(demo, r"dead letters [1-9]")
        children = psutil.Process(demo.process.pid).children(recursive=True)
        assert demo.signal(signal.SIGINT).end() == 0, demo.err
        out = demo.out
        assert not ESCAPE.search(out)
        counts = {
            name: int(number.replace(",", "")) for number, name in re.findall(r"([\d,]+) (\w+)[,.]", out)
        }
        assert counts["lost"] == 0
        assert counts["processed"] + counts["duplicate"] + counts["dead"] == counts["received"] > 50
        assert f"Dead letters ({counts['dead']:,} in all)" in out
        timed = next(line for line in out.splitlines() if "enriched message received" in line)
        assert int(timed.split()[-1].replace(",", "")) > 0
        nifty = next(line for line in out.splitlines() if line.strip().startswith("NIFTY"))
        assert "-" not in nifty.split()
        assert "redis-cli -u redis://127.0.0.1:" in out
        assert "XREVRANGE dlq:enrichment + - COUNT 1" in out
        assert "The data stays in enricher-data/demo" in out
        assert read_endpoints(tmp_path / "enricher-data" / "demo") is None
        assert psutil.wait_procs(children, timeout=PATIENCE)[1] == []


def test_killed_it_leaves_neither_server_nor_feed_behind_and_runs_again(tmp_path: Path) -> None:
    with Command(tmp_path, "demo") as demo:
        until_flowing(demo)
        children = psutil.Process(demo.process.pid).children(recursive=True)
        assert len(children) >= 3
        demo.signal(signal.SIGKILL).end()
        assert psutil.wait_procs(children, timeout=PATIENCE)[1] == []
    with Command(tmp_path, "demo", "--for", "1s") as again:
        assert again.end() == 0, again.err


def test_a_part_that_ends_by_itself_ends_the_demo_with_1_and_says_which(tmp_path: Path) -> None:
    with Command(tmp_path, "demo") as demo:
        until_flowing(demo)
        for child in psutil.Process(demo.process.pid).children(recursive=True):
            if "feed" in child.cmdline():
                child.kill()
        assert demo.end() == 1
        assert "the feed ended" in demo.err


def test_a_folder_in_use_is_refused_with_1(tmp_path: Path) -> None:
    with Command(tmp_path, "demo") as demo:
        until_flowing(demo)
        with Command(tmp_path, "demo", "--for", "1s") as second:
            assert second.end() == 1
            assert str(demo.process.pid) in second.err
