"""Processes for tests that begin at once: forked from one that has imported everything and runs nothing."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

# What the forked ones need; the process that they are forked from imports this module.
import enricher.cli.run  # noqa: F401
from enricher.cli.main import main

_PR_SET_PDEATHSIG = 1
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload([__name__, "tests.integration.streams"])


class Forked:
    """A process that runs ``target(*arguments)``; used like a `subprocess.Popen`."""

    def __init__(self, target: Callable[..., object], *arguments: Any) -> None:
        self._process = _FORKS.Process(target=_run, args=(target, arguments), daemon=True)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """The exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        """As `returncode`."""
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, and return the exit code. Raises `TimeoutError`."""
        self._process.join(timeout)
        code = self.returncode
        if code is None:
            raise TimeoutError(f"process {self._process.pid} has not ended after {timeout} s")
        return code

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it still runs."""
        if self.returncode is None and self._process.pid is not None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        self.send_signal(signal.SIGKILL)


def command(
    arguments: Sequence[str], environment: Mapping[str, str], folder: Path, log: Path | None = None
) -> Forked:
    """``python -m enricher`` with these arguments, environment and working folder; appends to ``log``."""
    return Forked(_command, list(arguments), dict(environment), folder, log)


def _command(arguments: list[str], environment: dict[str, str], folder: Path, log: Path | None) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    if log is not None:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    main(arguments)


def _run(target: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    # It ends with whoever forks, and that one with the tests.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    target(*arguments)
