"""Is the worker moving? What the service manager's watchdog is told, and the line it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a worker saw: turns served so far, and whether one is overdue by now.

    ``silent`` are the connected sources by name, each with the seconds since it last read anything
    (its own canary counts).
    """

    turns: int
    can_serve: bool
    silent: Mapping[str, float]


def look(health: Mapping[str, Any], can_serve: bool) -> Look:
    """A look at a worker from its ``health()`` and its pool's ``can_serve``."""
    silent = {
        name: float(source["silent_s"])
        for name, source in health["sources"].items()
        # A source that is reconnecting is at work; only a connected one can be stuck.
        if source.get("ready") and source.get("silent_s") is not None
    }
    return Look(turns=int(health["pool"]["turns"]), can_serve=can_serve, silent=silent)


def standstill(before: Look, now: Look, longest_silence: float) -> str | None:
    """Why the worker does not move although it could; None while it moves, rests or waits out an outage.

    ``longest_silence`` is in seconds. An outage, slow handlers and retries are no standstill: nothing
    could be served then. A lane that could be served at two looks in a row, with no turn in between, is.
    """
    for name, seconds in now.silent.items():
        if seconds > longest_silence:
            return f"source {name} is connected and has read nothing for {seconds:g} s"
    if before.can_serve and now.can_serve and before.turns == now.turns:
        return "messages wait, slots are free, and no turn was served"
    return None


def status_of(figures: Mapping[str, Any]) -> str:
    """The status, and while what is stored is restored how much of it is: ``restoring 3/8``."""
    status, restoring = str(figures["status"]), figures.get("restoring")
    if status != "restoring" or not restoring:
        return status
    return f"{status} {restoring['done']}/{restoring['total']}"


def status_line(figures: Mapping[str, Any]) -> str:
    """One line for people: status, what is away, messages waiting, processed, set aside."""
    topics = figures["topics"].values()
    parts = [status_of(figures)]
    if figures["outages"]:
        parts.append("away: " + ", ".join(sorted(figures["outages"])))
    parts.append(f"{figures['pool']['messages']} waiting")
    parts.append(f"{sum(topic.get('processed', 0) for topic in topics)} processed")
    parts.append(f"{sum(topic.get('dead', 0) for topic in topics)} dead letters")
    return ", ".join(parts)
