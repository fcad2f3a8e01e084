"""Inputs of desks, each an example of a kind, with what is right.

They lie beside the repository and are not part of it; where they are missing, this file is left out. Tests of
readers and of doubts have the kinds themselves.
"""

from __future__ import annotations

import json
import re
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest

from enricher.analytics import analyse
from enricher.errors import EnricherError
from enricher.market.documents import CHAINS, TICKS
from enricher.market.files import Notes, Options, read
from enricher.market.products import Contracts
from tests.conftest import MARKET_CASES
from tests.unit.test_market_doubts import stored
from tests.unit.test_market_state import OneLane

LATER_US = 4_000_000_000_000_000
NIFTY = {"product": "NIFTY"}
WHOLE = {**NIFTY, "expiry": "2026-08-18", "spot": 25010.0, "timestamp": "2026-08-13T10:00+05:30"}
OPEN = "2026-08-13T09:15:0{}+05:30"
TWO = [(OPEN.format(0), 25010.5), (OPEN.format(1), 25011.25)]

TICKS_OF: dict[str, tuple[dict[str, Any], list[tuple[str, float]]]] = {
    "06": (NIFTY, [(OPEN.format("0.100000"), 25010.5), (OPEN.format("0.600000"), 25011.25)]),
    "07": (NIFTY, [("2026-08-13T08:55:00+05:30", 25010.5), ("2026-08-13T08:55:00.600000+05:30", 25011.25)]),
    "08": (NIFTY, [("2026-08-13T08:55:00+05:30", 25010.5), ("2026-08-13T08:55:01+05:30", 25011.25)]),
    "09": (NIFTY, TWO),
    "10": ({}, TWO),
    "11": (NIFTY, TWO),
    "12": (NIFTY, [(OPEN.format(0), 25010.5), (OPEN.format(1), 25010.75)]),
    "13": (NIFTY, TWO),
    "14": (NIFTY, TWO),
    "18": ({}, [(OPEN.format(1), 25010.5), (OPEN.format(2), 25011.25)]),
    "24": (NIFTY, [*TWO, (OPEN.format(2), 25012.0)]),
    "25": (NIFTY, [*TWO, (OPEN.format(2), 25012.0)]),
    "26": (NIFTY, TWO[:1]),
    "33": ({}, [(OPEN.format(0), 25010.5), (OPEN.format(1), 25011.5)]),
    "37": ({}, [("2026-08-13T08:55:00+05:30", 6244.577), ("2026-08-13T08:55:02+05:30", 6244.629)]),
    "38": (NIFTY, TWO),
    "43": ({}, [(OPEN.format(at), price) for at, price in enumerate((25000, 25010, 0, 25005))]),
}
CHAINS_OF: dict[str, tuple[dict[str, Any], list[tuple[Any, ...]]]] = {
    "01": ({}, [("NIFTY", "2026-08-18", 25010, 3, 3)]),
    "03": ({}, [("NIFTY", "2026-08-18", 25010, 3, 2)]),
    "04": (WHOLE, [("NIFTY", "2026-08-18", 25010, 2, 2)]),
    "05": ({}, [("NIFTY", "2026-08-18", 25010, 1, 1)]),
    "15": ({}, [("BTC", "2026-09-25", 0, 1, 1)]),
    "16": ({}, [("SPXW", "2026-08-14", 6400.5, 1, 1)]),
    "20": ({}, [("NIFTY", "2026-08-25", 25010, 3, 3), ("BANKNIFTY", "2026-08-25", 56030, 2, 2)]),
    "29": (WHOLE, [("NIFTY", "2026-08-18", 25010, 1, 0)]),
    "30": (WHOLE, [("NIFTY", "2026-08-18", 25010, 1, 0)]),
    "40": ({}, [("NIFTY", "2025-11-27", 0, 5, 5)]),
    "42": ({}, [("BTC", "2026-02-28", 100000, 6, 6)]),
    "45": ({}, [("NIFTY", "2025-11-27", 26000, 5, 5)]),
}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "17": ({}, "chain of yfinance; it has no price of the underlying and no time: give --spot --time"),
    "19": ({}, "options of Binance; it has no price of the underlying and no time: give --spot --time"),
    "22": ({}, "no column CE_ is known that has prices or open interest: found CE_openInterest"),
    "23": (NIFTY, "line 2, row: expected 3 cells, as the header has, got"),
    "27": ({}, "nothing in it but {}: it looks like a blocked or failed request"),
    "29": ({}, "it has no price of the underlying: give --spot"),
    "30": ({}, "it has no price of the underlying: give --spot"),
    "31": ({}, "HTML or XML, no data: it looks like a blocked or failed request"),
    "32": ({}, "a blocked or failed request, which says {\"error\":\"Unauthorized\"}"),
    "36": ({}, "a tape of option trades"),
}
ELSEWHERE = {"34", "44", "48"}  # below


def read_case(number: str, notes: Notes | None = None, **options: Any) -> list[dict[str, Any]]:
    (path,) = MARKET_CASES.glob(f"{number}-*")
    told = Options(zone=ZoneInfo("Asia/Kolkata"), **options)
    return [json.loads(record.body) for record in read(path, told, notes)]


def test_every_case_is_here() -> None:
    there = {path.name[:2] for path in MARKET_CASES.iterdir() if path.name[:2].isdigit()}
    assert there == {*TICKS_OF, *CHAINS_OF, *REFUSED, *ELSEWHERE}


@pytest.mark.parametrize("number", TICKS_OF)
def test_ticks(number: str) -> None:
    options, expected = TICKS_OF[number]
    assert [(tick["timestamp"], tick["price"]) for tick in read_case(number, **options)] == expected


@pytest.mark.parametrize("number", CHAINS_OF)
def test_chains(number: str) -> None:
    options, expected = CHAINS_OF[number]
    assert expected == [
        (chain["product"], chain["expiry"], chain["spot_price"], len(chain["calls"]), len(chain["puts"]))
        for chain in read_case(number, **options)
    ]


@pytest.mark.parametrize("number", REFUSED)
def test_refusals(number: str) -> None:
    options, said = REFUSED[number]
    with pytest.raises(EnricherError, match=re.escape(said)):
        read_case(number, **options)


def analysed(number: str, at: int = 0, **options: Any) -> Any:
    chain = read_case(number, **options)[at]
    return analyse(chain, contract=Contracts().of(chain["product"]))


def test_the_numbers_of_files() -> None:
    found = analysed("01")
    assert (found.atm, found.straddle, found.pcr) == (25000, pytest.approx(245), pytest.approx(1.2))
    leg = read_case("01")[0]["calls"][0]
    assert (leg["bid"], leg["ask"]) == (189.5, 190.5)
    assert analysed("03").flags["puts"] == "no leg at 25100"
    assert [round(analysed("20", at).pcr, 4) for at in (0, 1)] == [0.6625, 0.9643]
    assert [tick["volume"] for tick in read_case("09", **NIFTY)] == [120000, 120075]
    (alone,), notes = read_case("34", notes := Notes()), notes
    assert alone == {"product": "NIFTY"}
    assert "what has no time" in notes.doubts[0]


def lane_of(number: str, **said: Any) -> OneLane:
    (path,) = MARKET_CASES.glob(f"{number}-*")
    lines = path.read_bytes().splitlines() if path.suffix == ".jsonl" else [path.read_bytes()]
    messages = [orjson.loads(line) | said for line in lines]
    lane = OneLane(messages[0]["product"])
    for message in messages:
        lane.take("option_chain" if "calls" in message else "underlying", orjson.dumps(message), LATER_US)
    lane.settle()
    return lane


def test_a_spot_of_0_is_none() -> None:
    (found,) = stored(lane_of("40"), CHAINS)
    names = ("atm_strike", "atm_straddle_price", "call_buildup_otm", "put_buildup_otm")
    assert [found[name] for name in names] == [None] * 4
    assert {found["flags"][name] for name in names} == {"spot is 0"}
    assert found["gex"]["zero_gamma"] is None


def test_prices_in_coins_are_converted_by_the_forward() -> None:
    (found,) = stored(lane_of("42"), CHAINS)
    for side in ("calls", "puts"):
        assert found["analytics"][side]["iv"] == pytest.approx([0.6] * 6, abs=1e-3)
    assert found["arbitrage"]["count"] == 0


def test_a_tick_of_0_moves_nothing() -> None:
    lane = lane_of("43")
    assert orjson.loads(lane.keys["ohlc:ZEROP:1m"])["low"] == 25000
    assert stored(lane, TICKS)[2]["flags"]["price"].startswith("0 is no price")


def test_epochs_as_text_are_epochs() -> None:
    days = [document["timestamp"].isoformat()[:10] for document in stored(lane_of("44"), TICKS)]
    assert days == ["2025-03-27", "2025-03-27", "2026-08-13", "2025-09-05"]


def test_open_interest_in_units_is_flagged() -> None:
    (found,) = stored(lane_of("45"), CHAINS)
    flag = "open interest looks like units (all multiples of lot 75)"
    assert found["flags"]["open_interest"] == flag
    (told,) = stored(lane_of("45", oi_unit="units"), CHAINS)
    assert told["gex"]["net"] == pytest.approx(40917338.29, abs=0.01)
    assert "open_interest" not in told["flags"]


def test_names_that_look_alike() -> None:
    (path,) = MARKET_CASES.glob("48-*")
    contracts = {name: Contracts().of(name) for name in path.read_text().splitlines()}
    assert {name for name, contract in contracts.items() if contract.assumed} == {"NIFTY-IT", "NIFTY100"}
    banks = {"NIFTY_BANK", "NIFTY-BANK", "NSE:NIFTYBANK-INDEX", "NSE_INDEX|Nifty Bank", "^NSEBANK"}
    assert {name for name, contract in contracts.items() if contract.name == "BANKNIFTY"} == banks
