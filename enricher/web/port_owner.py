"""Who has an address that we wanted: the process as /proc knows it, and the worker if one answers there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from itertools import takewhile
from pathlib import Path

from enricher.config.listen import Address
from enricher.redaction import redact_text
from enricher.web.calling import readiness

_LISTENS = "0A"
_SECONDS = 1.0
_PROC = Path("/proc")
# Of a command: what follows may be a password.
_WORDS = 4


def owner(address: Address) -> str:
    """Who listens there, for people: the process, the worker, or both; "" where nobody tells. It blocks."""
    found = [f"pid {pid} ({command})" for pid, command in _processes(address)]
    said = readiness(address, _SECONDS)
    if said is not None:
        found.append(f"another enricher, {said.service} {said.instance}")
    return ", ".join(found)


def _processes(address: Address) -> Iterator[tuple[int, str]]:
    """The processes that have a socket which listens there, as far as we may see them."""
    wanted = {f"socket:[{inode}]" for inode in (_unix(address.path) if address.path else _tcp(address.port))}
    for folder in _PROC.glob("[0-9]*") if wanted else ():
        try:
            if not wanted.isdisjoint(_open_files(folder)):
                yield int(folder.name), _command((folder / "cmdline").read_bytes())
        except OSError:
            continue  # it is another user's, or has gone


def _open_files(process: Path) -> Iterator[str]:
    for each in (process / "fd").iterdir():
        with suppress(OSError):  # it was closed meanwhile
            yield str(each.readlink())


def _tcp(port: int) -> Iterator[str]:
    for name in ("tcp", "tcp6"):
        for fields in _rows(name):
            if fields[3] == _LISTENS and int(fields[1].rpartition(":")[2], 16) == port:
                yield fields[9]


def _unix(path: str) -> Iterator[str]:
    return (fields[6] for fields in _rows("unix") if fields[7:] == [path])


def _rows(name: str) -> Iterator[list[str]]:
    try:
        lines = (_PROC / "net" / name).read_text(errors="replace").splitlines()
    except OSError:
        lines = []  # a system without it
    return (line.split() for line in lines[1:])


def _command(line: bytes) -> str:
    """The words of a command before its options; a module's name is none."""
    first, *words = line.decode(errors="replace").strip("\0").split("\0")
    plain = takewhile(lambda word: word == "-m" or re.fullmatch(r"[\w./]+", word), words)
    return redact_text(" ".join([Path(first).name, *plain][:_WORDS]))
