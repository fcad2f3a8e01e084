"""What holds for the readers of all vendors, and the page of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from enricher.errors import EnricherError
from enricher.market.files import FORMATS, Options, read
from enricher.market.files.vendors import VENDORS
from tests.pages import page
from tests.vendor_files import written

GIVEN: dict[str, Any] = {
    "product": "NIFTY", "expiry": "2026-08-18", "spot": 25010.0, "timestamp": "2026-08-13T09:30:00Z",
}  # fmt: skip
OTHERS = (
    "{}", "[]", "1", "null", "[1]\n[2]\n", '{"a": 1}\n{"b": []}\n', '{"data": null}', '{"data": [1]}',
    '{"records": 1}', '{"result": [1]}', "x", "a,b\n1,2\n", "CALLS,,PUTS\nOI,LTP\n", "OI,STRIKE\n1\n",
)  # fmt: skip


@pytest.mark.parametrize("kind", [one.name for one in VENDORS if one.read is not None])
def test_a_file_that_is_not_what_it_is_said_to_be_is_an_error(tmp_path: Path, kind: str) -> None:
    for content in OTHERS:
        path = written(tmp_path, content)
        with pytest.raises(EnricherError):
            list(read(path, Options(kind=kind, **GIVEN)))


def test_a_page_has_every_kind_once_and_says_which_are_refused() -> None:
    found = re.finditer(r"^\| `([a-z-]+)` \|.*\|$", page("files.md"), re.MULTILINE)
    rows = [(row[1], "nothing: refused" in row[0]) for row in found]
    assert sorted(rows) == sorted((one.name, one.read is None) for one in FORMATS)
