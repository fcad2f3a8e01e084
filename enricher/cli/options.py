"""The options that commands share, and how they become settings."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import msgspec
from redis.exceptions import RedisError

from enricher.adapters.redis.client import redis_client
from enricher.config import MongoSettings, PositiveSeconds, RedisSettings, Settings
from enricher.config.loader import NOTHING, find_config
from enricher.config.values import WrongValueError, read
from enricher.errors import ConfigError
from enricher.redaction import parse, redact, stated_values
from enricher.systems import load

Command = Callable[..., Any]

DATA_DIR = Path("enricher-data")
"""Where the bundled servers keep their data, unless another folder is named."""

DOTENV = ".env"
COMMAND_LINE = "command line"


@dataclass(frozen=True, slots=True)
class SettingsOptions:
    """What the command line says about settings: a file, and dotted keys with their text."""

    config: Path | None
    overrides: Mapping[str, str]

    def load(self, more: Mapping[str, Any] = NOTHING, *, find_servers: bool = True) -> Settings:
        """The settings of this process; ``more`` (dotted keys) wins over everything.

        Reads the environment, and a .env file and config.toml in the working folder. Where none of them says
        where Redis or MongoDB is, bundled servers that run in this folder are used, and standard error says
        so. A config file with the defaults, such as the shipped one, does not say it. Raises ConfigError.
        """
        settings = self._read(more)
        if not find_servers or self._names_servers(settings) or not DATA_DIR.is_dir():
            return settings
        from enricher.embedded import running_servers

        running = running_servers(DATA_DIR)
        if running is None:
            return settings
        file, addresses = running
        click.echo(f"using the embedded servers of {file}", err=True)
        settings = self._read({**more, **addresses})
        origins = {**settings.origins, **dict.fromkeys(addresses, str(file))}
        return msgspec.structs.replace(settings, origins=origins)

    def _names_servers(self, settings: Settings) -> bool:
        origins = {settings.origins.get("redis.url"), settings.origins.get("mongo.url")} - {None}
        file = find_config(self.config, os.environ, Path.cwd())
        defaults = (settings.redis.url, settings.mongo.url) == (RedisSettings().url, MongoSettings().url)
        return bool(origins) and not (defaults and origins == {str(file)})

    def _read(self, more: Mapping[str, Any]) -> Settings:
        folder = Path.cwd()
        settings = load(
            *(self.config, os.environ, {**self.overrides, **more}),
            folder=folder,
            dotenv=folder / DOTENV,
            overrides_from=COMMAND_LINE,
        )
        refuse_unusable_urls(settings)
        return settings


def refuse_unusable_urls(settings: Settings) -> None:
    """Raise ConfigError for an address whose options the client libraries refuse. Connects to nothing."""
    addresses: dict[str, tuple[str, Callable[[str], object]]] = {
        f"{name}.{key}": (url, _redis_connection)
        for name, section in settings.sections().items()
        for key, url in section.servers("redis").items()
    }
    addresses["mongo.url"] = (settings.mongo.url, _mongo_address)
    errors = []
    for key, (url, use) in addresses.items():
        try:
            with warnings.catch_warnings():
                # What MongoDB's driver only warns of, an unknown option, it would then leave out.
                warnings.simplefilter("error", UserWarning)
                if url:
                    use(url)
        except (ValueError, TypeError, RedisError, UserWarning) as error:
            source = settings.origins.get(key, "default")
            # What the libraries say names the option; where it shows a value, too, that may be a password.
            shows = any(len(value) > 1 and value in str(error) for value in stated_values(url))
            right = "an address the client takes" + ("" if shows else f": {error}")
            errors.append(ConfigError(source, key, redact(url, options=False), right))
    if errors:
        raise ConfigError.together(errors)


def _mongo_address(url: str) -> object:
    if url == MongoSettings().url:
        return None  # which needs no driver to be found right, and most commands need none for anything else
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError
    from pymongo.uri_parser import split_options

    try:
        if "+srv" in url.partition("://")[0]:
            # Its hosts the driver learns from DNS, which is no question of settings.
            address = parse(url)
            if address is None or "," in address.hosts or ":" in address.hosts:
                raise ValueError("mongodb+srv:// has one host, without a port")
            return split_options(address.options, warn=True) if address.options else None
        # It begins nothing: what it is asked for first would.
        MongoClient[Mapping[str, Any]](url, connect=False).close()
    except PyMongoError as error:
        raise ValueError(str(error)) from error
    return None


def _redis_connection(url: str) -> object:
    pool = redis_client(url, socket_timeout=1.0).connection_pool
    return pool.make_connection()  # type: ignore[no-untyped-call]


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


duration_option = functools.partial(click.option, type=duration, metavar="DURATION", show_default=True)
for_option = duration_option("--for", "seconds", help="End after 20s, 2m, 1h.")


def typed(parse: Callable[[str], Any]) -> Callable[[Any], Any]:
    """The type of an option: what ``parse`` makes of its text, with the text of its ValueError."""

    def convert(value: Any) -> Any:
        try:
            return parse(value) if isinstance(value, str) else value
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return convert


json_option = click.option("--json", "json", is_flag=True, help="One JSON object a line.")


def gathered(
    name: str, make: Callable[..., Any], *options: Callable[[Command], Command]
) -> Callable[[Command], Command]:
    """Gives a command ``options`` as one argument ``name``: what ``make`` makes of those with a value."""
    names = [option(lambda: None).__click_params__[0].name for option in options]  # type: ignore[attr-defined]

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def with_argument(*args: Any, **kwargs: Any) -> Any:
            values = {each: kwargs.pop(each) for each in names}
            made = make(**{each: value for each, value in values.items() if value is not None})
            return command(*args, **{name: made}, **kwargs)

        decorated: Command = with_argument
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _stated(
    *, config: Path | None = None, assignments: tuple[tuple[str, str], ...], **short: str
) -> SettingsOptions:
    return SettingsOptions(
        config, {**dict(assignments), **{name.replace("_", "."): text for name, text in short.items()}}
    )


# Nothing is read before `SettingsOptions.load`.
settings_options = gathered(
    "options",
    _stated,
    click.option(
        "--config",
        type=click.Path(path_type=Path, dir_okay=False),
        help="File with settings [default: $ENRICHER_CONFIG, else ./config.toml if there is one].",
    ),
    click.option(
        "--set",
        "assignments",
        type=assignment,
        metavar="SECTION.KEY=VALUE",
        multiple=True,
        help="One setting, such as pool.concurrency=32; may be given several times.",
    ),
    click.option("--redis-url", help="Short for --set redis.url=..."),
    click.option("--mongo-url", help="Short for --set mongo.url=..."),
    click.option("--log-level", help="Short for --set log.level=...: debug, info, warning, error."),
    click.option("--log-format", help="Short for --set log.format=...: auto, json or console."),
)
