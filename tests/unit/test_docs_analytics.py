"""The page of the library: its examples give what they show, and its table names every function."""

from __future__ import annotations

import doctest
import inspect
import re
from pathlib import Path

from enricher import analytics
from enricher.analytics import options, price_bars

PAGE = Path(__file__).parents[2] / "docs" / "analytics.md"
TEXT = PAGE.read_text(encoding="utf-8")


def failures(examples: doctest.DocTest) -> str:
    said: list[str] = []
    doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(examples, out=said.append)
    return "".join(said)


def test_the_examples_of_the_page_give_what_they_show() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    examples = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, PAGE.name, str(PAGE), 0)
    assert len(examples.examples) > 15
    assert not failures(examples)


def test_the_examples_of_the_docstrings_give_what_they_show() -> None:
    for module in (options, price_bars):
        tests = [test for test in doctest.DocTestFinder().find(module) if test.examples]
        assert tests
        assert not "".join(map(failures, tests))


def test_the_table_has_every_function() -> None:
    functions = {name for name in analytics.__all__ if inspect.isfunction(getattr(analytics, name))}
    assert set(re.findall(r"^\| `(\w+)` \| .* \| .* \|$", TEXT, re.MULTILINE)) == functions
