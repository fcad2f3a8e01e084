"""Which build it is, as `enricher --version` says."""

from __future__ import annotations

from types import FunctionType

from click.testing import CliRunner

from enricher.analytics import black76
from enricher.build_info import analytics_compiled
from enricher.cli.main import cli


def test_the_version_says_whether_the_functions_of_the_analytics_are_compiled() -> None:
    compiled = not isinstance(black76.price, FunctionType)
    assert analytics_compiled() == compiled
    said = CliRunner().invoke(cli, ["--version"]).output
    assert said.endswith(f"analytics {'compiled' if compiled else 'in pure Python'}\n")
