"""The options that commands share, and how they become settings."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click
from dotenv import dotenv_values
from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from enricher.build import load
from enricher.config import PositiveSeconds, Settings, redact
from enricher.config.loader import NOTHING
from enricher.config.values import WrongValueError, read
from enricher.connections import redis_client
from enricher.errors import ConfigError

P = ParamSpec("P")
R = TypeVar("R")

DOTENV = ".env"


@dataclass(frozen=True, slots=True)
class SettingsOptions:
    """What the command line says about settings: a file, and dotted keys with their text."""

    config: Path | None
    overrides: Mapping[str, str]

    def load(self, more: Mapping[str, Any] = NOTHING) -> Settings:
        """The settings of this process; ``more`` (dotted keys) wins over everything.

        Reads the environment, and a .env file and config.toml in the working folder. Raises ConfigError.
        """
        folder = Path.cwd()
        settings = load(self.config, environment(folder), {**self.overrides, **more}, folder=folder)
        refuse_unusable_urls(settings)
        return settings


def refuse_unusable_urls(settings: Settings) -> None:
    """Raise ConfigError for an address whose options the client libraries refuse. Connects to nothing."""
    addresses: dict[str, tuple[str, Callable[[str], object]]] = {
        "redis.url": (settings.redis.url, _redis_connection),
        "dead_letters.url": (settings.dead_letters.url, _redis_connection),
        # Of the shape of the other kind the driver learns from DNS, which is no question of settings.
        "mongo.url": (
            "" if "+srv" in settings.mongo.url else settings.mongo.url,
            partial(parse_uri, warn=True),
        ),
    }
    for key, (url, use) in addresses.items():
        try:
            if url:
                use(url)
        except (ValueError, TypeError, PyMongoError) as error:
            source = settings.origins.get(key, "default")
            # What the libraries say names the option, never its value, and no password.
            raise ConfigError(source, key, redact(url), f"an address the client takes: {error}") from None


def _redis_connection(url: str) -> object:
    pool = redis_client(url, socket_timeout=1.0).connection_pool
    return pool.make_connection()  # type: ignore[no-untyped-call]


def environment(folder: Path) -> dict[str, str]:
    """The environment, on top of what a .env file in ``folder`` says.

    A value is taken as it stands: a ``$`` in a password is a ``$``.
    """
    file = folder / DOTENV
    written = dotenv_values(file, interpolate=False) if file.is_file() else {}
    return {**{name: value for name, value in written.items() if value is not None}, **os.environ}


def assignment(text: str | tuple[str, str]) -> tuple[str, str]:
    """The type of an option: ``section.key=value`` as a pair."""
    if isinstance(text, tuple):
        return text
    key, equals, value = text.partition("=")
    if not equals or "." not in key.strip():
        # The text is not shown: where the = is missing it may be a password.
        raise click.BadParameter("expected section.key=value, such as pool.concurrency=32")
    return key.strip(), value


def duration(text: str | float) -> float:
    """The type of an option: seconds, written ``20s``, ``250ms``, ``2m``, ``1h`` or as a plain number."""
    if isinstance(text, int | float):
        return float(text)
    try:
        return float(read(text, PositiveSeconds, is_text=True))
    except WrongValueError:
        raise click.BadParameter(f"{text!r} is no duration; expected one such as 20s, 2m or 1h") from None


def settings_options(command: Callable[Concatenate[SettingsOptions, P], R]) -> Callable[..., R]:
    """Gives a command --config, --set, --redis-url, --mongo-url, --log-level and --log-format.

    It gets them as its first argument, a `SettingsOptions`; nothing is read before its ``load()``.
    """

    @click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with settings [default: $ENRICHER_CONFIG, else ./config.toml if there is one].",
    )
    @click.option(
        "--set",
        "assignments",
        type=assignment,
        metavar="SECTION.KEY=VALUE",
        multiple=True,
        help="One setting, such as pool.concurrency=32; may be given several times.",
    )
    @click.option("--redis-url", help="Short for --set redis.url=...")
    @click.option("--mongo-url", help="Short for --set mongo.url=...")
    @click.option("--log-level", help="Short for --set log.level=...: debug, info, warning, error.")
    @click.option("--log-format", help="Short for --set log.format=...: json or console.")
    @functools.wraps(command)
    def with_settings(
        config: Path | None,
        assignments: tuple[tuple[str, str], ...],
        redis_url: str | None,
        mongo_url: str | None,
        log_level: str | None,
        log_format: str | None,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> R:
        short = {
            "redis.url": redis_url,
            "mongo.url": mongo_url,
            "log.level": log_level,
            "log.format": log_format,
        }
        given = {key: text for key, text in short.items() if text is not None}
        return command(SettingsOptions(config, {**dict(assignments), **given}), *args, **kwargs)

    return with_settings
