"""What waits in the lanes although nothing explains it, for `enricher.engine.stalls`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Set
from itertools import islice

from enricher.engine.isolation import GRACE
from enricher.engine.lanes import Lane, LaneGroup, Share, Status
from enricher.engine.ports import Delivery
from enricher.engine.router import HandlerKind, Route
from enricher.engine.stalls import Waiting
from enricher.engine.threads import Threads

# Lanes that are named.
_NAMED = 5


def lanes_that_wait(
    shares: Iterable[Share],
    handling: Sequence[tuple[Delivery, float]],
    turns: int,
    now: float,
    patience: float,
) -> list[Waiting]:
    """The lanes that wait for a turn while neither their group nor a cap stands in the way.

    That no slot of a share is free explains it while one of the handlers in them, each with when it began
    (seconds), is within its time: the timeout of its route, else ``patience`` seconds.
    """
    found = []
    for share in shares:
        why = "slots are free, and no turn is given"
        if share.free <= 0:
            ours = [(d, began) for d, began in handling if d.lane is not None and d.lane.group.share is share]
            if any(_in_time(delivery, now - began, patience) for delivery, began in ours):
                continue
            late = ", ".join(sorted({delivery.topic for delivery, _ in ours}))
            why = f"no slot is free, and every handler is past its time: {late}"
        for group in share.groups:
            lanes = [str(lane.key) for lane in islice(full_lanes(group), _NAMED)] if group.servable else ()
            if lanes:
                found.append(Waiting(f"lanes of {group.name}", why, turns, tuple(lanes)))
    return found


def lanes_behind_handlers(
    groups: Iterable[LaneGroup], handling: Sequence[tuple[Delivery, float]], now: float
) -> list[Waiting]:
    """The lanes that wait for handlers that are past their route's timeout and go on.

    Their own lanes, and where such handlers are as many as the cap, all others of the group.
    """
    hung: dict[str, list[tuple[Lane, float]]] = {}
    for delivery, began in handling:
        route, lane = delivery.route, delivery.lane
        if route is None or lane is None or route.timeout is None or route.kind is HandlerKind.BLOCKING:
            continue
        if now - began > route.timeout + GRACE:
            hung.setdefault(route.lane_group, []).append((lane, began))
    found = []
    for group in groups:
        late = hung.get(group.name, [])
        lanes = [lane for lane, _ in late if lane.waits]
        if group.max_concurrency and len(late) >= group.max_concurrency:
            lanes += full_lanes(group)
        if lanes:
            why, progress = "handlers go on past their timeout", hash(tuple(began for _, began in late))
            keys = tuple(str(lane.key) for lane in lanes[:_NAMED])
            found.append(Waiting(f"messages of {group.name}", why, progress, keys))
    return found


def full_lanes(group: LaneGroup) -> Iterable[Lane]:
    """Lanes that wait for a turn, not only with what was dropped."""
    return (lane for lane in group.ready if lane.waits)


def lanes_without_state(failing: Iterable[tuple[LaneGroup, str]], turns: int) -> list[Waiting]:
    """The lanes whose state cannot be loaded, though no server is away; each group with why."""
    found = []
    for group, why in failing:
        waiting = (lane for lane in group.lanes.values() if lane.status is Status.LOADING and lane.queue)
        if keys := tuple(str(lane.key) for lane in islice(waiting, _NAMED)):
            found.append(Waiting(f"state of {group.name}", why, turns, keys))
    return found


def messages_without_thread(
    routes: Iterable[tuple[Route, Threads | None, LaneGroup]], stuck: Set[str]
) -> list[Waiting]:
    """The messages of routes whose threads all hang, where some wait or are ``stuck``."""
    found = []
    for route, threads, group in routes:
        if threads is None or not threads.hang:
            continue
        keys = tuple(str(lane.key) for lane in islice(full_lanes(group), _NAMED))
        if keys or threads.waiting or route.topic in stuck:
            what, why = f"messages of {route.topic}", "every thread is past its timeout"
            found.append(Waiting(what, why, threads.ended, keys, route.topic))
    return found


def _in_time(delivery: Delivery, seconds: float, patience: float) -> bool:
    route = delivery.route
    if route is None:
        return True
    if route.kind is HandlerKind.BLOCKING and route.timeout is not None:
        return True  # its threads tell
    return seconds <= (route.timeout or patience) + GRACE
