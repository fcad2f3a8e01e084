"""``enricher analyse``: tables, JSON and plots of files made here, without any server."""

from __future__ import annotations

import io
import json
from math import exp
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from rich.console import Console
from rich.text import Text

from enricher.analytics import analyse, price
from enricher.cli.main import cli
from enricher.market.cli.analyse_view import amount, short, show, strike
from enricher.market.feed.recording import Recorded
from enricher.market.products import Contracts
from tests.integration.commands import Command
from tests.recordings import write_recording

EXPIRIES = {"30-Oct-2025": 16.0 / 365, "27-Nov-2025": 44.0 / 365}
SPOT, AT = 25_110.0, "14-Oct-2025 10:00:00"
STRIKES = range(22_400, 28_001, 200)


def leg(strike: int, kind: str, years: float, expiry: str, product: str) -> dict[str, Any]:
    terms = {"forward": SPOT * exp(0.05 * years), "strike": float(strike), "years": years, "rate": 0.065}
    worth = price(**terms, volatility=0.12 + abs(strike / SPOT - 1) / 4, kind=kind)
    return {
        "strikePrice": strike, "expiryDate": expiry, "underlying": product,
        "identifier": f"{product}{expiry}{kind}{strike}",
        "openInterest": 9000 if strike == (26_000 if kind == "CE" else 24_000) else 1000 + strike % 700,
        "changeinOpenInterest": 5, "totalTradedVolume": 10, "impliedVolatility": 12.0, "lastPrice": worth,
        "bidprice": worth * 0.998, "askPrice": worth * 1.002,
    }  # fmt: skip


def document(product: str = "NIFTY") -> dict[str, Any]:
    rows = [
        {"strikePrice": k, "expiryDate": expiry,
         **{kind: leg(k, kind, years, expiry, product) for kind in ("CE", "PE")}}
        for expiry, years in EXPIRIES.items() for k in STRIKES
    ]  # fmt: skip
    return {"records": {"timestamp": AT, "underlyingValue": SPOT, "data": rows}}


def message(expiry: str, at: str, calls: int, product: str = "NIFTY") -> bytes:
    chain = {"product": product, "expiry": expiry, "spot_price": SPOT, "timestamp": at}
    call, put = ({"strike": 25_000, "open_interest": held} for held in (calls, 8))
    sides = {"calls": [call], "puts": [put]}
    return json.dumps({**chain, **sides}).encode()


@pytest.fixture(autouse=True)
def in_a_folder_without_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def nse(tmp_path: Path) -> Path:
    path = tmp_path / "chain.json"
    path.write_text(json.dumps(document()))
    return path


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "day.jsonl"
    bodies = [
        ("market:option_chain", message("2025-10-30", "2025-10-14T10:00:00", 4)),
        ("market:underlying", b'{"product": "NIFTY", "price": 1, "timestamp": "2025-10-14T10:00:00"}'),
        ("market:option_chain", b"no JSON"),
        ("market:option_chain", b'{"product": "ODD", "expiry": "2025-10-30"}'),
        ("market:option_chain", message("2025-10-30", "2025-10-14T10:01:00", 2)),
        ("market:option_chain", message("2025-10-30", "2025-10-14T10:01:00", 16, "BANKNIFTY")),
    ]
    write_recording(path, [Recorded(n, topic, body) for n, (topic, body) in enumerate(bodies)])
    return path


def run(*arguments: object, width: int = 80) -> Result:
    return CliRunner(env={"COLUMNS": str(width)}).invoke(cli, ["analyse", *map(str, arguments)])


def as_json(*arguments: object) -> list[dict[str, Any]]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


def test_a_file_of_an_exchange_becomes_tables_and_a_plot(nse: Path) -> None:
    result = run(nse)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "NIFTY  spot 25,110.00  2025-10-14 10:00:00 Asia/Kolkata  2 expiries"
    for heading in ("Forward", "ATM IV", "Skew", "Straddle", "1 SD", "PCR", "Max pain", "Support", "GEX"):
        assert heading in result.stdout
    rows = [line.split() for line in lines if line.startswith("2025-10-30")]
    assert len(rows) == 2  # prices, and open interest
    assert rows[0][3:5] == ["parity", "12.01"]
    assert rows[1][3:5] == ["24,000", "26,000"]
    assert "▲ spot 25,110" in result.stdout
    assert "█" in result.stdout
    assert "\x1b" not in result.stdout
    assert max(map(len, lines)) <= 80
    assert result.stdout.count("NIFTY 2025-") == 1  # the plot of the first expiry


def test_on_a_wide_terminal_it_is_one_table(nse: Path) -> None:
    result = run(nse, width=170)
    assert sum(line.startswith("2025-10-30") for line in result.stdout.splitlines()) == 1
    assert max(map(len, result.stdout.splitlines())) <= 170


@pytest.mark.parametrize("width", [30, 50, 65])
def test_on_a_narrow_terminal_no_number_is_cut(nse: Path, width: int) -> None:
    result = run(nse, width=width)
    rows = [line.split() for line in result.stdout.splitlines() if line.startswith("2025-10-30")]
    assert len(rows) > 2
    assert "parity" in [cell for row in rows for cell in row]
    assert "…" not in result.stdout
    assert sum(len(row) - 1 for row in rows) == 16


def test_json_has_every_number_unrounded(nse: Path) -> None:
    near, far = as_json(nse)
    assert (near["product"], near["expiry"], far["expiry"]) == ("NIFTY", "2025-10-30", "2025-11-27")
    assert near["at"] == "2025-10-14T04:30:00Z"
    assert near["forward"]["value"] == pytest.approx(SPOT * exp(0.05 * 16 / 365), rel=1e-4)
    assert near["atm_iv"] == pytest.approx(0.12, abs=2e-3)
    assert len(near["calls"]["delta"]) == len(near["strikes"]) == len(STRIKES)
    assert near["walls"]["support"][0]["strike"] == 24_000
    named = {"pcr", "max_pain", "straddle", "expected_move", "gamma_exposure", "zero_gamma", "variance_swap"}
    assert named <= near.keys()
    assert near["units"] == Contracts().of("NIFTY").units("2025-10-30")


def test_an_expiry_that_is_asked_for_is_shown_alone_with_its_plot(nse: Path) -> None:
    result = run(nse, "--expiry", "2025-11-27")
    assert "2025-10-30" not in result.stdout
    assert "NIFTY 2025-11-27" in result.stdout
    assert [one["expiry"] for one in as_json(nse, "--expiry", "2025-10-30")] == ["2025-10-30"]
    wrong = run(nse, "--expiry", "2026-01-01")
    assert wrong.exit_code != 0
    assert "no chain of the expiry 2026-01-01; there is 2025-10-30, 2025-11-27" in str(wrong.exception)
    assert run(nse, "--expiry", "30-Oct-2025").exit_code == 2


def test_of_several_files_the_newest_chain_of_each_expiry_counts(nse: Path, recording: Path) -> None:
    found = as_json(recording)
    assert [(one["product"], one["pcr"]) for one in found] == [("BANKNIFTY", 0.5), ("NIFTY", 4.0)]
    both = as_json(nse, recording)
    assert [(one["product"], one["expiry"]) for one in both] == [
        ("BANKNIFTY", "2025-10-30"), ("NIFTY", "2025-10-30"), ("NIFTY", "2025-11-27"),
    ]  # fmt: skip
    assert len(both[1]["strikes"]) == len(STRIKES)  # of the exchange, which is later


def test_a_product_that_is_asked_for_is_shown_alone(recording: Path) -> None:
    assert [one["product"] for one in as_json(recording, "--product", "banknifty")] == ["BANKNIFTY"]
    wrong = run(recording, "--product", "SENSEX")
    assert "no chain of SENSEX; there is BANKNIFTY, NIFTY" in str(wrong.exception)


def test_messages_that_are_no_chain_are_left_out_with_a_warning(recording: Path) -> None:
    result = run(recording)
    assert result.exit_code == 0
    assert "1 messages on the channel of chains are not chains" in result.stderr
    assert "a chain of ODD was left out: no option chain: $.spot_price" in result.stderr
    assert "ODD" not in result.stdout


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("ticks.csv", "time,price\n2025-10-14T10:00:00,5\n", "these are ticks; expected option chains"),
        ("blank.jsonl", "\n", "there is nothing in it"),
        ("broken.json", '{"records": 5}', "not NSE's option chain (records.data); its keys are records"),
        ("empty.json", "", "there is nothing in it"),
        ("what", "?", "cannot tell what this is"),
        ("a.jsonl.gz", "no gzip", "a.jsonl.gz"),
    ],
)
def test_a_file_that_cannot_be_read_says_why(tmp_path: Path, name: str, text: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    result = run(path)
    assert result.exit_code != 0
    assert message in str(result.exception)
    assert not result.stdout


def test_times_are_those_of_the_exchange_the_feed_or_as_asked(nse: Path, recording: Path) -> None:
    assert as_json(nse, "--timezone", "UTC")[0]["at"] == "2025-10-14T10:00:00Z"
    assert as_json(recording)[0]["at"] == "2025-10-14T10:01:00Z"
    india = ("--set", "feed.timezone=Asia/Kolkata")
    assert as_json(recording, *india)[0]["at"] == "2025-10-14T04:31:00Z"
    assert as_json(nse, *india)[0]["at"] == "2025-10-14T04:30:00Z"


def test_settings_say_what_the_contract_is(nse: Path, tmp_path: Path) -> None:
    settings = tmp_path / "mine.toml"
    settings.write_text("[market.products.NIFTY]\nrate = 0.01\nlot = 10\n")
    one, _ = as_json(nse, "--config", settings)
    assert (one["contract"]["rate"], one["units"]) == (0.01, 10.0)


def test_a_product_that_nobody_named_says_that_its_terms_are_assumed(tmp_path: Path) -> None:
    path = tmp_path / "chain.json"
    path.write_text(json.dumps(document("UNHEARD")))
    assert "Nobody has named the terms of UNHEARD" in run(path).stdout


def test_what_a_feed_names_gives_no_orders_to_the_terminal(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    body = message("2025-10-30", "2025-10-14T10:00:00", 4, "A\x1b[2J")
    write_recording(path, [Recorded(1, "market:option_chain", body)])
    result = run(path)
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout


def test_a_terminal_gets_colours_and_a_plot_of_every_expiry_asked_for() -> None:
    console = Console(force_terminal=True, width=100, file=io.StringIO(), color_system="standard")
    one = analyse(message("2025-10-30", "2025-10-14T10:00:00", 4), contract=Contracts().of("NIFTY"))
    other = msgspec.structs.replace(one, expiry="2025-11-27")
    show([one, other], True, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[1m" in shown
    assert shown.count("▲ spot") == 2
    assert all(len(Text.from_ansi(line)) <= 100 for line in shown.splitlines())


def test_the_command_runs_as_a_program(nse: Path, tmp_path: Path) -> None:
    with Command(tmp_path / "run", "analyse", str(nse), "--json") as command:
        assert command.end() == 0, command.err
    assert json.loads(command.out)[0]["pcr"] == as_json(nse)[0]["pcr"]
    with Command(tmp_path / "run", "analyse", str(tmp_path / "none.json")) as command:
        assert command.end() == 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_utf_8_gets_the_numbers_all_the_same(
    nse: Path, tmp_path: Path, encoding: str
) -> None:
    with Command(tmp_path / "run", "analyse", str(nse), PYTHONIOENCODING=encoding) as command:
        assert command.end() == 0, command.err
    assert "26,000" in command.out


def test_a_product_without_a_name_is_said_to_have_none(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"
    write_recording(path, [Recorded(1, "market:option_chain", b"{}")])
    assert "Warning: a chain of a product without a name was left out" in run(path).stderr
    assert "there is a product without a name" in str(run(path, "--product", "NIFTY").exception)


def test_numbers_are_short_and_what_is_unknown_is_a_dash() -> None:
    assert [short(x) for x in (None, 0.0, 950.0, -1234.0, 2.33e10, 5e15)] == [
        "-", "0", "950", "-1.23k", "23.3B", "5e+03T",
    ]  # fmt: skip
    assert [strike(x) for x in (None, 25_000.0, 0.5, 1234.25)] == ["-", "25,000", "0.5", "1,234.25"]
    assert [amount(None), amount(1234.5)] == ["-", "1,234.50"]


def test_the_newest_is_what_the_library_says_of_it(recording: Path) -> None:
    body = message("2025-10-30", "2025-10-14T10:01:00", 2)
    alone = analyse(body, contract=Contracts().of("NIFTY"), zone="UTC")
    (one,) = as_json(recording, "--product", "NIFTY")
    assert (one["years"], one["pcr"], one["flags"]) == (alone.years, alone.pcr, alone.flags)


def test_what_is_asked_for_besides_has_columns_of_its_own(nse: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extras = ("Vanna", "Charm", "Volga", "Tr. IV", "India IV")
    assert not [name for name in extras if name in run(nse, width=250).stdout]
    monkeypatch.setenv("ENRICHER_MARKET__EXTRAS", "second_order,trading_time,india_vix")
    result = run(nse, width=250)
    assert [name for name in extras if name in result.stdout] == list(extras)
    assert max(map(len, result.stdout.splitlines())) <= 250
    found = as_json(nse)[0]
    assert found["trading_time"]["factor"] > 0
    assert found["india_vix"]["reason"] == "no_future"
