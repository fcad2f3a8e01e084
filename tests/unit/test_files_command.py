"""`replay --dry-run` and `analyse` on files of a desk: what is said, and with which exit code."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from enricher.cli.main import cli
from tests.pages import blocks, page

TICKS = "time;price\n2026-08-13 09:15:00;25010,50\n\ntime;price\n2026-08-13 09:15:01;25011,25\n"
CHAINS = (
    "symbol,expiryDate,strikePrice,underlying,CE_OI,CE_LTP,PE_OI,PE_LTP\n"
    "NIFTY,25-Aug-2026,24900,25010,5000,190,2300,75\nNIFTY,25-Aug-2026,25000,25010,3000,130,3000,115\n"
    "BANKNIFTY,25-Aug-2026,55900,56030,1400,420,1350,230\n"
)


@pytest.fixture(autouse=True)
def in_a_folder_without_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(command: str, text: str, *options: str, name: str = "file.csv") -> Result:
    Path(name).write_text(text)
    return CliRunner().invoke(cli, [command, name, *options])


def replayed(text: str, *options: str) -> Result:
    return run("replay", text, "--dry-run", "--timezone", "Asia/Kolkata", *options)


def test_guesses_are_told_when_asked_for_and_rows_left_out_always() -> None:
    quiet, explained = (replayed(TICKS, "--product", "N", *more) for more in ([], ["--explain"]))
    for result in (quiet, explained):
        assert result.exit_code == 0, result.output
        assert "Would publish 2 messages: market:underlying 2" in result.stdout
        assert "file.csv: 1 rows left out: a header between rows" in result.stderr
    assert "delimiter" not in quiet.stderr
    assert "file.csv: read as a table of ticks" in explained.stderr
    assert "file.csv: delimiter ';', a header, decimal mark ','" in explained.stderr
    assert "file.csv: times in column time, prices in price" in explained.stderr


def test_a_doubt_is_always_told() -> None:
    result = replayed("time;price\n2026-08-13 09:15:00;25.010\n", "--product", "N")
    assert result.exit_code == 0
    assert "Warning: file.csv: 25.010 is read as 25.01 (--decimal , if its point groups)" in result.stderr


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        (TICKS, [], "--product, --product-column"),
        ("when,px\n2026-08-13 09:15:00,1\n", ["--product", "N"], "Give --time-column"),
        (TICKS, ["--product", "N", "--price-column", "cost"], "expected one of the columns time, price"),
        (TICKS, ["--delimiter", "ab"], "'ab': expected one character or tab"),
        (TICKS, ["--delimiter", "x"], "expected one character"),
        (TICKS, ["--encoding", "klingon"], "expected an encoding such as utf-8"),
        (TICKS, ["--encoding", "base64"], "expected an encoding such as utf-8"),
        (TICKS, ["--spot", "0"], "expected a price above 0"),
        (TICKS, ["--spot", "2_5"], "expected a price above 0"),
        (TICKS, ["--time-format", "epoch_ms"], "expected epoch, epoch-ms"),
        (TICKS, ["--time-format", "%Q"], "or a pattern such as"),
        (TICKS, ["--expiry", "18-Aug-2026"], "expected a date as YYYY-MM-DD"),
    ],
)
def test_what_options_lack_or_say_wrongly_is_wrong_usage(text: str, options: list[str], said: str) -> None:
    result = replayed(text, *options)
    assert result.exit_code == 2
    assert said in " ".join(result.stderr.split())


@pytest.mark.parametrize("text", ["time,price\n", "{}", "<html>", "a,b\n", ""])
def test_a_file_of_which_nothing_is_read_is_never_a_success(text: str) -> None:
    result = replayed(text, "--product", "N")
    assert result.exit_code != 0
    assert "Would publish" not in result.stdout


def test_options_say_what_a_table_does_not() -> None:
    text = "05/08/2026\t09:15:00\t25,010\n"
    options = ["--product", "N", "--delimiter", "tab", "--decimal", ".", "--time-format"]
    result = replayed(text, *options, "%d/%m/%Y %H:%M:%S", "--date-column", "0", "--time-column", "1")
    assert result.exit_code == 0, result.output
    assert "2026-08-05T03:45:00+00:00" in result.stderr


def test_the_example_of_the_page_says_what_it_shows() -> None:
    text = page("tables.md")
    (table,), (shown,) = blocks(text, "csv"), blocks(text, "console")
    command, *said = shown.splitlines()
    Path("ticks.csv").write_text(table, encoding="utf-8")
    result = CliRunner().invoke(cli, shlex.split(command.removeprefix("$ python -m enricher ")))
    assert (result.stderr + result.stdout).splitlines() == said


def test_each_product_of_a_table_is_analysed_by_itself() -> None:
    result = run("analyse", CHAINS, "--json", "--time", "2026-08-13T11:30:00")
    assert result.exit_code == 0, result.output
    ratios = {one["product"]: round(one["pcr"], 4) for one in json.loads(result.stdout)}
    assert ratios == {"NIFTY": 0.6625, "BANKNIFTY": 0.9643}


def test_the_product_that_is_asked_for_names_what_a_file_does_not() -> None:
    text = "\n".join(line.partition(",")[2] for line in CHAINS.splitlines()[:3])
    nameless = run("analyse", text, "--time", "2026-08-13T11:30:00")
    assert nameless.exit_code == 2
    assert "Give --product" in nameless.stderr
    result = run("analyse", text, "--json", "--time", "2026-08-13T11:30:00", "--product", "NIFTY")
    assert [one["product"] for one in json.loads(result.stdout)] == ["NIFTY"]
