"""Become a server that dies together with the process that started it.

Run as a script, by its path: ``python -I -S launcher.py PARENT_PID COMMAND [ARGUMENT ...]``. It
asks the kernel for SIGKILL at the death of its parent, looks whether that parent is still there
(it may have died before the kernel was asked), and replaces itself by the command, which keeps
the request. SIGKILL and not SIGTERM: both servers are safe against a crash, and a child that
takes its time to stop would still hold its folder when the next start wants it.

The request is Linux's own; elsewhere the command is started without it. The parent in question is
the *thread* that started the process, so start servers from a thread that lives as long as they.

This file imports nothing of ``enricher``, so that a server starts in milliseconds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    """Exec the command of ``arguments``; ends with status 1 when the parent has gone."""
    parent, command = int(arguments[0]), arguments[1:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        raise SystemExit(1)
    os.execv(command[0], command)  # noqa: S606 - a shell in between would have a pid of its own


if __name__ == "__main__":
    main(sys.argv[1:])
