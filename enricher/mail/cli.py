"""``enricher mail``: how the mail route stands, by its stream, its claims and its dead letters."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from enricher.adapters.redis.claims import OLD_SET, Idempotency
from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.stream.entry import GroupKeys
from enricher.adapters.redis.stream.group import StreamGroup, check_key, group_info
from enricher.cli.options import SettingsOptions, settings_options
from enricher.cli.output import talking_to
from enricher.cli.signals import until_signal
from enricher.config import Settings
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
    """Show how the mail route stands: entries, what waits, claims, dead letters.

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
