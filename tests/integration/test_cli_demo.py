"""`enricher demo` from an empty folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from enricher.embedded import read_endpoints
from tests.integration.commands import ESCAPE, PATIENCE, ROOT, Command, environment
from tests.servers import free_port


def own_port() -> dict[str, str]:
    """A port for a demo's dashboard: two that begin at once both find the usual one free."""
    return {"ENRICHER_WEB__LISTEN": f"127.0.0.1:{free_port()}"}


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
        assert "dead letters (on purpose)" in out
        assert "The data stays in enricher-data/demo" in out
        assert read_endpoints(tmp_path / "enricher-data" / "demo") is None
        assert psutil.wait_procs(children, timeout=PATIENCE)[1] == []


def commands(text: str) -> list[str]:
    """The commands that a text shows, one a line, indented by two spaces."""
    return re.findall(r"^  (\S.*(?:enricher|redis|mongo).*)$", text, re.MULTILINE)


def run_as_printed(command: str, folder: Path) -> str:
    """What a command of the demo prints, until it ends or has printed something and is interrupted."""
    with (folder / "printed").open("w+b") as out:
        process = subprocess.Popen(
            command, shell=True, cwd=folder, env=environment(), stdout=out, stderr=out, start_new_session=True
        )
        deadline = time.monotonic() + PATIENCE
        endless = " top" in command or "SUBSCRIBE" in command
        while process.poll() is None and not (endless and (folder / "printed").stat().st_size > 300):
            assert time.monotonic() < deadline, command
            time.sleep(0.05)
        if endless:
            os.killpg(process.pid, signal.SIGINT)
        process.wait(PATIENCE)
        out.seek(0)
        text = out.read().decode()
    assert endless or process.returncode == 0, text
    assert "Traceback" not in text
    return text


@pytest.mark.parametrize("options", [(), ("--data-dir", "elsewhere", "--set", "dead_letters.store=stream")])
def test_its_commands_run_as_they_are_printed(tmp_path: Path, options: tuple[str, ...]) -> None:
    with Command(tmp_path, "demo", *options, **own_port()) as demo:
        until_flowing(demo, r"dead letters [1-9]")
        looking = commands(demo.out)
        assert len(looking) >= 5
        told = {command: run_as_printed(command, tmp_path) for command in looking}
        for part, wanted in (
            (" enricher top", "worker-enricher"),
            (" enricher health", ": ready, "),
            (" enricher dlq list", "market:"),
            ("latest:underlying:NIFTY", '"price"'),
            ("underlying_ticks", "'price'"),
        ):
            (text,) = (text for command, text in told.items() if part in command)
            assert wanted in text
        assert demo.signal(signal.SIGINT).end() == 0, demo.err
        serve, look = commands(demo.out)[len(looking) :]
    server = subprocess.Popen(
        serve, shell=True, cwd=tmp_path, env=environment(), stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert server.stdout is not None
        assert any(b'"ready"' in line for line in server.stdout)
        assert "market:" in run_as_printed(look, tmp_path)
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.communicate(timeout=PATIENCE)


def test_the_picture_of_the_readme_is_made_by_a_script(tmp_path: Path) -> None:
    program = (str(ROOT / "docs" / "picture.py"),)
    arguments = ("--seconds", "3", "--width", "100", "--height", "40", "--out", "demo.svg")
    with Command(tmp_path, *arguments, program=program, **own_port()) as script:
        assert script.end() == 0, script.err
    drawn = (tmp_path / "demo.svg").read_text(encoding="utf-8")
    assert drawn.startswith("<svg")
    assert "BANKNIFTY" in drawn


def test_killed_it_leaves_neither_server_nor_feed_behind_and_runs_again(tmp_path: Path) -> None:
    with Command(tmp_path, "demo", **own_port()) as demo:
        until_flowing(demo)
        children = psutil.Process(demo.process.pid).children(recursive=True)
        assert len(children) >= 3
        demo.signal(signal.SIGKILL).end()
        assert psutil.wait_procs(children, timeout=PATIENCE)[1] == []
    with Command(tmp_path, "demo", "--for", "1s", **own_port()) as again:
        assert again.end() == 0, again.err


def test_a_part_that_ends_by_itself_ends_the_demo_with_1_and_says_which(tmp_path: Path) -> None:
    with Command(tmp_path, "demo", **own_port()) as demo:
        until_flowing(demo)
        for child in psutil.Process(demo.process.pid).children(recursive=True):
            if "feed" in child.cmdline():
                child.kill()
        assert demo.end() == 1
        assert "the feed ended" in demo.err


def test_a_folder_in_use_is_refused_with_1(tmp_path: Path) -> None:
    with Command(tmp_path, "demo", **own_port()) as demo:
        until_flowing(demo)
        with Command(tmp_path, "demo", "--for", "1s", **own_port()) as second:
            assert second.end() == 1
            assert str(demo.process.pid) in second.err
