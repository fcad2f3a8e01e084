"""Whether a commit waits for company: only where the rate says that some comes soon.

A commit costs this process as much as two or three messages whatever it carries, for it wakes it and two
servers. So while writes come often, commits begin a little apart.
"""

from __future__ import annotations

# Over how many commits the mean is taken, and how many times `gather` a pause counts at most: after one that
# was longer the rate is known again within as many commits.
_COMMITS = 8


class Gathering:
    """When one commit group begins a commit; ``gather`` and all times are seconds of a monotonic clock.

    What comes ``gather`` or longer after the last commit began does not wait, so nothing lone ever does. Nor
    do ``enough`` writes.
    """

    def __init__(self, gather: float, enough: int) -> None:
        self._gather = gather
        self._enough = enough
        self._began = float("-inf")
        self._gap = gather * _COMMITS

    def begin(self, writes: int, now: float) -> float:
        """How long the commit of these writes, and of those that come meanwhile, waits before it begins."""
        if not self._gather:
            return 0.0
        since = max(now - self._began, 0.0)
        gap = min(since / (writes or 1), self._gather * _COMMITS)
        self._gap += (gap - self._gap) / _COMMITS
        left = self._gather - since
        wait = left if left > self._gap and writes < self._enough else 0.0
        self._began = now + wait
        return wait
