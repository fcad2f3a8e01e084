"""The steps of an event."""

from __future__ import annotations

from enricher.events.documents import pending, removals, started, succeeded


def test_what_is_posted_again_is_newer_than_the_removal_of_what_was_deleted() -> None:
    event = started(pending("a", "Ticket", {}, token="", now_us=1_000), 1, 1_001)
    event = succeeded(event, {}, 1, 1_002, indices=["tickets", "events"])
    gone = removals(event)
    assert [each.index for each in gone] == ["events", "tickets"]
    assert {each.version for each in gone} == {event["revision"] + 1}
    again = pending("a", "Ticket", {}, token="", now_us=2_000)
    assert again["revision"] > gone[0].version
