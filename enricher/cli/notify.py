"""The service manager's side of the process: ready, alive, stopping (sd_notify).

One datagram per message to the socket systemd names in ``NOTIFY_SOCKET``. Anywhere else there is
no such socket, and nothing happens.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ServiceManager:
    """Who to tell; ``address`` is the path of a socket, ``@name`` an abstract one, None nobody.

    Every method says whether the message went out. None ever raises or waits: a service manager
    that does not listen is no reason for a worker to stop.
    """

    address: str | None = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> ServiceManager:
        """The service manager that started this process, if one did."""
        return cls(environ.get("NOTIFY_SOCKET") or None)

    def ready(self, status: str = "") -> bool:
        """Start-up is over."""
        return self._send("READY=1", status)

    def stopping(self, status: str = "") -> bool:
        """The process has begun to shut down."""
        return self._send("STOPPING=1", status)

    def watchdog(self, status: str = "") -> bool:
        """Still alive; due every `watchdog_interval`."""
        return self._send("WATCHDOG=1", status)

    def status(self, text: str) -> bool:
        """One line for ``systemctl status``."""
        return self._send("", text)

    def _send(self, assignment: str, status: str) -> bool:
        if self.address is None or self.address[0] not in "/@":
            return False
        lines = [assignment] if assignment else []
        if status:
            lines.append("STATUS=" + " ".join(status.split()))
        # The kernel writes the @ of an abstract name as a zero byte.
        address = "\0" + self.address[1:] if self.address[0] == "@" else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)
                out.sendto("\n".join(lines).encode("utf-8", "replace"), address)
        except OSError:
            return False
        return True


def watchdog_interval(environ: Mapping[str, str], pid: int | None = None) -> float | None:
    """Seconds between two signs of life: half of what the unit allows; None if it asks for none.

    ``WATCHDOG_PID`` may name another process, whose affair it is then. A value that is no positive
    number counts as none.
    """
    meant_for = environ.get("WATCHDOG_PID", "")
    if meant_for and meant_for != str(os.getpid() if pid is None else pid):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    allowed_us = int(text) if text.isdecimal() else 0
    return allowed_us / 2_000_000 if allowed_us else None
