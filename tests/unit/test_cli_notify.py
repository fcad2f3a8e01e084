"""What the service manager gets to hear."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from enricher.cli.notify import ServiceManager, watchdog_interval


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    name = str(tmp_path / "notify") if request.param == "path" else f"\0enricher-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name)
        listening.setblocking(False)
        yield listening


def address(listening: socket.socket) -> str:
    """The socket's name as systemd would write it into NOTIFY_SOCKET."""
    name = listening.getsockname()
    return name if isinstance(name, str) else "@" + name[1:].decode()


def test_each_turn_of_a_life_is_one_message(manager: socket.socket) -> None:
    tell = ServiceManager.from_environ({"NOTIFY_SOCKET": address(manager)})
    assert tell.ready("3 routes")
    assert tell.watchdog()
    assert tell.status("12 messages/s")
    assert tell.stopping()
    assert [manager.recv(1000) for _ in range(4)] == [
        b"READY=1\nSTATUS=3 routes",
        b"WATCHDOG=1",
        b"STATUS=12 messages/s",
        b"STOPPING=1",
    ]


def test_a_status_of_several_lines_cannot_smuggle_in_another_message(
    manager: socket.socket,
) -> None:
    ServiceManager(address(manager)).status("degraded:\nSTOPPING=1")
    assert manager.recv(1000) == b"STATUS=degraded: STOPPING=1"


@pytest.mark.parametrize("environ", [{}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": "vsock:2:1"}])
def test_without_a_service_manager_nothing_happens(environ: dict[str, str]) -> None:
    assert not ServiceManager.from_environ(environ).ready()


def test_a_service_manager_that_went_away_does_no_harm(tmp_path: Path) -> None:
    assert not ServiceManager(str(tmp_path / "gone")).watchdog()


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "42"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "43"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_a_sign_of_life_is_due_at_half_the_time_allowed(
    environ: dict[str, str], seconds: float | None
) -> None:
    assert watchdog_interval(environ, pid=42) == seconds
