"""The commands that `enricher demo` prints: each runs as it stands there, on this machine, in this folder."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from urllib.parse import urlsplit

from enricher.cli.options import DATA_DIR, SettingsOptions
from enricher.config import Settings


def settings_arguments(options: SettingsOptions) -> list[str]:
    """The settings of our own command line, for another command."""
    arguments = [] if options.config is None else ["--config", str(options.config)]
    for key, text in options.overrides.items():
        # Other servers' addresses are of no use to it, and may hold passwords that a process list shows.
        if not key.endswith(".url"):
            arguments += ["--set", f"{key}={text}"]
    return arguments


class Commands:
    """Commands for the servers of a demo in ``data_dir``; ``settings`` have their addresses."""

    def __init__(self, options: SettingsOptions, settings: Settings, data_dir: Path) -> None:
        self._redis, self._mongo = settings.redis.url, settings.mongo.url
        self._data_dir = str(data_dir)
        self._settings = settings_arguments(options)
        said = options.load(find_servers=False).origins
        # Where commands find the servers by themselves they need not be told.
        self._found = DATA_DIR in (data_dir, data_dir.parent) and not {"redis.url", "mongo.url"} & said.keys()

    def looking(self) -> list[str]:
        """Ways to look inside while the demo runs."""
        cli = shutil.which("redis-cli") or shutil.which("valkey-cli")
        redis = f"{Path(cli).name} -u {self._redis}" if cli else ""
        get = f"{_python()} -c \"import redis; print(redis.from_url('{self._redis}').get('%s'))\""
        key, channel = "latest:underlying:NIFTY", "enriched:underlying"
        find = (
            f"{_python()} -c \"import pymongo; print(pymongo.MongoClient('{self._mongo}')"
            ".get_default_database().underlying_ticks.find_one(sort=[('timestamp', -1)]))\""
        )
        if shutil.which("mongosh"):
            newest = "db.underlying_ticks.find().sort({timestamp: -1}).limit(1)"
            find = shlex.join(["mongosh", self._mongo, "--quiet", "--eval", newest])
        return [
            *(self._ours(name) for name in ("top", "health", "dlq list")),
            *((f"{redis} GET {key}", f"{redis} SUBSCRIBE {channel}") if cli else (get % key,)),
            find,
        ]

    def serving(self) -> list[str]:
        """How to serve the data again afterwards, and then to look at it."""
        arguments = ["--embedded", "--data-dir", self._data_dir, *self._settings]
        if not self._found:
            ports = [str(urlsplit(url).port) for url in (self._redis, self._mongo)]
            arguments += ["--redis-port", ports[0], "--mongo-port", ports[1]]
        return [f"{_program()} run {shlex.join(arguments)}", self._ours("dlq list")]

    def _ours(self, name: str) -> str:
        where = [] if self._found else ["--redis-url", self._redis, "--mongo-url", self._mongo]
        return " ".join(filter(None, [_program(), name, shlex.join([*self._settings, *where])]))


def _program() -> str:
    """What this program is called in a shell of this folder."""
    on_path = shutil.which("enricher")
    return "enricher" if on_path and Path(on_path) == Path(sys.argv[0]) else f"{_python()} -m enricher"


def _python() -> str:
    """What this interpreter is called in a shell of this folder; not resolved: a link leads out of a venv."""
    python = Path(sys.executable)
    for name in ("python", "python3"):
        if shutil.which(name) == sys.executable:
            return name
    within = python.is_relative_to(Path.cwd())
    return shlex.quote(str(python.relative_to(Path.cwd()) if within else python))
