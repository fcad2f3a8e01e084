"""Every page about the market's formulas shows an example, and every example gives what it shows."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from tests.pages import blocks

PAGES = sorted((Path(__file__).parents[2] / "docs" / "formulas").glob("*.md"))
LONGEST_PAGE = 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_examples_of_a_page_give_what_they_show(page: Path) -> None:
    shown = blocks(page.read_text(encoding="utf-8"))
    examples = doctest.DocTestParser().get_doctest("\n".join(shown), {}, page.name, str(page), 0)
    assert examples.examples, f"{page.name} has no example in a python block"
    assert all(">>>" in block for block in shown)
    told: list[str] = []
    runner = doctest.DocTestRunner()
    failed, _ = runner.run(examples, out=told.append)
    assert not failed, "".join(told)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short_and_names_its_source(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert text.count("\n") <= LONGEST_PAGE
    assert re.search(r"\bSources?\b", text)


def test_there_are_pages() -> None:
    assert {"black", "greeks", "implied_volatility", "prices"} <= {page.stem for page in PAGES}
