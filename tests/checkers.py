"""Programs of others that check files of ours; where one is not installed, that is printed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def tool(name: str) -> str | None:
    """The path of a program on PATH or beside this Python."""
    return shutil.which(name) or shutil.which(name, path=str(Path(sys.executable).parent))


def run(*command: str) -> None:
    """Run a checker; what it had to say is the failure."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def absent(capsys: pytest.CaptureFixture[str], name: str) -> None:
    """Say that a checker is missing."""
    with capsys.disabled():
        print(f"\n{name} is not installed: only the file's own structure was checked")
