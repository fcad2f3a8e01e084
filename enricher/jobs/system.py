"""Background jobs as a system: its section, its plan, its commands and its options of ``run``, by name."""

from enricher.system import System

SYSTEM = System(
    name="jobs",
    settings="enricher.jobs.settings:JobSettings",
    plan="enricher.jobs.plan:plan",
)
