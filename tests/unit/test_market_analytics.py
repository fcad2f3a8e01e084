"""Which of a chain's quotes speak of its forward."""

from __future__ import annotations

import json
from typing import Any

import pytest

from enricher.market import black
from enricher.market.analytics import Analysis, Terms, analyse_prices
from enricher.market.clock import event_us, render
from enricher.market.columns import columns
from enricher.market.contracts import years
from enricher.market.fresh import UNTOLD, fresh
from enricher.market.models import decode_chain
from enricher.market.products import Contracts

NIFTY, EXPIRY, FORWARD = Contracts().of("NIFTY"), "2025-06-26", 21550.0
AT = event_us("2025-06-16T10:00:00+05:30")[0]


def analysed(stubs_from: float) -> Analysis:
    t = years(NIFTY.expiry_us(EXPIRY), AT)
    sides: list[list[dict[str, Any]]] = [[], []]
    for strike in range(20000, 24001, 500):
        for legs, kind in zip(sides, (1, -1), strict=True):
            value = max(black.price(kind, FORWARD, strike, t, 0.15, 1 - NIFTY.rate * t), 0.2)
            quote = (0.05, 3000) if strike >= stubs_from else (value - 0.05, value + 0.05)
            legs.append({"strike": strike, "bid": quote[0], "ask": quote[1]})
    message = {"product": "NIFTY", "expiry": EXPIRY, "spot_price": 21500, "timestamp": render(AT, True)}
    body = json.dumps({**message, "calls": sides[0], "puts": sides[1]}).encode()
    chain = decode_chain(body, now_us=2**60)
    return analyse_prices(chain, fresh(columns(chain), UNTOLD, 300), NIFTY, Terms())


def test_stub_quotes_do_not_speak_of_the_forward() -> None:
    found = analysed(stubs_from=22500)
    assert found.forward.value == pytest.approx(FORWARD, abs=2)
    assert found.forward.source == "parity"
    assert found.strip.forward == pytest.approx(FORWARD, abs=2)
    assert found.strip.k0 == 21500


def test_where_all_quotes_are_wide_they_are_all_there_is() -> None:
    assert analysed(stubs_from=0).forward.source == "parity"
