"""What the market adds to an enricher: three routes on one state store, and what they need around them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from enricher.config import Settings
from enricher.engine.router import Route
from enricher.market import routes
from enricher.market.documents import STATE
from enricher.market.settings import MarketSettings
from enricher.market.state.product_state import Makes
from enricher.market.web.rates import Rates
from enricher.metrics import Metric
from enricher.system import Host, Plan

if TYPE_CHECKING:
    from enricher.web.views import View

DAY = 86_400.0
_STATUSES = {"success": "processed", "retry": "retried", "failure": "dead"}


def plan(section: MarketSettings, host: Host, folds: Sequence[Makes] = ()) -> Plan:
    """The three routes, further patterns, indexes and what looks wrong about the settings.

    ``folds`` are further numbers per product, besides those that the settings name.
    """
    settings = host.settings
    troubles: dict[str, str] = {}
    note = (
        f"A repeated message is recognised for {section.claim_ttl} s (market.claim_ttl). Do not read a "
        "stream again, or replay a recording, from further back."
    )
    made = routes.build(section, settings.feed, troubles, folds)
    rates = Rates(host, [route.topic for route in made])
    return Plan(
        routes=made,
        patterns=section.channels.patterns,
        collections=(STATE,),
        indexes=routes.indexes(settings.feed),
        troubles=troubles,
        metrics=partial(tasks, made, host),
        services={"rates": rates.run},
        views=partial(views, section, host, rates, troubles),
        warnings=lambda: warnings(section, settings),
        notes=[note],
    )


def views(
    section: MarketSettings, host: Host, rates: Rates, troubles: Mapping[str, str]
) -> Sequence[View]:
    """The screens; the packages that they need are imported when there is a web app."""
    from enricher.market.web.views import views

    return views(section, host, rates, troubles)


async def tasks(made: Sequence[Route], host: Host) -> Sequence[Metric]:
    """The messages of the routes under the names that exporters of Celery gave their tasks."""
    named = [(route.name, host.stats.topic(route.topic)) for route in made]
    return (
        Metric(
            name="celery_tasks",
            help="Runs of tasks that ended, by task.",
            kind="counter",
            samples=[
                ({"task_name": name, "status": status}, float(counted.counts[ours]))
                for name, counted in named
                for status, ours in _STATUSES.items()
            ],
        ),
        Metric(
            name="celery_task_duration_seconds",
            help="How long runs of tasks took, by task.",
            kind="histogram",
            samples=[({"task_name": name}, counted.handling) for name, counted in named],
        ),
    )


def warnings(section: MarketSettings, settings: Settings) -> Iterator[str]:
    """What is allowed but will probably be regretted, one sentence each."""
    longest = max(section.windows) * 60
    if section.claim_ttl < longest:
        yield (
            f"market.claim_ttl {section.claim_ttl} s is shorter than the longest window, {longest} s: a "
            "message repeated later than that is taken for published, even if its first worker died "
            f"between storing and publishing it; expected at least {longest} s, and more than a stream "
            "keeps or a replay reaches back"
        )
    if "stream" in settings.streams.intake.values() and section.claim_ttl < settings.streams.retention:
        yield (
            f"market.claim_ttl {section.claim_ttl} s is shorter than streams.retention "
            f"{settings.streams.retention:g} s: what is read again from the stream's beginning would be "
            "published again"
        )
    window, claims = section.reload_us / 1e6, float(section.claim_ttl)
    least = settings.retention.short
    yield from least(
        "underlying_ticks",
        max(window, DAY if section.volume == "cumulative" else 0.0),
        "a restart rebuilds windows and open bars from them",
    )
    yield from least("ohlc_bars", window, "a restart reads from them which bars are closed")
    yield from least(
        "option_quotes", section.quote_window + window, "a restart rebuilds the surface from them"
    )
    yield from least(
        "option_chains", max(DAY, 4 * section.buildup_min_age), "build-up compares with the day's first"
    )
    yield from least(
        "market_history", section.history_days * DAY, "percentiles look back (market.history_days)"
    )
    for name in ("underlying_ticks", "option_quotes", "option_chains"):
        yield from least(name, claims, "a repeated message is recognised for that long (market.claim_ttl)")
