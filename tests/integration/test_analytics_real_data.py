"""Volatilities and Greeks against the columns that exchanges and vendors publish beside their prices.

The files lie beside the repository and are not part of it; where they are missing, this file is left
out and the start of the test run says so.
"""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from math import exp
from statistics import median
from typing import Any, NamedTuple

import pytest

from enricher.analytics.black76 import greeks, implied_volatility, price
from enricher.analytics.prices import choose, volatility_unit
from tests.conftest import REAL_DATA

YEAR = 365 * 86400
NSE_RATE = 0.10  # what the exchange's own column is made with


class Leg(NamedTuple):
    expiry: str
    kind: int
    strike: float
    spot: float
    days: int
    last: float
    bid: float
    ask: float
    iv: float


def whole_days(expiry: str, day: datetime) -> int:
    """The exchange's clock: calendar days to expiry, on the last day one."""
    return max(1, (datetime.strptime(expiry, "%d-%b-%Y").replace(tzinfo=UTC) - day).days)


def nse_document() -> Iterator[Leg]:
    for row in json.loads((REAL_DATA / "nse_nifty_2022-03-28_1047.json").read_text())["records"]["data"]:
        days = whole_days(row["expiryDate"], datetime(2022, 3, 28, tzinfo=UTC))
        for side, kind in (("CE", 1), ("PE", -1)):
            if side in row:
                leg = row[side]
                yield Leg(
                    row["expiryDate"], kind, row["strikePrice"], leg["underlyingValue"], days,
                    leg["lastPrice"], leg["bidprice"], leg["askPrice"], leg["impliedVolatility"],
                )  # fmt: skip


def nse_snapshot() -> Iterator[Leg]:
    with (REAL_DATA / "nse_nifty_2025-10-14_05-37-40Z.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            days = whole_days(row["expiryDate"], datetime(2025, 10, 14, tzinfo=UTC))
            for side, kind in (("CE", 1), ("PE", -1)):
                if row[f"{side}_IV"] != "NA":
                    yield Leg(
                        row["expiryDate"], kind, float(row["strikePrice"]), float(row["underlying"]), days,
                        *(float(row[f"{side}_{name}"]) for name in ("LTP", "BID", "ASK", "IV")),
                    )  # fmt: skip


@pytest.mark.parametrize("legs", [nse_document, nse_snapshot])
def test_the_volatilities_of_the_exchange_s_column_come_out(legs: Any) -> None:
    # Its column was made at each leg's last trade, from the spot of then, which the file does not have.
    apart: dict[str, list[float]] = defaultdict(list)
    for leg in legs():
        if not leg.iv:
            continue
        years = leg.days / 365
        discount = exp(-NSE_RATE * years)
        found, _ = implied_volatility(leg.kind, leg.last, leg.spot / discount, leg.strike, years, discount)
        if found is not None:
            apart[leg.expiry].append(abs(100 * found - leg.iv))
    assert sum(map(len, apart.values())) > 600
    for expiry, points in apart.items():
        assert median(points) < (0.45 if len(points) > 20 else 0.15), expiry
    assert median(points for expiry in apart.values() for points in expiry) < 0.2


@pytest.mark.parametrize("legs", [nse_document, nse_snapshot])
def test_every_leg_of_the_exchange_has_a_price_or_a_reason_and_its_column_is_in_percent(legs: Any) -> None:
    by_expiry: dict[str, list[Leg]] = defaultdict(list)
    for leg in legs():
        by_expiry[leg.expiry].append(leg)
    priced = 0
    for expiry in by_expiry.values():
        bids, asks, lasts, ivs = ([float(leg[at]) for leg in expiry] for at in (6, 7, 5, 8))
        prices, _, flags = choose(bids, asks, lasts, 0.05)
        assert all((worth is not None) or flags[at] for at, worth in enumerate(prices))
        priced += sum(worth is not None for worth in prices)
        if any(ivs):
            assert volatility_unit(ivs) == "percent"
    assert priced > 1000


class Bitcoin(NamedTuple):
    kind: int
    forward: float
    strike: float
    years: float
    row: dict[str, str]

    def number(self, name: str) -> float:
        return float(self.row[name])


@pytest.fixture(scope="module")
def deribit() -> list[Bitcoin]:
    found = []
    with (REAL_DATA / "deribit_btc_2021-02-11.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            _, expiry, strike, letter = row["instrument_name"].split("-")
            ends = datetime.strptime(expiry, "%d%b%y").replace(hour=8, tzinfo=UTC).timestamp()
            years = (ends - int(row["timestamp"]) / 1000) / YEAR
            kind = 1 if letter == "C" else -1
            found.append(Bitcoin(kind, float(row["underlying_price"]), float(strike), years, row))
    return found


def test_deribit_s_mark_prices_and_mark_volatilities_agree(deribit: list[Bitcoin]) -> None:
    # Prices are in bitcoin to 8 digits, volatilities in percent to 2; the columns are some moments apart.
    of_price, of_volatility = [], []
    for option in deribit:
        kind, forward, strike, years, _ = option
        paid = option.number("mark_price") * forward
        mark = option.number("mark_iv")
        of_price.append(abs(price(kind, forward, strike, years, mark / 100, 1.0) - paid) / forward)
        found, _ = implied_volatility(kind, paid, forward, strike, years, 1.0)
        if kind * (forward - strike) < 0:
            assert found is not None
            of_volatility.append(abs(100 * found - mark))
    assert median(of_price) < 1e-5
    assert median(of_volatility) < 0.02
    assert sorted(of_volatility)[len(of_volatility) * 9 // 10] < 0.1


def test_the_greeks_are_deribit_s(deribit: list[Bitcoin]) -> None:
    apart: dict[str, list[float]] = defaultdict(list)
    for option in deribit:
        kind, forward, strike, years, _ = option
        found = greeks(kind, forward, strike, years, option.number("mark_iv") / 100, 1.0, 0.0)
        assert found is not None
        for name in ("delta", "gamma", "vega", "rho"):
            apart[name].append(abs(getattr(found, name) - option.number(f"greeks.{name}")))
        if years * 365 > 3:  # in the last day Deribit counts the hours left, we stop at the time value
            apart["theta"].append(abs(found.theta - option.number("greeks.theta")))
    assert max(apart["delta"]) < 2e-4
    assert max(apart["gamma"]) < 5.01e-6  # its column has five decimals
    assert max(apart["vega"]) < 0.02
    assert max(apart["rho"]) < 0.01
    assert max(apart["theta"]) < 0.05


def test_a_broker_s_greeks_of_american_options_have_our_units() -> None:
    # Its model is unknown and has early exercise, so out of the money the figures are near, not equal. Its
    # count of days leaves out today.
    document = json.loads((REAL_DATA / "us_msft_tda_2021-05-17.json").read_text())
    spot, rate = document["underlyingPrice"], document["interestRate"] / 100
    apart: dict[str, list[float]] = defaultdict(list)
    for side, kind in (("callExpDateMap", 1), ("putExpDateMap", -1)):
        for expiry, strikes in document[side].items():
            days = int(expiry.split(":")[1])
            for text, (leg,) in strikes.items():
                strike = float(text)
                if kind * (spot - strike) > 0 or not 30 < days < 366:
                    continue
                years = (days + 1) / 365
                discount = exp(-rate * years)
                paid = (leg["bid"] + leg["ask"]) / 2
                found, _ = implied_volatility(kind, paid, spot / discount, strike, years, discount)
                assert found is not None
                apart["iv"].append(abs(100 * found - leg["volatility"]))
                ours = greeks(
                    kind, spot / discount, strike, years, leg["volatility"] / 100, discount, rate, spot
                )
                assert ours is not None
                apart["delta"].append(abs(ours.delta_spot - leg["delta"]))
                apart["gamma"].append(abs(ours.gamma - leg["gamma"]))
                for name in ("vega", "theta", "rho"):
                    apart[name].append(abs(getattr(ours, name) / leg[name] - 1) if leg[name] else 0.0)
    assert len(apart["iv"]) >= 100
    assert median(apart["iv"]) < 1.0
    assert median(apart["delta"]) < 0.01
    assert median(apart["gamma"]) < 5e-4
    assert median(apart["vega"]) < 0.03
    assert median(apart["theta"]) < 0.1
    assert median(apart["rho"]) < 0.1
