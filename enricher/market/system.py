"""The market as a system: its section, its plan and its commands, by name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from enricher.system import Command, Host, Plan, System

if TYPE_CHECKING:
    from enricher.market.state.product_state import Makes

SYSTEM = System(
    name="market",
    settings="enricher.market.settings:MarketSettings",
    plan="enricher.market.plan:plan",
    commands={
        "demo": Command(
            "enricher.market.cli.demo:command",
            "Try it out: servers, a feed and a worker at once, with a live view.",
        ),
        "analyse": Command(
            "enricher.market.cli.analyse:command", "Analyse the option chains in files."
        ),
        "feed": Command("enricher.market.cli.feed:command", "Publish a synthetic market."),
        "record": Command(
            "enricher.market.cli.record:command", "Write what is published on channels to a file."
        ),
        "replay": Command("enricher.market.cli.replay:command", "Publish the messages of a file."),
    },
)


def system(folds: Sequence[Makes]) -> System:
    """The market with further numbers per product: classes of `enricher.market.folds.Fold`."""

    def plan(section: Any, host: Host) -> Plan:
        from enricher.market.plan import plan as shipped

        return shipped(section, host, folds)

    return msgspec.structs.replace(SYSTEM, plan=plan)
