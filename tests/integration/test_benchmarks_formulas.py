"""Each formula is timed and set against the calibration of the same run."""

from __future__ import annotations

import pytest

from benchmarks.formulas import run
from benchmarks.parts import Options


@pytest.fixture(scope="module")
def rows() -> dict[str, list[dict[str, object]]]:
    return {report.name: report.rows for report in run(Options(quick=True, rounds=1))}


def test_every_formula_has_a_time_and_a_ratio(rows: dict[str, list[dict[str, object]]]) -> None:
    assert list(rows) == ["options", "curves", "chain"]
    for row in (row for table in rows.values() for row in table):
        assert isinstance(row["us"], float), row
        assert isinstance(row["scaled"], float), row
        assert row["us"] > 0 < row["scaled"], row


def test_a_chain_is_timed_by_subject(rows: dict[str, list[dict[str, object]]]) -> None:
    names = {row["formula"] for row in rows["chain"]}
    assert {"implied volatilities", "smile and its measures", "zero gamma", "everything"} <= names


def test_a_table_that_there_is_not_is_called_by_its_name() -> None:
    with pytest.raises(ValueError, match="must be one of options, curves, chain, not 'all'"):
        run(Options(settings={"formulas.only": "all"}))
