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
        located = [
            ConfigError(settings.origins[each.key], each.key, each.value, each.expected)
            if isinstance(each, WrongSetting) and each.key in settings.origins
            else each
            for each in error.every or (error,)
        ]
        raise ConfigError.together(located) from error.__cause__
