"""A day of ticks and the chains of an exchange through ``enricher run --embedded``, number by number.

The files lie beside the repository and are not part of it; where they are missing, this file is left out and
the start of the test run says so. What is expected is worked out from the files alone, the plain way.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from enricher.market.files import Options, read
from tests.conftest import REAL_DATA
from tests.integration.worker import EmbeddedProcess, Listener, database
from tests.rig import until

INDIA = ZoneInfo("Asia/Kolkata")
DOCUMENT = REAL_DATA / "nse_nifty_2022-03-28_1047.json"
SNAPSHOTS = sorted(REAL_DATA.glob("nse_nifty_2025-10-14_*.csv"))
TICKS = REAL_DATA / "ticks_nifty_2022-11-01.csv"
ENVIRONMENT = {"ENRICHER_FEED__TIMEZONE": "Asia/Kolkata", "ENRICHER_MARKET__IDLE_CLOSE": "1"}

SCALE = 10**12
TIMES = {"timestamp", "processed_at"}

Leg = dict[str, Any]
Sides = dict[float, dict[str, Leg]]
"""strike -> {"CE": leg, "PE": leg} with oi, volume and last; a leg that is not listed is missing."""


def expiry_of(text: str) -> str:
    return datetime.strptime(text, "%d-%b-%Y").date().isoformat()  # noqa: DTZ007  only the date is asked


def exact(value: float | None) -> int:
    """A whole number of 1/SCALE, so that sums do not depend on order; there are thirds of contracts."""
    return 0 if value is None else round(value * SCALE)


def from_document() -> tuple[float, dict[str, Sides]]:
    """Spot, and the legs of every expiry."""
    records = json.loads(DOCUMENT.read_text())["records"]
    found: dict[str, Sides] = defaultdict(lambda: defaultdict(dict))
    for row in records["data"]:
        for side in ("CE", "PE"):
            if side in row:
                leg = row[side]
                found[expiry_of(row["expiryDate"])][row["strikePrice"]][side] = {
                    "oi": leg["openInterest"],
                    "volume": leg["totalTradedVolume"],
                    "last": leg["lastPrice"] or None,
                }
    return records["underlyingValue"], found


def from_snapshot(path: Path) -> tuple[float, dict[str, Sides]]:
    """The same from a CSV snapshot, which has no volume."""
    found: dict[str, Sides] = defaultdict(lambda: defaultdict(dict))
    spot = 0.0
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            spot = float(row["underlying"])
            legs = found[expiry_of(row["expiryDate"])][float(row["strikePrice"])]
            for side in ("CE", "PE"):
                if row[f"{side}_OI"] != "NA":
                    last = float(row[f"{side}_LTP"]) or None
                    legs[side] = {"oi": float(row[f"{side}_OI"]), "volume": None, "last": last}
    return spot, found


def side_sum(sides: Sides, side: str, field: str) -> float:
    return sum(exact(legs[side][field]) for legs in sides.values() if side in legs) / SCALE


def pain(sides: Sides, settled: float) -> int:
    """What all options pay if they expire at ``settled``, option by option."""
    here, paid = exact(settled), 0
    for strike, legs in sides.items():
        if "CE" in legs:
            paid += exact(legs["CE"]["oi"]) * max(0, here - exact(strike))
        if "PE" in legs:
            paid += exact(legs["PE"]["oi"]) * max(0, exact(strike) - here)
    return paid


def expected_numbers(spot: float, sides: Sides) -> dict[str, Any]:
    """The numbers of the contract, worked out the plain way."""
    calls, puts = side_sum(sides, "CE", "oi"), side_sum(sides, "PE", "oi")
    call_volume, put_volume = side_sum(sides, "CE", "volume"), side_sum(sides, "PE", "volume")
    atm = min(sides, key=lambda k: (abs(exact(k) - exact(spot)), k))
    lasts = [sides[atm].get(side, {}).get("last") for side in ("CE", "PE")]
    pains = {strike: pain(sides, strike) for strike in sides}
    lowest = min(pains.values())
    least = [strike for strike, paid in pains.items() if paid <= lowest + lowest // 10**9]
    above = (legs["CE"]["oi"] for k, legs in sides.items() if k > spot and "CE" in legs)
    below = (legs["PE"]["oi"] for k, legs in sides.items() if k < spot and "PE" in legs)
    return {
        "spot_price": spot,
        "pcr_oi": round(puts / calls, 4) if calls else None,
        "pcr_volume": round(put_volume / call_volume, 4) if call_volume else None,
        "total_call_oi": calls,
        "total_put_oi": puts,
        "atm_strike": atm,
        "atm_straddle_price": None if None in lasts else round(sum(map(exact, lasts)) / SCALE, 2),
        "max_pain_strike": min(least, key=lambda k: (abs(exact(k) - exact(spot)), k))
        if calls + puts
        else None,
        "call_buildup_otm": sum(map(exact, above)) / SCALE,
        "put_buildup_otm": sum(map(exact, below)) / SCALE,
    }


def assert_numbers(found: dict[str, Any], spot: float, sides: Sides) -> None:
    where = found["expiry"]
    for name, number in expected_numbers(spot, sides).items():
        if isinstance(number, float):
            # Sums over legs are rounded once; a side without any leg is unknown rather than 0.
            if found[name] is None:
                assert number == 0, (where, name)
            else:
                assert found[name] == pytest.approx(number, rel=1e-12), (where, name)
        else:
            assert found[name] == number, (where, name)
    for side, legs in (("CE", "calls"), ("PE", "puts")):
        assert [leg["strike"] for leg in found[legs]] == sorted(k for k, s in sides.items() if side in s)


def assert_buildup(found: dict[str, Any], now: Sides, before: Sides | None) -> None:
    """The change of open interest since the snapshot before, leg by leg."""
    if before is None:
        assert found["buildup"] is None
        return
    for side, name in (("CE", "call_oi_change"), ("PE", "put_oi_change")):
        changes = [
            exact(legs[side]["oi"]) - exact(before[k][side]["oi"])
            for k, legs in now.items()
            if side in legs and k in before and side in before[k]
        ]
        expected = pytest.approx(sum(changes) / SCALE, rel=1e-12) if changes else None
        assert found["buildup"][name] == expected, (found["expiry"], name)


def day_of_ticks() -> pd.DataFrame:
    """Event time and price of every row, in the order of the file."""
    frame = pd.read_csv(TICKS, header=None, names=["time", "price"])
    local = pd.to_datetime(frame["time"]).dt.tz_localize(INDIA)
    return frame.assign(at=local.dt.tz_convert("UTC"))


async def test_a_day_of_ticks_and_the_chains_of_an_exchange_come_out_complete_and_right(
    tmp_path: Path,
) -> None:
    frame = day_of_ticks()
    ticks = [(r.topic, r.body) for r in read(TICKS, Options(product="NIFTY"))]
    chains = [(r.topic, r.body) for r in read(DOCUMENT)]
    half = len(ticks) // 2
    async with EmbeddedProcess(tmp_path / "data", ENVIRONMENT) as worker:
        listener = Listener(worker.client)
        await listener.start()
        await worker.send(chains)
        await worker.settled()
        await worker.send(ticks[:half])
        for path in SNAPSHOTS:
            await worker.send([(r.topic, r.body) for r in read(path)])
        await worker.settled()
        await listener.end()
        heard = listener.heard
        await listener.stop()
        cached = {
            key: json.loads(await worker.client.get(key))
            async for key in worker.client.scan_iter("latest:chain:*")
        }
        pcr = {
            key: json.loads(await worker.client.get(key))
            async for key in worker.client.scan_iter("latest:pcr:*")
        }
        # Ticks of 2022 and chains of 2025: after the restart each finds what it goes on from.
        assert await worker.stop() == 0
        await worker.start()
        listener = Listener(worker.client)
        await listener.start()
        await worker.send(ticks[half:])
        await worker.settled()
        await listener.end()
        heard += listener.heard
        await listener.stop()
        await assert_windows(worker, frame)
        assert await worker.client.llen("dlq:enrichment") == 0
        documents = database(worker.mongo_url)
        with documents.client:
            assert_ticks(frame, documents, heard)
            assert_chains(documents, heard, cached, pcr)
            for minutes in (1, 5, 15):
                await assert_bars(frame, documents, minutes)
            assert documents["feed_gaps"].count_documents({}) == 0


async def assert_windows(worker: EmbeddedProcess, frame: pd.DataFrame) -> None:
    newest = frame["at"].max()
    for minutes in (1, 5, 15):
        inside = frame[frame["at"] > newest - pd.Timedelta(minutes=minutes)]
        window = json.loads(await worker.client.get(f"ohlc:NIFTY:{minutes}m"))
        assert window["num_ticks"] == len(inside)
        prices = inside["price"]
        expected = [prices.iloc[0], prices.max(), prices.min(), prices.iloc[-1]]
        assert [window[name] for name in ("open", "high", "low", "close")] == expected
        edges = [pd.Timestamp(window[name], tz=INDIA) for name in ("start_time", "end_time")]
        assert edges == [inside["at"].iloc[0], newest]


def assert_ticks(frame: pd.DataFrame, documents: Any, heard: list[tuple[str, dict[str, Any]]]) -> None:
    sent = list(zip(frame["at"].astype("datetime64[us, UTC]").astype("int64"), frame["price"], strict=True))
    rows = documents["underlying_ticks"].find().sort("tick_id", 1)
    assert [(row["event_us"], row["price"]) for row in rows] == sent
    published = [message for channel, message in heard if channel == "enriched:underlying"]
    texts = [str(text).replace(" ", "T") for text in frame["time"]]
    assert [m["price"] for m in published] == list(frame["price"])
    assert [m["timestamp"].replace(" ", "T") for m in published] == texts


def ratios(chain: dict[str, Any]) -> dict[str, Any]:
    """The ratios of a chain as they are cached, with why one is unknown."""
    found: dict[str, Any] = {name: chain[name] for name in ("pcr_oi", "pcr_volume")}
    unknown = {name: chain["flags"][name] for name, value in found.items() if value is None}
    return {**found, "timestamp": chain["timestamp"], **({"flags": unknown} if unknown else {})}


def assert_chains(
    documents: Any,
    heard: list[tuple[str, dict[str, Any]]],
    cached: dict[bytes, dict[str, Any]],
    pcr: dict[bytes, dict[str, Any]],
) -> None:
    rows = list(documents["option_chains"].find().sort([("event_us", 1), ("expiry", 1)]))
    published = [message for channel, message in heard if channel == "enriched:option_chain"]
    spot, expiries = from_document()
    files = [(spot, expiries, None)]
    before: dict[str, Sides] | None = None
    for path in SNAPSHOTS:
        spot, now = from_snapshot(path)
        files.append((spot, now, before))  # type: ignore[arg-type]
        before = now
    expected = [(e, spot, now, old) for spot, now, old in files for e in sorted(now)]
    assert len(rows) == len(published) == len(expected) == 21 + 3 * 18
    newest: dict[str, dict[str, Any]] = {}
    for row, message, (expiry, spot, now, old) in zip(rows, published, expected, strict=True):
        assert row["expiry"] == message["expiry"] == expiry
        assert_numbers(row, spot, now[expiry])
        assert all(message[name] == row[name] for name in message.keys() - TIMES)
        assert_buildup(row, now[expiry], None if old is None else old.get(expiry))
        assert message["buildup"] == row["buildup"]
        newest[expiry] = message
    totals = json.loads(DOCUMENT.read_text())["filtered"]
    first = next(row for row in rows if row["expiry"] == min(from_document()[1]))
    for side, name in (("CE", "call"), ("PE", "put")):
        assert first[f"total_{name}_oi"] == totals[side]["totOI"]
        assert first[f"total_{name}_volume"] == totals[side]["totVol"]
    assert cached == {f"latest:chain:NIFTY:{e}".encode(): message for e, message in newest.items()}
    assert pcr == {f"latest:pcr:NIFTY:{e}".encode(): ratios(m) for e, m in newest.items()}


async def assert_bars(frame: pd.DataFrame, documents: Any, minutes: int) -> None:
    grouped = frame.groupby(frame["at"].dt.floor(f"{minutes}min"))["price"]
    expected = {
        start.to_pydatetime(): (group.iloc[0], group.max(), group.min(), group.iloc[-1], len(group))
        for start, group in grouped
    }

    def stored() -> dict[Any, tuple[float, ...]]:
        names = ("open", "high", "low", "close", "num_ticks")
        rows = documents["ohlc_bars"].find({"window_minutes": minutes})
        return {row["start"]: tuple(row[name] for name in names) for row in rows}

    await until(lambda: stored() == expected, f"{len(expected)} bars of {minutes} min", 10)
