"""Readers, forwards, variance and the feed watch on what exchanges and vendors really published.

The files lie beside the repository and are not part of it; where they are missing, this file is left
out and the start of the test run says so.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from itertools import pairwise
from math import exp
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from enricher.analytics.contracts import years
from enricher.analytics.forward_price import forward
from enricher.analytics.india_vix import india_variance
from enricher.analytics.variance import Strip, constant_maturity, variance_strip
from enricher.clock import SECOND, event_us
from enricher.market.files import Options, read
from enricher.market.products import Contracts
from enricher.market.quality.feed_quality import FeedWatch, WatchSettings
from enricher.messages.models import Chain, decode_chain, decode_tick
from tests.conftest import REAL_DATA

INDIA = ZoneInfo("Asia/Kolkata")
LATER = event_us("2040-01-01T00:00:00+00:00")[0]
NIFTY = Contracts().of("NIFTY")
EXAMPLES = sorted(REAL_DATA.glob("vix/*.json"))
DOCUMENTS = sorted(REAL_DATA.glob("nse_*.json"))
TICKS = sorted(REAL_DATA.glob("ticks_*.csv"))
COLUMNS = ("strike", "call_bid", "call_ask", "put_bid", "put_ask")


def named(path: Path) -> str:
    return path.name


def strip(term: dict[str, Any]) -> Strip:
    columns = [[quote[name] for quote in term["quotes"]] for name in COLUMNS]
    return variance_strip(*columns, years=term["minutes_to_expiry"] / 525_600, rate=term["rate"])


@pytest.mark.parametrize("path", EXAMPLES, ids=named)
def test_every_published_figure_of_the_volatility_index_is_reproduced(path: Path) -> None:
    example = json.loads(path.read_text())
    published = example["published"]
    strips = {name: strip(example["inputs"][name]) for name in ("near", "next")}
    for name, found in strips.items():
        right = published[name]
        assert round(found.forward or 0, 5) == right["forward"]
        assert found.k0 == right["K0"]
        assert round(found.contributions or 0, 10) == right["sum_of_contributions"]
        assert round(found.variance or 0, 9) == right["sigma2"]
        assert (found.lowest, found.highest) == (right["lowest_included"], right["highest_included"])
        assert found.count == example["computed_numpy"][name]["n_strikes"]
        assert found.truncated is False
    index = constant_maturity(list(strips.values()), published["N30"] / published["N365"]).volatility
    assert index is not None
    assert round(index, 8) == published["vix_unrounded"]
    assert round(100 * index, 2) == published["vix"]


@pytest.mark.parametrize("path", EXAMPLES, ids=named)
def test_the_method_of_india_vix_is_near_that_of_the_cboe_and_leaves_out_the_wide_wings(path: Path) -> None:
    for term in json.loads(path.read_text())["inputs"].values():
        cboe = strip(term)
        columns = [[quote[name] for quote in term["quotes"]] for name in COLUMNS]
        found = india_variance(*columns, years=cboe.years, rate=term["rate"], future=cboe.forward)
        assert found.volatility is not None
        assert cboe.volatility is not None
        assert 0.97 * cboe.volatility < found.volatility < cboe.volatility
        assert found.k0 == cboe.k0
        assert found.highest < cboe.highest


def mids(chain: Chain, side: str) -> list[float | None]:
    legs = chain.call_at if side == "calls" else chain.put_at
    found = [legs.get(strike) for strike in chain.strikes]
    return [
        (leg.bid + leg.ask) / 2 if leg and leg.bid and leg.ask and leg.bid <= leg.ask else None
        for leg in found
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_the_forward_of_liquid_chains_is_that_of_a_line_through_many_strikes(path: Path) -> None:
    compared = 0
    for record in read(path, Options(zone=INDIA)):
        chain = decode_chain(record.body, now_us=LATER)
        left = years(NIFTY.expiry_us(chain.expiry), chain.event_us)
        calls, puts = mids(chain, "calls"), mids(chain, "puts")
        found = forward(
            chain.strikes, calls, puts, spot=chain.spot_price, years=left, rate=NIFTY.rate, dividend_yield=0.0
        )
        rows = [
            (strike, call - put)
            for strike, call, put in zip(chain.strikes, calls, puts, strict=True)
            if call is not None and put is not None and abs(strike / chain.spot_price - 1) < 0.03
        ]
        if len(rows) < 15:
            continue
        # C - P = D F - D K, with the shipped D: its height is the mean of what the strikes say.
        discount = exp(-NIFTY.rate * left)
        height = np.mean([difference + discount * strike for strike, difference in rows])
        assert found.source == "parity"
        assert found.value == pytest.approx(height / discount, rel=5e-4)
        compared += 1
    assert compared >= 5


@pytest.mark.parametrize("path", TICKS, ids=named)
def test_the_watch_finds_the_silences_of_a_real_day_and_nothing_else(path: Path) -> None:
    records = list(read(path, Options(product="NIFTY", zone=INDIA)))
    watched = FeedWatch("NIFTY", NIFTY, records[0].at_us, WatchSettings(silence=10))
    findings = []
    for record in records:
        tick = decode_tick(record.body, now_us=LATER)
        findings += watched.fold(tick.event_us, record.at_us, tick.tick_id, tick.price)
    with path.open(newline="") as file:
        moments = [event_us(row[0], INDIA)[0] for row in csv.reader(file)]
    session = NIFTY.session(moments[0])
    silences = [
        (after - before) / SECOND
        for before, after in pairwise(moments)
        if after - before >= 10 * SECOND and session.is_open(before) and session.is_open(after)
    ]
    assert [finding.amount for finding in findings] == silences
    assert {finding.kind for finding in findings} == {"silence"}
    assert watched.missing == 0


SNAPSHOTS = sorted(REAL_DATA.glob("nse_*.csv"))


@pytest.mark.parametrize("path", DOCUMENTS, ids=named)
def test_every_leg_of_the_exchange_s_document_is_in_a_chain(path: Path) -> None:
    document = json.loads(path.read_text())
    chains: list[dict[str, Any]] = []
    for record in read(path, Options(zone=INDIA)):
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
    nearest = json.loads(next(read(path)).body)
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
    chains = [json.loads(record.body) for record in read(path)]
    for record in read(path):
        decode_chain(record.body, now_us=LATER)
    assert len(chains) == len({row["expiryDate"] for row in rows})
    assert sum(len(chain["strikes"]) for chain in chains) == len(rows)
    assert sorted(listed.values()) == sorted(
        len(legs) for chain in chains for legs in (chain["calls"], chain["puts"]) if legs
    )


@pytest.mark.parametrize("path", TICKS, ids=named)
def test_every_row_of_a_day_of_ticks_is_a_tick_in_order(path: Path) -> None:
    records = list(read(path, Options(product="NIFTY", zone=INDIA)))
    assert len(records) == sum(1 for _ in path.open())
    assert all(before.at_us <= after.at_us for before, after in pairwise(records))
    events = [decode_tick(record.body, now_us=LATER) for record in records]
    assert [event.tick_id for event in events] == list(range(len(records)))


def test_the_folder_holds_files_of_each_kind() -> None:
    assert DOCUMENTS
    assert SNAPSHOTS
    assert TICKS
