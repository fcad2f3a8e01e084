"""The command line as a process of its own, as a user starts it."""

from __future__ import annotations

import codecs
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.rig import PATIENCE

ROOT = Path(__file__).parents[2]
T = TypeVar("T")
ESCAPE = re.compile(r"\x1b")


def environment(**more: str) -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("ENRICHER_", "REDIS_", "MONGO_", "CELERY_", "NOTIFY_", "WATCHDOG_"))
    }
    return {**kept, "PYTHONPATH": str(ROOT), **more}


def eventually(condition: Callable[[], T], what: str = "it") -> T:
    """The first true value of ``condition``."""
    limit = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < limit, f"waited in vain for {what}"
        time.sleep(0.02)
    return found


def ran(*arguments: str, folder: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    """A Python with these arguments that has ended by itself."""
    command = [sys.executable, *arguments]
    given = {"cwd": folder, "env": environment(**variables), "capture_output": True, "text": True}
    return subprocess.run(command, timeout=300, check=False, **given)


def finished(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """An `enricher` in ``folder`` that has ended by itself."""
    return ran("-m", "enricher", *arguments, folder=folder, **variables)


class Command:
    """``enricher ARGUMENTS`` in ``folder``; killed on leaving if it still runs."""

    def __init__(
        self, folder: Path, *arguments: str, program: tuple[str, ...] = (), **variables: str
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        number = len(list(folder.glob("out-*")))
        self._out = folder / f"out-{number}"
        self._err = folder / f"err-{number}"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, *(program or ("-m", "enricher")), *arguments],
                cwd=folder,
                env=environment(**variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def out(self) -> str:
        """Standard output so far."""
        return _written(self._out)

    @property
    def err(self) -> str:
        """Standard error so far."""
        return _written(self._err)

    def logged(self) -> list[dict[str, Any]]:
        """The complete lines of standard output as JSON."""
        return [json.loads(line) for line in self.out.splitlines(keepends=True) if line.endswith("\n")]

    def events(self) -> list[str]:
        """The messages logged so far."""
        return [line["message"] for line in self.logged()]

    def until(self, *wanted: str) -> Self:
        """Wait until each of these messages was logged."""
        deadline = time.monotonic() + PATIENCE
        while not set(wanted) <= set(self.events()):
            assert self.process.poll() is None, f"ended early:\n{self.out}\n{self.err}"
            assert time.monotonic() < deadline, f"{wanted} not logged:\n{self.out}\n{self.err}"
            time.sleep(0.02)
        return self

    def signal(self, number: signal.Signals) -> Self:
        """Send a signal."""
        self.process.send_signal(number)
        return self

    def end(self) -> int:
        """Wait for the end; the exit code."""
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"did not end:\n{self.out}\n{self.err}") from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.process.kill()
        self.process.wait()


def _written(path: Path) -> str:
    """What is in the file, without a last character of which only the first bytes have been written yet."""
    return codecs.getincrementaldecoder("utf-8")().decode(path.read_bytes())
