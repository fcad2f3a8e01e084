"""What turns out wrong only when a setting is used is reported with the source it came from, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from enricher.config.settings import Settings
from enricher.errors import ConfigError

UNLOCATED = "settings"
"""The source in an error of whoever was handed a setting and cannot know where it was set."""


@contextmanager
def named_by_origin(settings: Settings) -> Iterator[None]:
    """Gives a `ConfigError` raised inside the file, variable or option that the setting came from."""
    try:
        yield
    except ConfigError as error:
        if error.source != UNLOCATED or error.key not in settings.origins:
            raise
        source = settings.origins[error.key]
        raise ConfigError(source, error.key, error.value, error.expected) from error.__cause__
