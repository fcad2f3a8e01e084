"""The options of ``enricher run`` that the mail brings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import click

Command = Callable[..., Any]
NONE: Mapping[str, str] = MappingProxyType({})
# Each option with the setting that it is, and the unit of its number.
_SETTINGS = {
    "stream": ("mail.stream", ""),
    "group": ("mail.group", ""),
    "consumer": ("mail.consumer", ""),
    "batch_size": ("mail.batch", ""),
    "block_timeout": ("mail.block", "ms"),
}


def run_options(command: Command) -> Command:
    """Gives ``run`` the options of the mail route; what was given is added to ``given``."""

    @click.option("--stream", help="Mail: the Redis stream [default: mail.stream].")
    @click.option("--group", help="Mail: the consumer group [default: mail.group].")
    @click.option("--consumer", help="Mail: this worker's name in the group [default: mail.consumer].")
    @click.option(
        "--batch-size", type=click.IntRange(min=1), help="Mail: entries read at once [default: mail.batch]."
    )
    @click.option(
        "--block-timeout",
        type=click.IntRange(min=1),
        metavar="MILLISECONDS",
        help="Mail: how long one read waits for entries [default: mail.block].",
    )
    @functools.wraps(command)
    def with_mail(*args: Any, given: Mapping[str, str] = NONE, **kwargs: Any) -> Any:
        values = [(setting, unit, kwargs.pop(name)) for name, (setting, unit) in _SETTINGS.items()]
        mine = {setting: f"{value}{unit}" for setting, unit, value in values if value is not None}
        return command(*args, given={**given, **mine}, **kwargs)

    return with_mail
