"""Tables of chains: one chain for each product, expiry and moment, and nothing lost by another name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from enricher.errors import EnricherError
from enricher.market.files import BadRecord, Notes, OptionNeeded, Options, read
from tests.file_samples import INDIA

HEADER = "symbol,expiryDate,strikePrice,underlying,CE_OI,CE_IV,CE_LTP,PE_OI,PE_IV,PE_LTP\n"
NIFTY = "NIFTY,25-Aug-2026,24900,25010,1000,11.5,190,2000,12.1,75\n"
BANK = "BANKNIFTY,25-Aug-2026,55900,56030,500,13.5,420,700,14.1,230\n"
NAME = "chains_2026-08-13_06-00-00Z.csv"


def chains(folder: Path, text: str, notes: Notes | None = None, **options: Any) -> list[dict[str, Any]]:
    path = folder / options.pop("name", NAME)
    path.write_text(text)
    return [json.loads(record.body) for record in read(path, Options(zone=INDIA, **options), notes)]


def test_two_products_are_two_chains_each_with_its_spot(tmp_path: Path) -> None:
    more = "NIFTY,25-Aug-2026,25000,25010,3000,11.2,130,2500,11.9,115\n"
    found = chains(tmp_path, HEADER + NIFTY + BANK + more)
    assert [(one["product"], one["spot_price"], one["strikes"]) for one in found] == [
        ("NIFTY", 25010, [24900, 25000]),
        ("BANKNIFTY", 56030, [55900]),
    ]
    sums = [[sum(leg["open_interest"] for leg in one[side]) for side in ("puts", "calls")] for one in found]
    assert sums == [[4500, 4000], [700, 500]]
    assert {one["timestamp"] for one in found} == {"2026-08-13T11:30:00+05:30"}


def test_two_moments_are_two_chains(tmp_path: Path) -> None:
    rows = [f"13/08/2026,{clock},{NIFTY}" for clock in ("09:15:00", "09:16:00")]
    text = f"Date,Time,{HEADER}{''.join(rows)}"
    times = [one["timestamp"] for one in chains(tmp_path, text)]
    assert times == ["2026-08-13T09:15:00+05:30", "2026-08-13T09:16:00+05:30"]
    with pytest.raises(BadRecord, match=r"line 4, column strikePrice: .* sorted by time"):
        chains(tmp_path, text + rows[0])


def test_a_row_that_comes_again_counts_once_and_another_for_its_strike_is_refused(tmp_path: Path) -> None:
    notes = Notes()
    (found,) = chains(tmp_path, HEADER + NIFTY + NIFTY, notes)
    assert len(found["calls"]) == 1
    assert notes.skipped == {"a row that was there before": 1}
    with pytest.raises(BadRecord, match=r"line 3, .*one row for the strike 24900 of NIFTY 2026-08-25"):
        chains(tmp_path, HEADER + NIFTY + NIFTY.replace("190", "191"))


def test_a_chain_has_one_spot(tmp_path: Path) -> None:
    with pytest.raises(BadRecord, match=r"line 3, column underlying: expected one spot for NIFTY 2026-08-25"):
        chains(tmp_path, HEADER + NIFTY + NIFTY.replace("24900,25010", "25000,25011"))


def test_an_expiry_that_may_be_two_days_is_read_by_the_order_of_the_time_format(tmp_path: Path) -> None:
    text = HEADER + NIFTY.replace("25-Aug-2026", "05/08/2026")
    with pytest.raises(BadRecord, match=r"day or month is first: give --time-format, with %d/%m/%Y"):
        chains(tmp_path, text)
    for order, day in (("%d/%m/%Y", "2026-08-05"), ("%m/%d/%Y", "2026-05-08")):
        assert chains(tmp_path, text, time_format=order)[0]["expiry"] == day


@pytest.mark.parametrize("strike", ["0", "-24900"])
def test_a_strike_is_above_0(tmp_path: Path, strike: str) -> None:
    with pytest.raises(BadRecord, match="line 2, column strikePrice: expected a strike above 0"):
        chains(tmp_path, HEADER + NIFTY.replace("24900", strike))


@pytest.mark.parametrize("spot", ["0", "", "NA"])
def test_a_spot_of_zero_is_none_and_an_option_gives_it(tmp_path: Path, spot: str) -> None:
    text = HEADER + NIFTY.replace("25010", spot)
    with pytest.raises(OptionNeeded, match=r"line 2, column underlying: .*give --spot"):
        chains(tmp_path, text)
    assert chains(tmp_path, text, spot=25012.5)[0]["spot_price"] == 25012.5


def test_what_a_table_lacks_is_given_by_options(tmp_path: Path) -> None:
    text = "EXPIRY;STRIKE;ce_oi;ce_ltp;pe_oi;pe_ltp\n2026-08-25;24.900,00;1.000;190,5;2.000;75,25\n"
    bare = "\n".join(line.partition(";")[2] for line in text.splitlines())
    with pytest.raises(OptionNeeded, match=r"--expiry"):
        chains(tmp_path, bare, product="X", spot=1.0)
    assert chains(tmp_path, bare, product="X", spot=1.0, expiry="2026-08-25")[0]["expiry"] == "2026-08-25"
    for given, option in (({}, "--product"), ({"product": "X"}, "--spot")):
        with pytest.raises(OptionNeeded, match=option):
            chains(tmp_path, text, **given)
    with pytest.raises(BadRecord, match=r"or a time given .--time."):
        chains(tmp_path, text, name="chains.csv", product="X", spot=1.0)
    given = {"product": "X", "spot": 25010.0, "timestamp": "2026-08-13T09:15"}
    (found,) = chains(tmp_path, text, name="chains.csv", **given)
    leg = found["calls"][0]
    assert (found["product"], found["timestamp"]) == ("X", "2026-08-13T09:15:00+05:30")
    assert (leg["strike"], leg["open_interest"], leg["last"]) == (24900, 1000, 190.5)


def test_legs_under_other_names_are_refused_and_some_are_doubted(tmp_path: Path) -> None:
    renamed = HEADER.replace("CE_OI", "CE_openInterest").replace("CE_LTP", "CE_lastPrice")
    with pytest.raises(EnricherError, match=r"no column CE_ is .*: found CE_openInterest"):
        chains(tmp_path, renamed + NIFTY)
    notes = Notes()
    (found,) = chains(tmp_path, HEADER.replace("PE_LTP", "PE_last") + NIFTY, notes)
    assert "last" not in found["puts"][0]
    assert "the columns PE_last are not known" in notes.doubts[0]


def test_volatilities_that_are_decimals_stay_decimals(tmp_path: Path) -> None:
    for text in (NIFTY, NIFTY.replace("11.5", "0.115").replace("12.1", "0.121")):
        assert chains(tmp_path, HEADER + text)[0]["calls"][0]["iv"] == 0.115
