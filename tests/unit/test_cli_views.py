"""What the command line reads from figures, and how it renders them."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click
import pytest
from rich.console import Console, RenderableType

from enricher.cli.check import Server, columns, warnings
from enricher.cli.dlq import EXAMPLES
from enricher.cli.dlq_retry import unseen
from enricher.cli.dlq_tables import as_json, details, outcome_line, row, sheet
from enricher.cli.live import milliseconds, number, redraws, show
from enricher.cli.main import COMMANDS, cli
from enricher.cli.options import assignment, duration
from enricher.cli.tables import Sheet, Stack, Trend
from enricher.cli.top import TOPIC_COUNTS, Looks, per_second, pictures, total, troubles
from enricher.cli.workers import status_line, verdict
from enricher.config import load
from enricher.dead_letters.filters import LetterFilter
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.replay import Outcome
from enricher.engine.stats import Histogram
from enricher.errors import BadMessage
from enricher.market.cli.demo_tables import ChainView, Picture, Product, Window, line, round_down, tables
from enricher.market.feed.synthetic import SyntheticMarket
from enricher.messages.models import decode_tick

SECOND = 1_000_000
EMPTY = Histogram().summary()


def figures(now_us: int = 0, **more: Any) -> dict[str, Any]:
    """The figures of a worker that has rested since 1970."""
    return {
        "service": "worker-enricher",
        "instance": "blue",
        "started_us": 0,
        "now_us": now_us,
        "loop_lag_ms": 0.1,
        "status": "ready",
        "outages": {},
        "sources": {},
        "pool": {"messages": 0, "bytes": 0, "lanes": 0, "turns": 0},
        "topics": {},
        "latency": {"commit": EMPTY, "event": EMPTY},
        "in_flight": [],
        **more,
    }


def received(count: int, topic: str = "market:underlying") -> dict[str, Any]:
    return {topic: {"received": count, "processed": count // 2, "handling": EMPTY}}


def text(*parts: RenderableType) -> str:
    out = Console(file=io.StringIO(), width=200, no_color=True)
    out.print(*parts)
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


# -- options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "seconds"), [("20s", 20.0), ("2m", 120.0), ("1h", 3600.0), ("250ms", 0.25), ("7", 7.0)]
)
def test_durations_are_seconds(written: str, seconds: float) -> None:
    assert duration(written) == seconds


@pytest.mark.parametrize("written", ["", "soon", "-1s", "0s", "20 s 3"])
def test_what_is_no_duration_is_refused(written: str) -> None:
    with pytest.raises(click.BadParameter):
        duration(written)


def test_an_assignment_is_split_at_the_first_equals_sign() -> None:
    url = "redis://h/0?a=b"
    assert assignment(f"redis.url={url}") == ("redis.url", url)


@pytest.mark.parametrize("written", ["redis.url", "=1", "geheim=1"])
def test_a_text_that_assigns_nothing_is_refused_without_being_repeated(written: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        assignment(written)
    assert "geheim" not in refused.value.message


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_a_help_with_examples(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    page = command.get_help(click.Context(command, info_name=f"enricher {name}"))
    assert "--help" in page
    assert f"enricher {name}" in page.partition("--help")[2] or isinstance(command, click.Group)


def pages(command: click.Command, name: str) -> Iterator[tuple[str, str]]:
    """The help of a command and of the commands in it, as a terminal of 80 columns shows it."""
    context = click.Context(command, info_name=name, terminal_width=80, max_content_width=80)
    yield name, command.get_help(context)
    for part in command.list_commands(context) if isinstance(command, click.Group) else ():
        if (inner := command.get_command(context, part)) is not None:
            yield from pages(inner, f"{name} {part}")


def test_every_help_fits_80_columns() -> None:
    lines = [(name, line) for name, page in pages(cli, "enricher") for line in page.splitlines()]
    assert [(name, line) for name, line in lines if len(line) > 80] == []


# -- how is it? ----------------------------------------------------------------------------------------


def test_the_status_line_names_what_is_unreachable() -> None:
    away = figures(status="degraded", outages={"documents": "refused"}, topics=received(10))
    assert status_line(away) == "degraded, unreachable: documents, 0 waiting, 5 processed, 0 dead letters"


# -- health --------------------------------------------------------------------------------------------


def test_of_several_workers_of_a_host_the_newest_figures_count() -> None:
    left_behind = figures(0, instance="old", status="stopping")
    assert verdict([figures(9 * SECOND), left_behind], 10 * SECOND, 5.0)[0]


def test_a_worker_that_restores_is_not_ready_and_says_how_far_it_is() -> None:
    found = figures(9 * SECOND, status="restoring", restoring={"done": 3, "total": 8})
    well, line = verdict([found], 10 * SECOND, 5.0)
    assert (well, "restoring 3/8" in line) == (False, True)
    assert status_line(found).startswith("restoring 3/8, ")


def test_a_worker_that_stands_still_says_why() -> None:
    why = "lanes of ticks: slots are free, and no turn is given"
    found = figures(9 * SECOND, status="stalled", stalled=[why])
    assert verdict([found], 10 * SECOND, 5.0) == (False, f"blue: stalled, 1.0 s ago; {why}")
    assert troubles(found) == why


def test_figures_from_the_future_of_another_clock_are_fresh() -> None:
    assert verdict([figures(12 * SECOND)], 10 * SECOND, 5.0)[0]


def test_no_figures_are_no_health() -> None:
    assert not verdict([], 0, 5.0)[0]


# -- check ---------------------------------------------------------------------------------------------


def test_a_setup_with_nothing_to_regret_gets_no_warning_but_for_its_missing_routes() -> None:
    calm = [Server("Redis", "redis://h", "valkey 9", policy="noeviction")]
    assert [w.split(",")[0] for w in warnings(load(), calm, [])] == ["no route is registered"]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert list(columns(["a", "b"], [["long", "x"], ["s", "y"]])) == ["  a     b", "  long  x", "  s     y"]


# -- top -----------------------------------------------------------------------------------------------


def test_a_rate_is_what_was_counted_between_two_looks() -> None:
    before, now = figures(SECOND, topics=received(100)), figures(3 * SECOND, topics=received(400))
    assert per_second(now, before, "received") == 150.0
    assert per_second(now, before, "received", "market:underlying") == 150.0
    assert per_second(now, before, "received", "mail") == 0.0


def test_there_is_no_rate_without_a_look_before_nor_across_a_restart() -> None:
    now = figures(3 * SECOND, topics=received(4), started_us=2 * SECOND)
    assert per_second(now, None, "received") is None
    assert per_second(now, figures(SECOND, topics=received(9)), "received") is None
    assert per_second(now, now, "received") is None


def test_a_total_is_over_all_topics_or_one() -> None:
    both = figures(topics={**received(3, "a"), **received(4, "b")})
    assert (total(both, "received"), total(both, "received", "b")) == (7, 4)


def test_top_shows_outages_silence_and_what_is_in_flight() -> None:
    flight = {"topic": "mail", "key": None, "attempt": 2, "since_us": SECOND, "stage": "handler"}
    busy = figures(
        2 * SECOND,
        status="degraded",
        outages={"documents": "connection refused"},
        sources={"pubsub": {"ready": True, "silent_s": 3.5, "gaps": 1, "channels": {"market:x": 4.0}}},
        topics=received(10),
        in_flight=[flight],
    )
    shown = text(*pictures(Looks({"w": busy}), 3 * SECOND))
    for wanted in ("degraded", "documents: connection refused", "3.5 s", "market:x 4 s ago", "mail", "2.0 s"):
        assert wanted in shown


def test_top_leaves_the_table_of_what_is_in_flight_out_when_nothing_is() -> None:
    assert "In flight" not in text(*pictures(Looks({"w": figures()}), 0))


# -- demo ----------------------------------------------------------------------------------------------


def looks(*totals: int, waiting: int = 0) -> Looks:
    """Looks a second apart at a worker that had received so many messages, and done half of them."""
    made = Looks()
    for second, count in enumerate(totals):
        pool = {**figures()["pool"], "messages": waiting}
        made.add([figures(second * SECOND, topics=received(count), pool=pool)])
    return made


def picture(**more: Any) -> Picture:
    kept: dict[str, Any] = {
        "seconds": 4.0,
        "wanted": 1000.0,
        "looks": looks(200, 1200),
        "publish": EMPTY,
        "publish_now": EMPTY,
    }
    return Picture(**{**kept, **more})


def test_the_line_of_a_demo_has_rates_and_latencies() -> None:
    quick = Histogram()
    quick.record(2_000)
    shown = line(picture(publish_now=quick.summary(), dead_letters=3))
    assert "in 1,000/s  out 500/s" in shown
    assert "PUBLISH to publish p50 2.0 ms p99 2.0 ms" in shown
    assert "event to commit p50 - p99 -" in shown
    assert shown.endswith("dead letters 3")


def test_the_tables_of_a_demo_show_what_is_known_and_a_dash_for_the_rest() -> None:
    known = Product(
        "NIFTY",
        [21850.5],
        Window(open=1.0, high=4.0, low=0.5, close=2.0, num_ticks=7),
        ChainView(
            expiry="2025-01-30", pcr_oi=0.9, max_pain_strike=21500.0, atm_strike=None, atm_straddle_price=None
        ),
    )
    letter = StoredLetter(0, b"", {"error": "$.strike: x", "timestamp": "2025-01-01T10:11:12Z"}, TOPICS[1])
    shown = text(*tables(picture(products=[known, Product("OTHER")], letters=[letter], dead_letters=1)))
    nifty = next(row.split() for row in shown.splitlines() if "NIFTY" in row)
    assert nifty.pop() == "▁"
    assert nifty == [
        *("NIFTY", "21,850.50", "1.00", "4.00", "0.50", "2.00", "7"),
        *("0.9000", "21,500.0", "-", "-", "2025-01-30"),
    ]
    other = next(row.split() for row in shown.splitlines() if "OTHER" in row)
    assert set(other[1:]) == {"-"}
    assert "10:11:12" in shown
    assert "1 dead letters (on purpose)" in shown


def test_a_demo_that_keeps_up_is_not_behind() -> None:
    assert picture(looks=looks(0, 1000, 2000, 3000, 4000), wanted=1000.0).behind == ""
    assert picture(looks=looks(0, 10, 20), wanted=1000.0).behind == ""


def test_a_demo_with_a_slow_feed_says_so_and_which_rate_to_try() -> None:
    slow = picture(looks=looks(0, 1000, 2000, 3000, 4000), wanted=5000.0)
    assert slow.behind == "behind: the feed sends 1,000 of 5,000 messages a second. Try --rate 800"
    assert slow.behind in text(*tables(slow))
    assert line(slow).endswith(slow.behind)


def test_a_demo_with_a_slow_worker_says_so_and_which_rate_to_try() -> None:
    slow = picture(looks=looks(0, 1000, 2000, 3000, 4000, waiting=4321), wanted=1000.0)
    assert slow.behind == "behind: 4,321 messages wait, this machine does 500 a second. Try --rate 400"


@pytest.mark.parametrize(("rate", "tried"), [(1234.5, 1200), (98.7, 98), (7.0, 7), (0.2, 1)])
def test_a_rate_to_try_has_two_digits(rate: float, tried: float) -> None:
    assert round_down(rate) == tried


def test_a_trend_shows_as_many_of_the_newest_numbers_as_there_is_room_for() -> None:
    assert str(Trend([0.0, 3.0, 6.0])) == "▁▄▇"
    assert Trend([9.0, 3.0, None, 6.0]).bars(3).plain == "▄ ▇"
    assert str(Trend([100.0, 103.0, 106.0], spread=True)) == "▁▄▇"
    assert (str(Trend([])), str(Trend([0.0])), str(Trend([None]))) == ("", "▁", " ")


def test_trends_are_over_all_workers_and_a_look_at_the_same_figures_adds_nothing() -> None:
    both = Looks()
    for second in (0, 1, 1, 2):
        both.add(
            figures(second * SECOND, instance=name, topics=received(100 * second)) for name in ("blue", "red")
        )
    assert list(both.trends["received/s"]) == [200.0, 200.0]


def test_numbers_are_for_people() -> None:
    assert (number(None), number(1234567), number(2.5, 2, " s")) == ("-", "1,234,567", "2.50 s")
    assert (milliseconds(None), milliseconds(12.34), milliseconds(12_345.0)) == ("-", "12.3 ms", "12.3 s")
    assert (milliseconds(9 * 3.6e6), milliseconds(51.5 * 86.4e6)) == ("9.0 h", "51.5 d")


# -- on a terminal -------------------------------------------------------------------------------------

SIZES = [(80, 24), (120, 40)]
SYNTHETIC = SyntheticMarket(8).products
TOPICS = ("market:underlying", "market:option_quote", "market:option_chain")


def screen(part: RenderableType, width: int, height: int) -> list[str]:
    """The lines of a view on a terminal of this size."""
    out = Console(file=io.StringIO(), width=width, height=height, no_color=True, force_terminal=True)
    with out.capture() as captured:
        out.print(part)
    lines = [re.sub(r"\x1b\[[\d;]*m", "", line) for line in captured.get().splitlines()]
    assert max(len(line) for line in lines) <= width
    return lines


def busy() -> dict[str, Any]:
    """The figures of a worker with three topics and much to count."""
    slow = Histogram()
    slow.record(123_456_789)
    counts = dict.fromkeys(TOPIC_COUNTS, 1_234_567)
    return figures(
        2 * SECOND,
        instance="trading-host-7-4242",
        topics={topic: {**counts, "handling": slow.summary()} for topic in TOPICS},
        latency={"commit": slow.summary(), "event": slow.summary()},
        sources={"pubsub": {"ready": True, "silent_s": 3.5, "channels": dict.fromkeys(TOPICS, 4.0)}},
        in_flight=[
            {"topic": TOPICS[0], "key": "NIFTY", "attempt": 1, "since_us": SECOND, "stage": "handler"}
        ] * 30,
    )


def busy_picture() -> Picture:
    slow = busy()["latency"]["event"]
    window = Window(open=21850.5, high=21850.5, low=21850.5, close=21850.5, num_ticks=1234)
    chain = ChainView("2025-01-30", 0.9123, 21500.0, 21500.0, 312.55)
    products = [Product(name, [21850.5] * 60, window, chain) for name in SYNTHETIC]
    error = "$.strike: expected a number, got [x]" * 5
    letter = StoredLetter(0, b"", {"error": error, "timestamp": "2025-01-01T10:11:12Z"}, TOPICS[1])
    bar = dict.fromkeys(("open", "high", "low", "close", "num_ticks", "revision"), 1.0)
    return picture(
        looks=Looks({"w": busy()}), publish=slow, publish_now=slow, products=products,
        letters=[letter] * 3, dead_letters=3,
        bars=[{**bar, "start": datetime(2025, 1, 1, tzinfo=UTC), "product": name} for name in SYNTHETIC],
    )  # fmt: skip


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_demo_names_every_product_in_a_line_of_its_own_and_fits_the_screen(width: int, height: int) -> None:
    lines = screen(Stack(list(tables(busy_picture())), by_height=True), width, height)
    assert len(lines) <= height
    for name in SYNTHETIC:
        assert lines[first_line(lines, name)].split()[1] == "21,850.50"


def first_line(lines: list[str], word: str) -> int:
    """Where the first line that begins with ``word`` is."""
    return next(i for i, line in enumerate(lines) if line.split()[:1] == [word])


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_top_names_every_topic_in_a_line_of_its_own_and_fits_the_screen(width: int, height: int) -> None:
    lines = screen(Stack(list(pictures(Looks({"w": busy()}), 3 * SECOND)), by_height=True), width, height)
    assert len(lines) <= height
    topics = lines[first_line(lines, "Topics") : first_line(lines, "Sources")]
    for topic in TOPICS:
        assert sum(topic in line.split() and "1,234,567" in line for line in topics) == 1
    assert "In flight" in lines[-1]


@pytest.mark.parametrize(("width", "height"), SIZES)
def test_a_list_of_dead_letters_names_every_topic_and_wraps_only_the_errors(width: int, height: int) -> None:
    record = {
        "stage": "decode",
        "attempts": 2,
        "timestamp": "2025-01-01T10:11:12Z",
        "error": "$.timestamp: expected a time at most 60 s ahead of the clock, got 2031-01-01T10:11:12Z",
    }
    letters = [
        StoredLetter(i, b"", {"task_id": f"{i}f2a9c71-0000", **record}, topic)
        for i, topic in enumerate(TOPICS)
    ]
    lines = screen(sheet(letters, width), width, height)
    for i, topic in enumerate(TOPICS):
        row = next(line for line in lines if topic in line.split())
        assert f"{i}f2a9c71" in row
        assert "01-01 10:11" in row
    assert len(lines) <= 2 + 3 * len(TOPICS)


def test_what_does_not_fit_the_height_is_named_in_the_last_line() -> None:
    lines = screen(Stack(list(tables(busy_picture())), by_height=True), 80, 24)
    assert "Closed bars (1 minute)" in lines[-1]


def test_without_a_limit_everything_is_shown() -> None:
    assert len(screen(Stack(list(tables(busy_picture()))), 80, 24)) > 24


def test_a_name_in_brackets_is_no_markup() -> None:
    made = Sheet("", "name")
    made.add_row("[red]x[/red]")
    assert "[red]x[/red]" in text(made)


# -- dlq -----------------------------------------------------------------------------------------------


def test_what_a_dead_letter_says_gives_no_orders_to_a_terminal() -> None:
    record = {"task_id": "abc\x1b[2J", "error": "\x1b]0;title\x07 a\rb", "args": ["\x9b31m one\r\ntwo"]}
    letter = StoredLetter(0, b"{}", record, "market:\x1b[31m")
    shown = [details(letter), *row(letter), outcome_line(letter, Outcome("failed", "\x1b[0m"), json=False)]
    assert not [text for text in shown if re.search(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f]", text)]
    assert r"\x1b]0;title\x07 a\x0db" in details(letter)
    made = Sheet("", "key", wraps=("key",))
    made.add_row("NIFTY\x1b[31m")
    assert made.rows == [(r"NIFTY\x1b[31m",)]


def test_no_form_of_a_dead_letter_shows_the_password_that_its_error_quotes() -> None:
    told = "ConnectionError: redis://me:hunter2@h"
    record = {"task_id": "1", "error": told, "traceback": f"...\n{told}", "body": "{}", "n": 2**70}
    letter = StoredLetter(0, json.dumps(record).encode(), record, "t")
    ends = [outcome_line(letter, Outcome("failed", told), json=json) for json in (True, False)]
    shown = [as_json(letter), details(letter), *row(letter), *ends]
    assert not [text for text in shown if "hunter2" in text]
    clean = "redis://me:***@h"
    assert json.loads(as_json(letter)) == {
        "position": 0, **record,
        "error": f"ConnectionError: {clean}", "traceback": f"...\nConnectionError: {clean}",
    }


def test_the_filter_in_the_help_of_dlq_matches_the_letter_of_a_message_from_the_future() -> None:
    with pytest.raises(BadMessage) as refused:
        decode_tick(b'{"product": "NIFTY", "price": 1.0, "timestamp": "2031-01-01T00:00:00Z"}', now_us=0)
    letter = StoredLetter(0, b"", {"error": str(refused.value)}, None)
    wanted = re.search(r"--error '(.+?)'", EXAMPLES)
    assert wanted is not None
    assert LetterFilter(error=wanted[1]).matches(letter)


def test_a_warning_of_what_a_worker_misses_says_that_it_takes_no_retries_only_where_it_does_not() -> None:
    assert "takes no retries" in unseen("blue", heard=False)
    assert "takes no retries" not in unseen("blue", heard=True)
    assert "with --via worker" in unseen("blue", heard=True)


@pytest.mark.parametrize(
    ("term", "force", "drawn"), [("xterm", True, True), ("dumb", True, False), ("xterm", False, False)]
)
async def test_a_view_is_shown_on_every_terminal_and_redrawn_where_it_can_be(
    term: str, force: bool, drawn: bool
) -> None:
    file, stop, shown = io.StringIO(), asyncio.Event(), 0

    async def view() -> str:
        nonlocal shown
        shown += 1
        if shown > 2:
            stop.set()
        return f"view {shown}"

    out = Console(file=file, force_terminal=force, highlight=False, _environ={"TERM": term})
    assert redraws(out) is drawn
    await show(out, view, 0.001, stop)
    assert ("view 2" in file.getvalue(), "\x1b[" in file.getvalue()) == (True, drawn)
