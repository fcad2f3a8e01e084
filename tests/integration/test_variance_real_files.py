"""The worked example that Cboe published with its Volatility Index, where its file is at hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from enricher.market.variance import Strip, constant_maturity, variance_strip
from tests.conftest import REAL_DATA

EXAMPLES = sorted(REAL_DATA.glob("vix/*.json"))
COLUMNS = ("strike", "call_bid", "call_ask", "put_bid", "put_ask")


def strip(term: dict[str, Any]) -> Strip:
    columns = [[quote[name] for quote in term["quotes"]] for name in COLUMNS]
    return variance_strip(*columns, years=term["minutes_to_expiry"] / 525_600, rate=term["rate"])


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_published_figure_of_the_example_is_reproduced(path: Path) -> None:
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
