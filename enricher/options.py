"""What a program may add to the settings, in code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from enricher.config.loader import check_name
from enricher.system import System

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from enricher.dead_letters.alert import AlertHook
    from enricher.dead_letters.store import LetterStore
    from enricher.engine.ports import Clock, Sink, Source
    from enricher.engine.router import Route


class Options(TypedDict, total=False):
    """The keyword arguments of `Enricher`; systems read them too, as ``host.options``.

    ``systems`` are added to the shipped ones; one with the name of a shipped system replaces it. ``routes``
    are added to those of the systems. ``sources`` bring messages of the program's own; ``sinks`` write
    effects of its own kinds, and one with a known name takes that one's place (`enricher.engine.ports`).
    ``clients`` are what async handlers find by name in their context. ``redis`` and ``mongo`` are the
    program's own asyncio clients (never closed here). ``dead_letters`` is a store of its own for them,
    ``on_dead_letters`` is called with a `LengthAlert` when there are too many (both:
    `enricher.dead_letters`). ``mail_handler`` is called with each `mail.Mail`. ``clock`` tells microseconds
    since 1970, UTC.
    """

    systems: Sequence[System]
    routes: Sequence[Route]
    sources: Sequence[Source]
    sinks: Sequence[Sink]
    clients: Mapping[str, Any] | None
    redis: Redis | None
    mongo: Any
    dead_letters: LetterStore | None
    on_dead_letters: AlertHook | None
    mail_handler: Callable[..., Any] | None
    clock: Clock


def checked(options: Options) -> Options:
    """The options, unchanged. Raises TypeError for a name that is none of them.

    TypeError as well for what is no system, and ValueError for a system's name that cannot be or is there
    twice.
    """
    known = Options.__annotations__
    for name in options:
        if name not in known:
            raise TypeError(f"unknown option {name!r}; known: {', '.join(known)}")
    names = set[str]()
    for system in options.get("systems", ()):
        if not isinstance(system, System):
            raise TypeError(f"systems has {system!r}: expected an enricher.system.System")
        check_name(system.name)
        if system.name in names:
            raise ValueError(f"two systems are called {system.name!r}: the second would replace the first")
        names.add(system.name)
    return options
