"""The benchmark of mails and streams on real servers, as small as it goes."""

from __future__ import annotations

from benchmarks.streams import delay, flood, intake


def test_the_cost_of_a_mail_counts_every_mail() -> None:
    row = flood(50, 1, hook="nothing")
    assert row["lost"] == 0
    assert row["us"] > row["scaled"] > 1


def test_the_delay_of_a_mail_goes_from_its_append_to_its_acknowledgement() -> None:
    row = delay("null", 100, 0.5, 1)
    assert row["mails"] == 50
    assert 0 < row["p50_ms"] <= row["p99_ms"] <= row["max_ms"]
    assert row["mean_ms"] > 0


def test_the_ways_of_intake_are_given_the_same_ticks() -> None:
    rows = intake("flood", 200, 0, 1, ("pub/sub", "stream"))
    assert [(row["intake"], row["lost"]) for row in rows] == [("pub/sub", 0), ("stream", 0)]
    assert rows[0]["times"] == 1.0
