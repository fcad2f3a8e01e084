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

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from enricher.adapters.redis.scripts import load
from enricher.adapters.redis.stream.entry import GroupKeys
from enricher.adapters.redis.stream.in_flight import InFlight
from enricher.log import log

_LOOK = load("ledger")


# How servers say that a script's user lacks a right.
_DENIED = ("NOPERM", "ACL failure in script", "The user executing the script")


class Look(msgspec.Struct, frozen=True):
    """What a look found: the ``total`` that the group has ever lost, and the ``life`` of its stream.

    ``fields`` are the ledger, to be handed in again should the server forget it.
    """

    total: int
    life: str
    fields: Mapping[str, str]


class Losses:
    """What the groups of one consumer have lost: looked for, counted, and logged once.

    ``ledgers`` are what the last looks found.
    """

    def __init__(self, in_flight: InFlight) -> None:
        self.ledgers: dict[GroupKeys, Look] = {}
        self._in_flight = in_flight
        self._denied = False

    @property
    def total(self) -> int:
        """How many entries the groups have ever lost, whoever was reading."""
        return sum(look.total for look in self.ledgers.values())

    def life(self, keys: GroupKeys) -> str:
        """What tells the stream of a group from others that had its name; "" if nobody knows."""
        look = self.ledgers.get(keys)
        return "" if look is None else look.life

    def note(self, keys: GroupKeys, ids: Sequence[str]) -> None:
        """Pending entries that the stream has lost, unless under way; the ledger has them already."""
        lost = [id_ for id_ in ids if (keys.stream, id_) not in self._in_flight.under_way]
        if lost:
            self._in_flight.counts["lost"] += len(lost)
            reason = "deleted while they were pending"
            _log_loss(keys, entries=len(lost), ids=lost[:100], reason=reason)

    async def look(self, client: Redis, keys: GroupKeys) -> None:
        """Bring the ledger of a group up to date: what was lost that nobody had read, the stream's life.

        Nothing where the server counts too little. ``client`` gives raw bytes; its errors are passed on.
        """
        in_hand = len(self._in_flight.entries(keys))
        names = (keys.stream, keys.ledger, keys.trimmed, keys.cursor, keys.early, keys.exposed)
        known = self.ledgers[keys].fields if keys in self.ledgers else {}
        remembered = [part for field in known.items() for part in field]
        try:
            reply = await _LOOK(client, names, keys.group, in_hand, *remembered)
        except ResponseError as error:
            # It tells what is wrong with the stream, and without it the stream can be read all the same.
            if not any(sign in str(error) for sign in _DENIED):
                raise
            if not self._denied:
                log.warning("losses_unseen", stream=keys.stream, reason=str(error))
            self._denied = True
            return
        if reply is None:
            return
        lost, first, last, flat = reply
        texts = [part.decode() for part in flat]
        ledger = dict(zip(texts[::2], texts[1::2], strict=True))
        self.ledgers[keys] = Look(int(ledger["lost"]), ledger["life"], ledger)
        if lost:
            reason = "trimmed or deleted before they were read"
            _log_loss(keys, entries=int(lost), from_id=first.decode(), to_id=last.decode(), reason=reason)


def _log_loss(keys: GroupKeys, **what: Any) -> None:
    log.error("entries_lost", stream=keys.stream, group=keys.group, **what)
