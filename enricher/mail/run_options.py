"""The options of ``enricher run`` that the mail brings."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

import click

R = TypeVar("R")
NONE: Mapping[str, str] = MappingProxyType({})

def run_options(command: Callable[..., R]) -> Callable[..., R]:
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
    def with_mail(
        *args: Any,
        given: Mapping[str, str] = NONE,
        stream: str | None,
        group: str | None,
        consumer: str | None,
        batch_size: int | None,
        block_timeout: int | None,
        **kwargs: Any,
    ) -> R:
        texts = {
            "mail.stream": stream,
            "mail.group": group,
            "mail.consumer": consumer,
            "mail.batch": batch_size and str(batch_size),
            "mail.block": block_timeout and f"{block_timeout}ms",
        }
        mine = {key: text for key, text in texts.items() if text is not None}
        return command(*args, given={**given, **mine}, **kwargs)

    return with_mail
