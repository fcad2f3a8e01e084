"""Events as a system: its section, its plan and its commands, by name."""

from enricher.system import Command, System

SYSTEM = System(
    name="events",
    settings="enricher.events.settings:EventSettings",
    plan="enricher.events.plan:plan",
    commands={
        "events": Command(
            "enricher.events.cli.commands:command", "List, show, post, retry, delete events; draw pipelines."
        ),
    },
)
