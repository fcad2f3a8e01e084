"""The ledger of a consumer group: what its stream lost before the group had read it, and which stream it is.

A server counts what was ever added to a stream, and neither what of it was read nor what was deleted unread.
The ledger, hash ``{stream}:{group}:ledger``, counts what was acknowledged (``done``; see ``ack.lua``). So

    added = done + pending + unread + lost

and the script that looks knows all of them at one moment. It is asked once a second and when a worker starts,
by every worker of the group; each loss is found by one of them, once. Acknowledgements by others (a worker of
another kind) are in no count: what is missing is a loss only if something not yet read can have gone since
the last look, and no more than others deleted; our own trimming takes what was read.

A stream that was deleted and made anew has ids that mean something else: each has a ``life`` of its own.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from redis.asyncio import Redis

from enricher.adapters.redis.scripts import load
from enricher.adapters.redis.stream.entry import GroupKeys

_LOOK = load("ledger")


class Look(msgspec.Struct, frozen=True):
    """What a look found: ``lost`` entries between the ids ``first`` and ``last``.

    ``total`` is how many the group has ever lost, ``life`` tells a stream from others that had its name.
    ``held`` is the ledger, to be handed in again should the server forget it.
    """

    lost: int
    first: str
    last: str
    total: int
    life: str
    held: Mapping[str, str]


async def look(
    client: Redis, keys: GroupKeys, held: Mapping[str, str], *, in_hand: int = 0, more: int = 0
) -> Look | None:
    """Look at a group's ledger, and bring it up to date; None where the server counts too little for one.

    ``in_hand`` entries of the group are under way here, ``more`` pending ones were found lost since the last
    look. ``client`` gives raw bytes. Its errors are passed on.
    """
    names = (keys.stream, keys.ledger, keys.trimmed, keys.cursor, keys.early, keys.exposed)
    remembered = [part for field in held.items() for part in field]
    reply = await _LOOK(client, names, keys.group, in_hand, more, *remembered)
    if reply is None:
        return None
    lost, first, last, flat = reply
    texts = [part.decode() for part in flat]
    found = dict(zip(texts[::2], texts[1::2], strict=True))
    return Look(int(lost), first.decode(), last.decode(), int(found["lost"]), found["life"], found)
