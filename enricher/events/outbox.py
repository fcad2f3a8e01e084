"""Effects of nodes, kept in the document of their event until they are written for sure.

A process may end when the document is stored and nothing else is. Nodes that have finished do not run again,
so what they have emitted is in the document of that attempt, and is written by whoever has the event next:
once, for each attempt's write carries a claim.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec

from enricher.engine.effects import Effect, KeyClaim
from enricher.log import log

# Claims are remembered for a day: what is older is not written again.
_CLAIMED = timedelta(days=1)
_FRESH = timedelta(hours=23)


def keeping(event: Mapping[str, Any], effects: Sequence[Effect]) -> dict[str, Any]:
    """The event at the end of an attempt, with its effects.

    One that holds a function cannot be kept: after a crash at the wrong moment it is missing.
    """
    packed = []
    for effect in effects:
        kind = type(effect)
        try:
            data = msgspec.msgpack.encode(effect)
        except TypeError:
            continue
        packed.append({"effect": f"{kind.__module__}:{kind.__qualname__}", "data": data})
    about = {"number": event["revision"], "at": event["updated_at"], "effects": packed}
    return {**event, "outbox": about}


def kept(event: Mapping[str, Any], now_us: int) -> list[Effect]:
    """The effects of the last attempt, if there was one less than a day ago."""
    about = event.get("outbox")
    if not about or about["at"].timestamp() * 1e6 + _FRESH / timedelta(microseconds=1) < now_us:
        return []
    found = [_effect(each["effect"], each["data"]) for each in about["effects"]]
    return [effect for effect in found if effect is not None]


def once(key: str, event: Mapping[str, Any], effects: Sequence[Effect]) -> list[Effect]:
    """The effects of the last attempt with the claim that makes them visible once; ``key`` is the event's."""
    about = event.get("outbox") or {"number": event["revision"]}
    return [KeyClaim(key, about["number"], round(_CLAIMED.total_seconds())), *effects]


def _effect(name: str, data: bytes) -> Effect | None:
    """The effect that was kept; None if its class is none of effects, or not imported here.

    Nothing is imported by a name from a database.
    """
    module, _, path = name.partition(":")
    kind: Any = sys.modules.get(module)
    for part in path.split("."):
        kind = getattr(kind, part, None)
    if not isinstance(kind, type) or not issubclass(kind, Effect):
        log.error("kept_effect_unknown", effect=name)
        return None
    effect: Effect = msgspec.msgpack.decode(data, type=kind)
    return effect
