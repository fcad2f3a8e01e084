"""How a worker is, in a word and in a line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def status_of(figures: Mapping[str, Any]) -> str:
    """The status, and while what is stored is restored how much of it is: ``restoring 3/8``."""
    status, restoring = str(figures["status"]), figures.get("restoring")
    if status != "restoring" or not restoring:
        return status
    return f"{status} {restoring['done']}/{restoring['total']}"


def status_line(figures: Mapping[str, Any]) -> str:
    """One line for people: status, what is unreachable, messages waiting and processed, dead letters."""
    topics = figures["topics"].values()
    parts = [status_of(figures)]
    if figures["outages"]:
        parts.append("unreachable: " + ", ".join(sorted(figures["outages"])))
    parts.append(f"{figures['pool']['messages']} waiting")
    parts.append(f"{sum(topic.get('processed', 0) for topic in topics)} processed")
    parts.append(f"{sum(topic.get('dead', 0) for topic in topics)} dead letters")
    return ", ".join(parts)
