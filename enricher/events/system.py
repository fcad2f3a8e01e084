"""Events as a system: its section and its plan, by name."""

from enricher.system import System

SYSTEM = System(
    name="events",
    settings="enricher.events.settings:EventSettings",
    plan="enricher.events.plan:plan",
)
