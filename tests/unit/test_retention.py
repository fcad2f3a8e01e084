"""How long documents are kept: the settings, what they ask of the indexes, and when the disk is full."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher import ConfigError, Settings, load
from enricher.adapters.mongo_retention import FIELD, NAME, decide
from enricher.assembly import planned
from enricher.cli.check_growth import DAY, Growth, Stored, days_until_full, size_text
from enricher.texts import span

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ID = {"name": "_id_", "key": {"_id": 1}}
DAY_S = 86_400


def retention_warnings(settings: Settings) -> list[str]:
    warnings = [text for plan in planned(settings) for text in plan.warnings()]
    return [text for text in warnings if text.startswith("retention.")]


def index(name: str = NAME, key: dict[str, int] | None = None, **options: Any) -> dict[str, Any]:
    return {"name": name, "key": key or {FIELD: 1}, **options}


def test_times_are_given_with_units_and_all_is_kept_by_default() -> None:
    assert set(load().kept().values()) == {0}
    settings = load(
        environ={"ENRICHER_RETENTION__UNDERLYING_TICKS": "30d", "ENRICHER_RETENTION__EMAILS": "12h"},
        overrides={"mail.collection": "inbox"},
    )
    kept = settings.kept()
    assert (kept["underlying_ticks"], kept["inbox"]) == (30 * DAY_S, DAY_S // 2)
    assert "emails" not in kept


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("retention.ticks", "30d", "one of the keys of retention: underlying_ticks, option_quotes"),
        ("retention.enricher_state", "30d", "feed_gaps, emails"),
        ("retention.option_chains", "30 weeks", "a whole number of seconds of at least 0"),
        ("retention.option_chains", "-1", "a whole number of seconds of at least 0"),
        ("mail.collection", "option_chains", "a collection that the market does not use"),
        ("retention.option_chains", "500ms", "or text such as '10s', '5m', '30d'"),
    ],
)
def test_an_unknown_collection_and_a_wrong_time_are_refused(key: str, value: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load(overrides={key: value})


@pytest.mark.parametrize(
    ("indexes", "seconds", "kind"),
    [
        ([ID], 0, "none"),
        ([ID], 60, "create"),
        ([ID, index("mine", {FIELD: -1})], 60, "create"),
        ([ID, index("mine", {FIELD: 1, "product": 1})], 60, "create"),
        ([ID, index(expireAfterSeconds=60)], 60, "none"),
        ([ID, index(expireAfterSeconds=60.0)], 60, "none"),
        ([ID, index(expireAfterSeconds=3600)], 60, "change"),
        ([ID, index()], 60, "replace"),
        ([ID, index(key={"timestamp": 1}, expireAfterSeconds=60)], 60, "replace"),
        ([ID, index(expireAfterSeconds=60)], 0, "drop"),
        ([ID, index("mine", expireAfterSeconds=60)], 0, "none"),
        ([ID, index("mine", expireAfterSeconds=5)], 60, "foreign"),
        ([ID, index("mine", expireAfterSeconds=3600)], 3600, "none"),
        ([ID, index("mine")], 60, "foreign"),
    ],
)
def test_an_index_is_made_changed_or_dropped_and_a_foreign_one_left(
    indexes: list[dict[str, Any]], seconds: int, kind: str
) -> None:
    assert decide(indexes, seconds).kind == kind


def test_what_stands_in_the_way_is_named() -> None:
    assert "index mine on processed_at is not ours and removes documents after 5 s" in decide(
        [index("mine", expireAfterSeconds=5)], 60
    ).why


def grown(count: int, size: int, seconds: float, kept: int = 0) -> Growth:
    return Growth("ticks", kept, count, size, seconds)


def test_the_rate_and_the_day_the_disk_is_full_follow_from_what_is_stored() -> None:
    ticks = grown(1000, 500_000, DAY / 2)
    assert ticks.documents_a_day == 2000
    assert ticks.bytes_a_day == 1_000_000
    lines = list(Stored((ticks,), 10_000_000, 20_000_000).lines(NOW))
    assert lines == ["Disk: 10 MB of 20 MB free; at 1 MB a day it is full in 10.0 days (2026-01-11)"]
    assert ticks.row == ["ticks", "1,000", "500 kB", "2,000, 1 MB", "12 h", "for ever"]


def test_what_is_kept_for_a_time_levels_off() -> None:
    ticks = grown(1000, 500_000, DAY / 2, kept=5 * DAY_S)
    assert days_until_full(10_000_000, [ticks]) is None
    assert days_until_full(1_000_000, [ticks]) == pytest.approx(1, abs=0.02)
    assert "will not be full" in next(Stored((ticks,), 10_000_000, 20_000_000).lines(NOW))


def test_what_is_not_known_is_said() -> None:
    assert "unknown" in next(Stored((grown(5, 5, 5),)).lines(NOW))
    assert "too little data" in next(Stored((grown(5, 5, 5),), 1, 2).lines(NOW))
    assert grown(5, 500, 5).row[3] == "unknown"
    assert Growth("ticks", 0, why="Unauthorized").row[1] == "unknown: Unauthorized"
    slow = Growth("chains", 0, 836, 36_300_000, why="no answer within 3 s")
    assert slow.row[3:5] == ["unknown", "unknown: no answer within 3 s"]
    (line,) = Stored((grown(1000, 500_000, DAY / 2), slow), 10_000_000, 20_000_000).lines(NOW)
    assert line.endswith("10.0 days (2026-01-11), or sooner: how fast chains grows is unknown")
    assert (span(30 * DAY), span(90), size_text(3.2e12)) == ("30 days", "90 s", "3.2 TB")


@given(
    st.lists(
        st.builds(
            grown, st.integers(1, 10**9), st.integers(1, 10**12), st.floats(60, 1e8), st.integers(0, 10**8)
        ),
        max_size=5,
    ),
    st.floats(0, 1e15),
    st.floats(0, 1e15),
)
def test_more_space_is_never_full_sooner_and_full_means_full(
    growths: list[Growth], free: float, more: float
) -> None:
    days, later = days_until_full(free, growths), days_until_full(free + more, growths)
    if days is None:
        assert later is None
        return
    assert later is None or later >= days - 0.02
    assert sum(growth.more_after(days) for growth in growths) > free


def test_a_time_shorter_than_what_state_needs_is_warned_of() -> None:
    short = {"underlying_ticks": "10m", "option_chains": "1h", "market_history": "30d", "emails": "1d"}
    settings = load(overrides={"mail.enabled": "true", **{f"retention.{k}": v for k, v in short.items()}})
    warned = "\n".join(retention_warnings(settings))
    for name in short:
        assert f"retention.{name}" in warned
    assert "expected at least 365 days" in warned
    assert not retention_warnings(load(overrides={"retention.underlying_ticks": "2h"}))
    cumulative = {"retention.underlying_ticks": "2h", "market.volume": "cumulative"}
    assert "24 h" in "\n".join(retention_warnings(load(overrides=cumulative)))
