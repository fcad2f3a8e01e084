"""The systems that are shipped, and the settings with their sections. No other file names a system."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enricher.config import Section, Settings
from enricher.config import load as load_sections
from enricher.config.loader import OVERRIDES
from enricher.events.system import SYSTEM as EVENTS
from enricher.jobs.system import SYSTEM as JOBS
from enricher.mail.system import SYSTEM as MAIL
from enricher.market.system import SYSTEM as MARKET
from enricher.system import System

SYSTEMS: tuple[System, ...] = (MARKET, MAIL, JOBS, EVENTS)


def load(
    path: Path | str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    sections: Mapping[str, type[Section]] | None = None,
    folder: Path | str | None = None,
    dotenv: Path | None = None,
    overrides_from: str = OVERRIDES,
) -> Settings:
    """All settings, those of the shipped systems included; ``sections`` are a program's own, by name.

    Nothing is read that is not handed in: a file at ``path`` (or named by ENRICHER_CONFIG in ``environ``, or
    config.toml in ``folder``), ``environ`` (pass `os.environ`), ``dotenv`` (a .env file, over which
    ``environ`` wins), and ``overrides`` {"redis.url": ...}, which win over all. Raises `ConfigError`, which
    names source (``overrides_from`` for an override), key, value and what would be right.
    """
    every = {**{system.name: system.section for system in SYSTEMS}, **(sections or {})}
    return load_sections(path, environ, overrides, every, folder, dotenv, overrides_from)
