"""The market as a system: its section, its plan and its commands, by name."""

from enricher.system import Command, System

SYSTEM = System(
    name="market",
    settings="enricher.market.settings:MarketSettings",
    plan="enricher.market.plan:plan",
    commands={
        "demo": Command(
            "enricher.market.cli.demo:command",
            "Try it out: servers, a feed and a worker at once, with a live view.",
        ),
        "feed": Command("enricher.market.cli.feed:command", "Publish a synthetic market."),
        "record": Command(
            "enricher.market.cli.record:command", "Write what is published on channels to a file."
        ),
        "replay": Command("enricher.market.cli.replay:command", "Publish what a file holds."),
    },
)
