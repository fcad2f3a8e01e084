"""All settings, those of the shipped routes included, and what follows from them alone."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from enricher.config import Section, Settings
from enricher.config import load as load_sections
from enricher.config.loader import OVERRIDES
from enricher.mail.settings import TASK as MAIL_TASK
from enricher.mail.settings import MailSettings
from enricher.market.settings import TASKS, MarketSettings

SECTIONS: Mapping[str, type[Section]] = {"market": MarketSettings, "mail": MailSettings}
"""The sections that the route packages bring, by name."""


def load(
    path: Path | str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    sections: Mapping[str, type[Section]] | None = None,
    folder: Path | str | None = None,
    written: Mapping[str, str] | None = None,
    overrides_from: str = OVERRIDES,
) -> Settings:
    """All settings, those of the shipped routes included; ``sections`` are a program's own, by name.

    Nothing is read that is not handed in: a file at ``path`` (or named by ENRICHER_CONFIG in ``environ``, or
    config.toml in ``folder``), ``environ`` (pass `os.environ`), ``written`` (variables of a .env file, over
    which ``environ`` wins), and ``overrides`` {"redis.url": ...}, which win over all. Raises `ConfigError`,
    which names source (``overrides_from`` for an override), key, value and what would be right.
    """
    every = {**SECTIONS, **(sections or {})}
    file = None if path is None else Path(path)
    within = None if folder is None else Path(folder)
    return load_sections(file, environ or {}, overrides or {}, every, within, written or {}, overrides_from)


def instance_name(settings: Settings) -> str:
    """The configured instance, else host name and process id."""
    return settings.service.instance or f"{socket.gethostname()}-{os.getpid()}"


def stats_key(settings: Settings) -> str:
    """The Redis key under which the worker keeps its figures."""
    return f"{settings.stats.key_prefix}:{settings.service.name}:{instance_name(settings)}"


def mail_settings(settings: Settings) -> MailSettings | None:
    """The mail section, if mail is switched on."""
    section = settings.routes.get("mail")
    return section if isinstance(section, MailSettings) and section.enabled else None


def kept_for(settings: Settings) -> dict[str, int]:
    """How many seconds each collection is kept, 0 for ever, by the collection's name."""
    mail = settings.routes.get("mail")
    return settings.retention.of(mail.collection if isinstance(mail, MailSettings) else "emails")


def market_settings(settings: Settings) -> MarketSettings | None:
    """The market section, if the market is switched on."""
    section = settings.routes.get("market")
    return section if isinstance(section, MarketSettings) and section.enabled else None


def market_topics(settings: Settings) -> dict[str, str]:
    """The topics of the market routes by the names of their tasks."""
    market = market_settings(settings)
    return {} if market is None else {name: getattr(market.channels, kind) for kind, name in TASKS.items()}


def letter_topics(settings: Settings, key: str) -> dict[str, str]:
    """The topic of dead letters under ``key`` by the name of their task; "" are those that name none.

    Under the mail's own key even an entry that names nothing is a mail.
    """
    mail = mail_settings(settings)
    if mail is None:
        return {}
    topics = {MAIL_TASK: mail.stream}
    return {**topics, "": mail.stream} if key == mail.dead_letters else topics
