"""What happens to a message that finds the pool full: the policy of a route."""

from __future__ import annotations

from enum import Enum


class Overload(Enum):
    """The policy of a route for a full pool.

    ``BLOCK``        the source waits (only sources that can)
    ``CONFLATE``     the oldest per key that is still queued makes room for a newer one
    ``DROP_OLDEST``  the oldest queued message of the route makes room
    ``SPILL``        what finds memory full takes the way over a Redis stream (`sources.spill`), from which
                     it comes back when there is room; a source without that way drops it
    """

    BLOCK = "block"
    CONFLATE = "conflate"
    DROP_OLDEST = "drop_oldest"
    SPILL = "spill"
