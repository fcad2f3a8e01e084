"""enricher: one asyncio process that turns a raw market feed into enriched, stored, cached, republished data.

    async with Enricher.from_settings(load()) as enricher:
        await enricher.wait_ready()

What is listed here is promised, and so is what `enricher.dead_letters` and `enricher.mail` list; parts of a
program's own (systems, sources, sinks, state stores, effects) are written against `enricher.system`,
`enricher.engine.ports`, `enricher.engine.effects` and `enricher.errors`. Everything else may change.
"""

from typing import TYPE_CHECKING

from enricher.lazy_exports import at_first_use

if TYPE_CHECKING:
    from enricher.app import Enricher
    from enricher.config import Settings
    from enricher.engine.effects import Effect, Insert, Publish, SetKey, Upsert
    from enricher.engine.retry import RetryPolicy
    from enricher.engine.router import Context, Overload, Route
    from enricher.errors import BadMessage, ConfigError, EnricherError, Overloaded
    from enricher.systems import load
else:
    __getattr__, __dir__ = at_first_use(
        __name__,
        {
            "enricher.app": "Enricher",
            "enricher.config": "Settings",
            "enricher.engine.effects": "Effect Insert Publish SetKey Upsert",
            "enricher.engine.retry": "RetryPolicy",
            "enricher.engine.router": "Context Overload Route",
            "enricher.errors": "BadMessage ConfigError EnricherError Overloaded",
            "enricher.systems": "load",
        },
    )

__version__ = "0.1.0"

__all__ = [
    "BadMessage",
    "ConfigError",
    "Context",
    "Effect",
    "Enricher",
    "EnricherError",
    "Insert",
    "Overload",
    "Overloaded",
    "Publish",
    "RetryPolicy",
    "Route",
    "SetKey",
    "Settings",
    "Upsert",
    "load",
]
