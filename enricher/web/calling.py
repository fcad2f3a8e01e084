"""Calling a worker at its address from another process: a connection, and what the worker says of itself."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException

import msgspec

from enricher.config import Settings
from enricher.config.listen import Address, parse

_LONGEST = 1_048_576
# Who listens on all addresses is here, too.
_HERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104


class Readiness(msgspec.Struct, frozen=True):
    """What ``/readyz`` answers: whose it is, its status, and {what: why} is missing or wrong with topics."""

    service: str
    instance: str
    status: str
    missing: dict[str, str]
    troubles: dict[str, str]
    stalled: list[str]


class _OverSocket(HTTPConnection):
    """A connection to a socket of this machine's file system."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__("localhost", timeout=seconds)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def connection_to(address: Address, seconds: float) -> HTTPConnection:
    """A connection to whoever listens there, made when it is used; each step may take ``seconds``."""
    if address.path:
        return _OverSocket(address.path, seconds)
    return HTTPConnection(_HERE.get(address.host, address.host), address.port, timeout=seconds)


def readiness(address: Address, seconds: float, headers: Mapping[str, str] = {}) -> Readiness | None:
    """What a worker there answers, whatever the status; None if no worker of ours answers."""
    connection = connection_to(address, seconds)
    try:
        connection.request("GET", "/readyz", headers=dict(headers))
        return msgspec.json.decode(connection.getresponse().read(_LONGEST), type=Readiness)
    except (OSError, HTTPException, msgspec.DecodeError, UnicodeDecodeError):
        return None
    finally:
        connection.close()


def own_readiness(settings: Settings, seconds: float) -> Readiness | None:
    """What the worker of these settings answers; None without a web app, or where another one listens."""
    web, service = settings.web, settings.service
    if not web.address:
        return None
    token = "" if "/readyz" in web.open else next(iter(web.tokens.values()), "")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    found = readiness(parse(web.address), seconds, headers)
    if found is None or found.service != service.name or service.instance not in ("", found.instance):
        return None
    return found
