"""What turns out wrong only when a setting is used is reported with the source it came from, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from enricher.config.settings import Settings
from enricher.errors import ConfigError, WrongSetting


@contextmanager
def named_by_origin(settings: Settings) -> Iterator[None]:
    """Gives a `WrongSetting` raised inside the file, variable or option that the setting came from."""
    try:
        yield
    except ConfigError as error:
        located = [_located(each, settings.origins.get(each.key)) for each in error.every or (error,)]
        raise ConfigError.together(located) from error.__cause__


def _located(error: ConfigError, source: str | None) -> ConfigError:
    if source is None or not isinstance(error, WrongSetting):
        return error
    return ConfigError(source, error.key, error.value, error.expected)
