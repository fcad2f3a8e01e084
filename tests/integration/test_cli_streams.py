"""The command line with standard streams that are closed, full, or read by nobody any more."""

from __future__ import annotations

import subprocess
import sys

ASK = f"{sys.executable} -m enricher"


def ended(command: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of a shell's command."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout, done.stderr


def test_streams_that_are_closed_change_no_exit_code() -> None:
    assert ended(f"{ASK} run --set a.b=1 >&- 2>&- <&-") == (2, "", "")


def test_a_full_disk_behind_standard_output_is_said_in_one_line() -> None:
    assert ended(f"{ASK} --help > /dev/full") == (1, "", "Error: cannot write: No space left on device\n")


def test_a_reader_that_goes_while_tasks_are_under_way_ends_the_command_quietly() -> None:
    program = """
from enricher.cli import main
def broken(*given, **options):
    raise BaseExceptionGroup("tasks", [SystemExit(1), BaseExceptionGroup("more", [BrokenPipeError()])])
main.cli.main = broken
main.main()
"""
    assert ended(f"{sys.executable} -c '{program}'") == (1, "", "")
