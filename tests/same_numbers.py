"""The compiled analytics say what the pure ones say: ``python same_numbers.py CHECKOUT``.

Chains of the synthetic market are analysed by the installed package and, in another process, by the sources
of the checkout. Every number must agree to 1e-12 of itself, everything else entirely.
"""

from __future__ import annotations

import os
import subprocess
import sys
from math import isclose
from typing import Any

import msgspec
import orjson

from enricher.analytics import Contract, american_greeks, analyse, svi
from enricher.build_info import analytics_compiled
from enricher.market.feed.synthetic import SyntheticMarket

START_US = 1_790_000_000_000_000
EXTRAS = ("second_order", "trading_time", "india_vix")
CONTRACTS = (
    None,
    Contract(name="NIFTY", zone="Asia/Kolkata", expiry_time="15:30", rate=0.06, tick_size=0.05, lot=75),
    Contract(name="SPY", rate=0.05, lot=100, exercise="american", dividend_yield=0.02),
)


def figures() -> Any:
    """Everything there is to say of chains of several sizes, as what JSON knows."""
    found: list[Any] = []
    for strikes in (1, 5, 21, 60):
        market = SyntheticMarket(4, strikes=strikes, seed=strikes)
        for number, product in enumerate(market.products):
            chain = market.chain(product, START_US + number * 7_000_000)
            found += [analyse(orjson.dumps(chain), contract=each, extras=EXTRAS) for each in CONTRACTS]
            found.append(svi(found[-1].smile))
            found.append(analyse(orjson.dumps(odd(chain)), contract=CONTRACTS[1], extras=EXTRAS))
    found += [
        american_greeks(
            spot=100.0, strike=strike, years=0.5, volatility=0.3, rate=0.05, dividends=paid, kind="put"
        )
        for strike in (80.0, 100.0, 125.0)
        for paid in ((), ((0.2, 1.5),))
    ]
    return msgspec.to_builtins(found, str_keys=True)


def odd(chain: dict[str, Any]) -> dict[str, Any]:
    """The same chain with strikes in whole numbers, and quotes that are missing, 0, crossed or arbitrage."""
    for legs in (chain["calls"], chain["puts"]):
        for at, leg in enumerate(legs):
            leg["strike"] = int(leg["strike"])
            leg |= ({}, {"bid": None}, {"bid": 0}, {"bid": 900.0}, {"bid": 90, "ask": 95})[at % 5]
    return {**chain, "strikes": [leg["strike"] for leg in chain["calls"]]}


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two of them are not the same."""
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [text for name in one for text in differences(one[name], other[name], f"{path}.{name}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [text for at, pair in pairs for text in differences(*pair, f"{path}[{at}]")]
    if isinstance(one, float) and isinstance(other, float) and isclose(one, other, rel_tol=1e-12):
        return []
    return [] if type(one) is type(other) and one == other else [f"{path}: {one!r}, not {other!r}"]


def main(checkout: str) -> None:
    """Compare; status 1 and a line for each difference where there is one."""
    if not analytics_compiled():
        sys.exit("enricher is not compiled here")
    command, sources = (sys.executable, __file__), {**os.environ, "PYTHONPATH": checkout}
    pure = subprocess.run(command, env=sources, check=True, capture_output=True).stdout
    mine, theirs = orjson.loads(orjson.dumps(figures())), orjson.loads(pure)
    if found := differences(mine, theirs):
        sys.exit("\n".join(found))
    print(f"{len(mine)} analyses, compiled as pure")


if __name__ == "__main__":
    if sys.argv[1:]:
        main(sys.argv[1])
    else:
        print(orjson.dumps(figures()).decode())
