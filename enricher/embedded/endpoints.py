"""Where running embedded servers can be reached, and who holds their data folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from enricher.errors import EmbeddedError

ENDPOINTS_FILE = "endpoints.json"
LOCK_FILE = "lock"


class Endpoints(msgspec.Struct, frozen=True):
    """The URLs of running embedded servers.

    ``mongo_url`` has the database as its path and asks for journalled majority writes, without
    which the server may lose what it acknowledged. ``pid`` is the process that holds the servers,
    ``started_at`` the instant they were ready (ISO 8601, UTC).
    """

    redis_url: str
    mongo_url: str
    pid: int
    started_at: str

    @property
    def settings(self) -> dict[str, str]:
        """The addresses under the names of their settings."""
        return {"redis.url": self.redis_url, "mongo.url": self.mongo_url}


def write_endpoints(folder: Path, endpoints: Endpoints) -> None:
    """Put ``endpoints.json`` into ``folder``; a reader sees the whole file or none."""
    unfinished = folder / f".{ENDPOINTS_FILE}.{os.getpid()}"
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(endpoints), indent=2) + b"\n")
    unfinished.replace(folder / ENDPOINTS_FILE)


def remove_endpoints(folder: Path) -> None:
    """Remove ``endpoints.json`` if it is there."""
    (folder / ENDPOINTS_FILE).unlink(missing_ok=True)


def read_endpoints(folder: Path) -> Endpoints | None:
    """The endpoints of the servers that run in ``folder`` now, or None.

    A file left behind by a killed process counts as none: its lock has gone with it.
    """
    try:
        endpoints = msgspec.json.decode((folder / ENDPOINTS_FILE).read_bytes(), type=Endpoints)
        with (folder / LOCK_FILE).open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return endpoints
    except (OSError, msgspec.MsgspecError):
        return None
    return None


def running_servers(folder: Path) -> tuple[Path, dict[str, str]] | None:
    """The servers started last of those in ``folder`` and its folders: their file and their settings."""
    folders = [folder, *(file.parent for file in sorted(folder.glob(f"*/{ENDPOINTS_FILE}")))]
    running = [(found.started_at, one, found) for one in folders if (found := read_endpoints(one))]
    if not running:
        return None
    _, where, newest = max(running, key=lambda one: one[0])
    return where / ENDPOINTS_FILE, newest.settings


@contextlib.contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Hold ``folder`` (made if missing) for this process alone while inside.

    The lock belongs to the open file, so the kernel frees it however this process ends, and a
    stale one cannot exist. Raises EmbeddedError naming the pid of the process that holds it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_FILE).open("a+b")
    except OSError as error:
        raise EmbeddedError(f"cannot use {folder} for the embedded servers: {error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read().decode("ascii", "replace").strip() or "unknown"
            raise EmbeddedError(
                f"the folder {folder} is in use by the process with pid {holder}; stop that one or "
                "choose another folder"
            ) from error
        lock.truncate(0)
        lock.write(b"%d\n" % os.getpid())
        lock.flush()
        yield
