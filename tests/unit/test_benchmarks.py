"""What the benchmarks compute with: latencies, schedules, workloads, reports."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.load import send_packed, stamp_us
from benchmarks.mails import done, mails
from benchmarks.measure import Latencies, finished, schedule
from benchmarks.overload import balanced
from benchmarks.parts import PARTS, Options
from benchmarks.report import Report, Surroundings, show, shown, spread, taken
from benchmarks.soak import drift, judged
from benchmarks.streams import run
from benchmarks.workloads import KINDS, lazily, workload
from enricher.mail import parse_message
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING

DURATIONS = st.integers(0, 2**45)
MONDAY = 1_790_000_000_000_000


# -- latencies -----------------------------------------------------------------------------------------


@given(st.lists(DURATIONS, min_size=1, max_size=200), st.sampled_from([0.5, 0.9, 0.99, 0.999, 1.0]))
def test_quantiles_are_those_of_sorting(values: list[int], q: float) -> None:
    exact = next(v for i, v in enumerate(sorted(values), 1) if i >= q * len(values))
    assert Latencies(values).quantile(q) == exact


def test_nothing_recorded_has_no_quantiles() -> None:
    assert Latencies().summary() == {
        "count": 0,
        "p50_ms": None,
        "p99_ms": None,
        "p999_ms": None,
        "max_ms": None,
    }


def test_a_clock_that_was_set_back_counts_as_no_time() -> None:
    assert Latencies([-5]).quantile(1.0) == 0


# -- schedules -----------------------------------------------------------------------------------------


@given(st.floats(0.1, 100_000), st.integers(1, 2000))
def test_a_schedule_keeps_its_rate_to_the_end(rate: float, count: int) -> None:
    due = schedule(rate, count, MONDAY)
    assert len(due) == count
    assert due[0] == MONDAY
    assert due == sorted(due)
    assert abs(due[-1] - MONDAY - (count - 1) / rate * 1e6) <= 1


def test_a_message_tells_when_it_was_due() -> None:
    (_, body), (_, second) = workload("ticks", 2, 1, start_us=MONDAY, step_us=1e6 / 3)
    assert stamp_us(body) == MONDAY
    assert stamp_us(second) == MONDAY + 333_333


def test_a_body_without_a_timestamp_is_an_error_that_shows_it() -> None:
    with pytest.raises(ValueError, match=r'no timestamp in .*"price":1'):
        stamp_us(b'{"price":1}')


# -- workloads -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_makes_the_same_messages(kind: str) -> None:
    asked = (kind, 40, 3, 5)
    assert workload(*asked, seed=1, start_us=MONDAY) == workload(*asked, seed=1, start_us=MONDAY)
    assert workload(*asked, seed=1, start_us=MONDAY) != workload(*asked, seed=2, start_us=MONDAY)


@pytest.mark.parametrize("products", [1, 7, 8, 40])
def test_a_mix_is_one_tick_to_six_quotes_and_a_fifth_of_a_chain(products: int) -> None:
    kinds = Counter(topic for topic, _ in workload("mix", 36 * products, products, 3))
    assert kinds == {UNDERLYING: 5 * products, OPTION_QUOTE: 30 * products, OPTION_CHAIN: products}


def test_products_take_turns_message_by_message() -> None:
    names = [json.loads(body)["product"] for _, body in workload("mix", 100, 50, 3)]
    assert len(set(names[:50])) == 50
    assert names[:50] == names[50:]


def test_the_messages_of_one_product_come_in_the_order_of_its_round() -> None:
    market = workload("mix", 8 * 36, 8, 3)
    mine = [topic for topic, body in market if json.loads(body)["product"] == "NIFTY"]
    assert mine[:7] == [UNDERLYING] + 6 * [OPTION_QUOTE]
    assert mine[35] == OPTION_CHAIN


def test_chains_have_the_strikes_asked_for_and_their_expiries_take_turns() -> None:
    chains = [json.loads(body) for _, body in workload("chains", 2, 1, 200)]
    assert [len(chain["calls"]) for chain in chains] == [200, 200]
    assert chains[0]["expiry"] != chains[1]["expiry"]


def test_lazy_messages_are_the_same_but_for_their_time() -> None:
    clock = iter(range(MONDAY, MONDAY + 10_000, 100))
    made = lazily("mix", 4, 3, seed=5, clock=lambda: next(clock))
    assert [next(made) for _ in range(30)] == workload("mix", 30, 4, 3, seed=5, start_us=MONDAY, step_us=100)


# -- figures and reports -------------------------------------------------------------------------------


def test_whatever_leaves_the_worker_has_finished() -> None:
    topics = {"a": {"received": 9, "processed": 3, "dead": 1}, "b": {"duplicate": 2, "dropped": 1, "gaps": 4}}
    assert finished({"topics": topics}) == 7


def test_a_report_shows_its_columns_and_notes_and_hides_the_rest() -> None:
    rows: list[dict[str, object]] = [
        {"workload": "ticks", "us": 1234.5, "hidden": "secret"},
        {"workload": "mix", "us": None},
    ]
    out = io.StringIO()
    show(Report("cpu", "per message", ["workload", "us"], rows, ["a note"]), Console(file=out))
    text = out.getvalue()
    assert "cpu: per message" in text
    assert "1,234.5" in text
    assert "a note" in text
    assert "secret" not in text


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "yes"), (12_345, "12,345"), (12_345.67, "12,346"), (0.25, "0.25"), ("mix", "mix")],
)
def test_values_are_shown_as_a_reader_wants_them(value: object, text: str) -> None:
    assert shown(value) == text


def test_a_spread_goes_from_the_smallest_to_the_largest() -> None:
    assert spread([3.0, 1.25, 2.0]) == "1.2-3.0"
    assert spread([]) == ""


def test_what_the_part_did_itself_is_not_other_programs_work() -> None:
    around = taken("cpu", 10.0, 2, busy=9.0, own=7.0, stolen=1.0)
    assert around == Surroundings("cpu", 10.0, others_pct=10.0, stolen_pct=5.0)
    assert taken("cpu", 10.0, 2, busy=6.99, own=7.0, stolen=0.0).others_pct == 0.0


def test_a_setting_of_a_part_is_a_number_or_an_error_that_names_it() -> None:
    options = Options(settings={"soak.minutes": "1_0.5", "soak.rate": "fast"})
    assert options.number("soak.minutes", 30) == 10.5
    assert options.number("restart.flood", 20) == 20
    with pytest.raises(ValueError, match=r"soak\.rate must be a number, not 'fast'"):
        options.number("soak.rate", 1)


def test_every_part_says_what_it_measures() -> None:
    assert {"cpu", "latency", "walk"} <= set(PARTS)
    assert all(part.about and part.module.startswith("benchmarks.") for part in PARTS.values())


END_US = 1_790_000_000_000_000

COUNTS = {
    "received": 10,
    "processed": 6,
    "stored": 6,
    "duplicate": 1,
    "dropped": 1,
    "conflated": 1,
    "dead": 1,
    "lost": 0,
    "redis_lost": 0,
    "gaps": 0,
}


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, True),
        ({"dropped": 0}, False),
        ({"stored": 5}, False),
        ({"redis_lost": 3}, False),
        ({"redis_lost": 3, "gaps": 1}, True),
        ({"redis_lost": -1, "gaps": 1}, False),
    ],
)
def test_a_count_that_does_not_add_up_or_a_loss_that_nobody_noticed_is_not_balanced(
    changed: dict[str, int], expected: bool
) -> None:
    assert balanced(COUNTS | changed) is expected


class Answering:
    """A connection that answers each command with one subscriber, all at once when they are waited for."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.unanswered = 0

    def send(self, packed: bytes) -> None:
        self.sent.append(packed)
        self.unanswered += packed.count(b".")

    def replies(self, *, wait: bool) -> list[int]:
        found = [1] * self.unanswered if wait else []
        self.unanswered -= len(found)
        return found


def test_what_is_overdue_is_sent_in_order_and_every_answer_is_waited_for() -> None:
    wire: Any = Answering()
    packed = [b"%d." % number for number in range(1200)]
    late, receivers = send_packed(wire, packed, [END_US - 1_000_000_000_000 + n for n in range(1200)])
    assert b"".join(wire.sent) == b"".join(packed)
    assert late.total == sum(receivers) == 1200


def test_drift_is_the_growth_in_ten_minutes_and_an_outlier_does_not_move_it() -> None:
    points = [(minute / 6, 100 + 0.2 * minute / 6) for minute in range(90)]
    expected = 100 * 2 / 101.5
    assert drift(points) == pytest.approx(expected, rel=0.01)
    points[40] = (points[40][0], 5000.0)
    assert drift(points) == pytest.approx(expected, rel=0.02)
    assert drift([(0.0, 7.0), (1.0, 7.0)]) == 0


def samples(minutes: float, rss_per_minute: float) -> list[dict[str, Any]]:
    rows = []
    for number in range(int(minutes * 6)):
        minute = number / 6
        rss = 80.0 + min(minute, 16) + max(0.0, minute - 16) * rss_per_minute
        rows.append({"minute": minute, "rss_mb": rss, "us": 200.0, "p50_ms": 3.0, "p99_ms": None})
    return rows


def test_memory_that_grows_while_the_windows_fill_is_steady_and_later_growth_is_not() -> None:
    assert not judged(samples(30, 0.0), 30).failed
    leaking = judged(samples(30, 0.5), 30)
    assert leaking.failed
    assert {row["figure"]: row["steady"] for row in leaking.rows} == {"rss": False, "us": True, "p50": True}


def test_a_short_run_is_no_verdict() -> None:
    report = judged(samples(2, 0.0), 2)
    assert not report.failed
    assert report.notes


def test_a_mail_has_two_kilobytes_two_bodies_and_an_id_of_its_own() -> None:
    raw = mails(3, first=5)
    read = [parse_message(one) for one in raw]
    assert [mail.message_id for mail in read] == [f"<m.{n:08d}@example.org>" for n in (5, 6, 7)]
    assert all(1_800 < len(one) < 2_300 for one in raw)
    assert all(mail.text and mail.html and "für Köln" in mail.text and not mail.defects for mail in read)


def test_what_was_delivered_and_waits_for_nothing_is_done() -> None:
    ids = [b"9-0", b"10-0", b"10-1", b"11-0"]
    assert done(ids, b"10-1", [b"9-0"]) == [b"10-0", b"10-1"]
    assert done(ids, b"0-0", []) == []


def test_a_table_that_there_is_not_is_called_by_its_name() -> None:
    with pytest.raises(ValueError, match="must be one of mail, delay, intake, not 'all'"):
        run(Options(settings={"streams.only": "all"}))
