"""The fault matrix: its accounts as data, and its fastest scenarios with fixed seeds."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from benchmarks.events import faults as events
from benchmarks.faults import chosen, played
from benchmarks.faults_ledger import BRIDGE, STREAM, Found, Heard, Promise, Sent, recovery, row
from benchmarks.faults_scenarios import SCENARIOS, SHORTEST, Plan, Scenario
from benchmarks.faults_stage import Stage, StageOptions
from benchmarks.faults_witness import INTAKE
from benchmarks.jobs import faults as jobs
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING
from enricher.market.feed.synthetic import SyntheticMarket
from tests.integration.forks import command
from tests.rig import until

BEGIN = 1_790_000_000_000_000
STAGE = StageOptions(seed=7, rate=100, lease=3.0, start=command)


def ticks(count: int, intake: str = STREAM) -> list[Sent]:
    """``count`` ticks of one product, a millisecond apart."""
    market = SyntheticMarket(("S1",), seed=7)
    times = [BEGIN + number * 1000 for number in range(count)]
    return [Sent(us, intake, UNDERLYING, market.tick("S1", us), b"") for us in times]


def all_found(sent: list[Sent]) -> Found:
    """Everything where it belongs, heard 10 ms after it was sent."""
    last, prices = sent[-1].message, [one.message["price"] for one in sent]
    window = {
        "open": prices[0],
        "high": max(prices),
        "low": min(prices),
        "close": prices[-1],
        "num_ticks": len(sent),
        "start_time": sent[0].message["timestamp"],
        "end_time": last["timestamp"],
    }
    return Found(
        appended={one.us for one in sent},
        documents={one.us: [{**one.message, "event_us": one.us}] for one in sent},
        published={one.us: [Heard(one.us + 10_000, dict(one.message))] for one in sent},
        windows={"S1": (window, {"price": prices[-1], "timestamp": last["timestamp"]})},
    )


def judged(sent: list[Sent], found: Found) -> dict[str, Any]:
    return row(sent, found, [BEGIN], Promise(), STREAM)


def test_a_run_in_which_all_is_found_once_breaks_nothing() -> None:
    sent = ticks(20)
    made = judged(sent, all_found(sent))
    assert (made["sent"], made["appended"], made["stored"], made["published"]) == (20, 20, 20, 20)
    assert (made["lost_before"], made["lost_after"], made["duplicated"], made["wrong"]) == (0, 0, 0, 0)
    assert (made["late"], made["recovery_s"], made["broken"]) == (0, 0.01, "")


@pytest.mark.parametrize(
    ("spoil", "broken"),
    [
        (lambda found, us: found.documents.pop(us), "1 lost, 1 wrong"),
        (lambda found, us: found.published.pop(us), "1 lost"),
        (lambda found, us: found.documents[us].append(found.documents[us][0]), "1 duplicated"),
        (lambda found, us: found.published[us].append(found.published[us][0]), "1 duplicated"),
        (lambda found, us: found.documents[us][0].update(volume=-1), "1 wrong"),
        (lambda found, us: found.documents[us][0].update(event_us=us + 1), "1 wrong"),
        (lambda found, us: found.published[us][0].message.update(price=0), "1 wrong"),
        (lambda found, us: found.windows["S1"][0].update(num_ticks=21), "1 wrong"),
        (lambda found, us: found.windows["S1"][1].update(price=0), "1 wrong"),
        (lambda found, us: found.windows.clear(), "1 wrong"),
        (lambda found, us: found.documents.clear(), "20 lost, nothing stored"),
    ],
)
def test_whatever_is_missing_repeated_or_wrong_breaks_the_promise(spoil: Any, broken: str) -> None:
    sent = ticks(20)
    found = all_found(sent)
    spoil(found, sent[7].us)
    assert judged(sent, found)["broken"] == broken


def test_a_leg_of_a_chain_that_is_not_as_it_was_sent_is_wrong() -> None:
    market = SyntheticMarket(("S1",), strikes=3, seed=7)
    made = [
        Sent(BEGIN, STREAM, OPTION_CHAIN, market.chain("S1", BEGIN), b""),
        Sent(BEGIN + 1, STREAM, OPTION_QUOTE, market.quote("S1", BEGIN + 1), b""),
    ]
    documents = {
        one.us: [msgspec.json.decode(msgspec.json.encode({**one.message, "event_us": one.us}))]
        for one in made
    }
    found = Found(
        {one.us for one in made}, documents, {BEGIN: [Heard(BEGIN, made[0].message)]}
    )
    assert judged(made, found)["broken"] == ""
    documents[BEGIN][0]["puts"][1]["open_interest"] += 1
    assert judged(made, found)["broken"] == "1 wrong"


def test_what_pubsub_lost_before_the_append_has_a_column_of_its_own() -> None:
    sent = ticks(20, BRIDGE)
    found = all_found(sent)
    for one in sent[5:8]:
        found.appended.discard(one.us)
        del found.documents[one.us], found.published[one.us]
    by_stream = Promise(windows=False)
    made = row(sent, found, [], by_stream, BRIDGE)
    assert (made["lost_before"], made["lost_after"], made["broken"]) == (3, 0, "")
    two_bridges = Promise(intake=(STREAM, BRIDGE), windows=False)
    assert row(sent, found, [], two_bridges, BRIDGE)["broken"] == "3 lost before the append"


def test_recovery_is_the_longest_time_from_the_end_of_a_fault_until_a_later_message_is_heard() -> None:
    heard = {us: [Heard(us + delay, {})] for us, delay in ((0, 10), (1_000_000, 10), (2_000_000, 3_000_000))}
    assert recovery(heard, [500_000]) == 0.5
    assert recovery(heard, [500_000, 1_500_000]) == 3.5
    assert recovery(heard, [2_500_000]) is None
    assert recovery(heard, []) is None


def test_a_scenario_that_does_not_exist_is_named_with_those_that_do() -> None:
    with pytest.raises(ValueError, match="no scenario 'flood'; known scenarios: worker_killed"):
        chosen("resent+flood")
    assert chosen("") == [*SCENARIOS, *jobs.SCENARIOS, *events.SCENARIOS]


@pytest.mark.parametrize(
    "name",
    [
        *("worker_killed", "redis_killed", "replies_swallowed", "resent"),
        *("rights_taken", "unknown_errors", "handler_accidents", "clock_set"),
    ],
)
async def test_nothing_appended_is_lost_and_nothing_is_there_twice(name: str) -> None:
    rows, notes = await played(name, SHORTEST, STAGE)
    assert [one["broken"] for one in rows] == ["", ""], (rows, notes)
    assert all(one["appended"] > 50 for one in rows if one["intake"] == STREAM)
    assert all(one["dead"] == 0 for one in rows)


@pytest.mark.parametrize("name", ["jobs_killed", "jobs_restarted"])
async def test_no_accepted_job_is_lost_or_ends_twice(name: str, tmp_path: Path) -> None:
    row = await jobs.played(name, SHORTEST, StageOptions(lease=1.0, still=1.0), tmp_path)
    assert row["broken"] == "", row
    assert row["accepted"] > 20, row


async def test_no_accepted_event_is_lost_or_refused_while_search_is_away(tmp_path: Path) -> None:
    options = msgspec.structs.replace(STAGE, rate=20, still=1.0)
    row = await events.played("events_search_away", SHORTEST, options, tmp_path)
    assert row["broken"] == "", row
    assert row["accepted"] == row["posted"] > 10


async def test_an_intake_that_is_trimmed_unread_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    async def asleep(stage: Stage, plan: Plan) -> None:
        stage.workers["one"].send_signal(signal.SIGSTOP)

        async def unread() -> bool:
            (group,) = await stage.client.xinfo_groups(INTAKE)
            return bool(group["lag"] > 20)

        await until(unread, "entries that nobody reads")
        await stage.client.xtrim(INTAKE, maxlen=0, approximate=False)
        stage.workers["one"].send_signal(signal.SIGCONT)
        stage.fault_ended()

    monkeypatch.setitem(SCENARIOS, "asleep", Scenario(about="the worker sleeps", fault=asleep))
    rows, notes = await played("asleep", SHORTEST, msgspec.structs.replace(STAGE, still=2.0))
    assert sum(one["lost_after"] for one in rows) > 0
    assert any("lost" in one["broken"] for one in rows)
    assert notes
