"""``enricher mail``: how the mail route stands; and the options that the mail adds to ``enricher run``."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import click
import msgspec

from enricher.adapters.redis.claims import OLD_SET, Idempotency
from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.stream.entry import GroupKeys
from enricher.adapters.redis.stream.group import StreamGroup, check_key, group_info
from enricher.cli.options import Command, SettingsOptions, settings_options
from enricher.cli.output import talking_to
from enricher.cli.signals import until_signal
from enricher.config import Settings
from enricher.config.loader import NOTHING
from enricher.mail.settings import MailSettings


@click.command(
    epilog="""\b
Examples:
  enricher mail                     lines for people
  enricher mail --json | jq .claims
"""
)
@click.option("--json", "json", is_flag=True, help="One JSON object.")
@settings_options
def command(options: SettingsOptions, json: bool) -> None:
    """Show the counts of the mail route: entries, waiting mails, claims, dead letters.

    `claims` counts the mails that are remembered as processed (mail.claim_ttl), `old_claims` the ids in an
    old worker's processed_messages:set, which never expires.
    """
    settings = options.load()

    async def main() -> None:
        figures = await standing(settings)
        if json:
            click.echo(msgspec.json.encode(figures).decode())
            return
        for name, value in figures.items():
            click.echo(f"{name.replace('_', ' '):<14} {'?' if value is None else value}")

    with talking_to(settings.redis.url):
        until_signal(main)


async def standing(settings: Settings) -> dict[str, Any]:
    """The figures of the mail route; None where the server cannot tell.

    Errors of the client are passed on.
    """
    mail, options = settings.section(MailSettings), settings.redis
    letters_url = settings.dead_letters.url or options.url
    async with (
        redis_client(options.url, socket_timeout=options.socket_timeout) as client,
        redis_client(letters_url, socket_timeout=options.socket_timeout) as letters,
    ):
        keys = GroupKeys(mail.stream, mail.group)
        await StreamGroup(client, keys, "mail").check_keys()
        await check_key(letters, mail.dead_letters, "stream")
        seen = Idempotency(client, ttl=mail.claim_ttl)
        group = (await group_info(client, keys) if await client.exists(mail.stream) else None) or {}
        return {
            "stream": mail.stream,
            "group": mail.group,
            "length": int(await client.xlen(mail.stream)),
            "consumers": group.get("consumers", 0),
            "lag": group.get("lag"),
            "pending": group.get("pending", 0),
            "delayed": int(await client.zcard(keys.later)),
            "claims": await seen.count(),
            "old_claims": await seen.count_old() if await client.exists(OLD_SET) else 0,
            "dead_letters": int(await letters.xlen(mail.dead_letters)),
        }


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
    def with_mail(*args: Any, given: Mapping[str, str] = NOTHING, **kwargs: Any) -> Any:
        values = [(setting, unit, kwargs.pop(name)) for name, (setting, unit) in _SETTINGS.items()]
        mine = {setting: f"{value}{unit}" for setting, unit, value in values if value is not None}
        return command(*args, given={**given, **mine}, **kwargs)

    return with_mail
