"""Addresses to listen on: ``host:port``, ``[::1]:port``, or ``unix:path``."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping

import msgspec

EXPECTED = "host:port such as 127.0.0.1:8080, or unix:/path"


class Address(msgspec.Struct, frozen=True):
    """Where to listen: ``host`` and ``port``, or the ``path`` of a socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    @property
    def is_own(self) -> bool:
        """Whether only this machine reaches it."""
        if self.path or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        if self.path:
            return f"unix:{self.path}"
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def parse(text: str) -> Address:
    """The address in a text. Raises ValueError, which says what would be right."""
    if text.startswith("unix:"):
        return Address(path=text.removeprefix("unix:"))
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ValueError(EXPECTED)
    host = host.removeprefix("[").removesuffix("]")
    if not host:
        raise ValueError(f"{EXPECTED}; 0.0.0.0 is every address of this machine")
    return Address(host=host, port=int(port))


def listen_problems(
    key: str, listen: str, tokens: Mapping[str, str], named: str
) -> Iterator[tuple[str, str]]:
    """What is wrong with an address to listen on, as `Section.validate` says it."""
    if not listen:
        return
    try:
        address = parse(listen)
    except ValueError as error:
        yield key, str(error)
        return
    if not address.is_own and not tokens:
        yield key, f"an address of this machine alone, such as 127.0.0.1:8080, or {named} to be asked for"
