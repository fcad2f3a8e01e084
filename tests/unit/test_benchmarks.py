"""What the benchmarks compute with: latencies, schedules, workloads, reports."""

from __future__ import annotations

import io
import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from benchmarks.load import stamp_us
from benchmarks.measure import Latencies, finished, schedule
from benchmarks.parts import PARTS, Options
from benchmarks.report import Report, Surroundings, show, shown, spread, taken
from benchmarks.workloads import KINDS, lazily, workload
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
