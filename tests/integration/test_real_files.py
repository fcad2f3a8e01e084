"""The readers against files that exchanges and vendors really handed out.

They lie beside the repository and are not part of it; where they are missing, this file is left
out and the start of the test run says so.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from enricher.clock import event_us
from enricher.market.feed.readers import TickColumns, read_csv_chains, read_csv_ticks, read_nse_chains
from enricher.messages.models import decode_chain, decode_tick
from tests.conftest import REAL_DATA

INDIA = ZoneInfo("Asia/Kolkata")
LATER = event_us("2040-01-01T00:00:00+00:00")[0]
DOCUMENTS = sorted(REAL_DATA.glob("nse_*.json"))
SNAPSHOTS = sorted(REAL_DATA.glob("nse_*.csv"))
TICKS = sorted(REAL_DATA.glob("ticks_*.csv"))


def named(path: Path) -> str:
    return path.name


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_leg_of_the_exchange_s_document_is_in_a_chain(path: Path) -> None:
    document = json.loads(path.read_text())
    chains: list[dict[str, Any]] = []
    for record in read_nse_chains(path, zone=INDIA):
        assert decode_chain(record.body, now_us=LATER).event_us == record.at_us
        chains.append(json.loads(record.body))
    rows = document["records"]["data"]
    assert len(chains) == len({row["expiryDate"] for row in rows})
    for side, legs in (("CE", "calls"), ("PE", "puts")):
        assert sum(side in row for row in rows) == sum(len(chain[legs]) for chain in chains)
        interest = sum(row[side]["openInterest"] for row in rows if side in row)
        kept = sum(leg["open_interest"] for chain in chains for leg in chain[legs])
        assert kept == pytest.approx(interest, rel=1e-12)


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_the_nearest_chain_adds_up_to_the_exchange_s_own_totals(path: Path) -> None:
    totals = json.loads(path.read_text())["filtered"]
    nearest = json.loads(next(read_nse_chains(path)).body)
    for side, legs in (("CE", "calls"), ("PE", "puts")):
        for total, name in (("totOI", "open_interest"), ("totVol", "volume")):
            summed = sum(leg[name] for leg in nearest[legs])
            assert summed == pytest.approx(totals[side][total], rel=1e-12)


@pytest.mark.parametrize("path", SNAPSHOTS, ids=named)
def test_every_listed_leg_of_a_snapshot_is_in_a_chain(path: Path) -> None:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    listed = Counter(
        (side, row["expiryDate"]) for row in rows for side in ("CE", "PE") if row[f"{side}_OI"] != "NA"
    )
    chains = [json.loads(record.body) for record in read_csv_chains(path)]
    for record in read_csv_chains(path):
        decode_chain(record.body, now_us=LATER)
    assert len(chains) == len({row["expiryDate"] for row in rows})
    assert sum(len(chain["strikes"]) for chain in chains) == len(rows)
    assert sorted(listed.values()) == sorted(
        len(legs) for chain in chains for legs in (chain["calls"], chain["puts"]) if legs
    )


@pytest.mark.parametrize("path", TICKS, ids=named)
def test_every_row_of_a_day_of_ticks_is_a_tick_in_order(path: Path) -> None:
    columns = TickColumns(time=0, price=1, header=False)
    records = list(read_csv_ticks(path, columns, product="NIFTY", zone=INDIA))
    assert len(records) == sum(1 for _ in path.open())
    assert all(before.at_us <= after.at_us for before, after in pairwise(records))
    events = [decode_tick(record.body, now_us=LATER) for record in records]
    assert [event.tick_id for event in events] == list(range(len(records)))


def test_the_folder_holds_files_of_each_kind() -> None:
    assert DOCUMENTS
    assert SNAPSHOTS
    assert TICKS
