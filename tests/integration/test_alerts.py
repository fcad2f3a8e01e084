"""The alerts: Prometheus' own tool accepts them, and each fires when it should and only then."""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

import pytest
import yaml

from tests.checkers import absent, run, tool
from tests.pages import ROOT, page

FOLDER = ROOT / "deploy" / "prometheus"
TESTS = [FOLDER / "rules_test.yml", FOLDER / "session_test.yml"]


def alerts() -> dict[str, dict[str, Any]]:
    """Each alert by its name."""
    loaded = yaml.safe_load((FOLDER / "rules.yml").read_text(encoding="utf-8"))
    return {rule["alert"]: rule for group in loaded["groups"] for rule in group["rules"]}


def test_each_alert_has_a_case_in_which_it_fires_one_in_which_it_is_silent_and_a_line_in_the_docs() -> None:
    seen: defaultdict[str, set[bool]] = defaultdict(set)
    for file in TESTS:
        for test in yaml.safe_load(file.read_text(encoding="utf-8"))["tests"]:
            for case in test["alert_rule_test"]:
                seen[case["alertname"]].add(bool(case["exp_alerts"]))
    assert seen == {name: {True, False} for name in alerts()}
    assert re.findall(r"^\| `(Enricher\w+)` \|", page("metrics.md"), re.MULTILINE) == list(alerts())


def test_promtool_accepts_the_alerts_and_their_cases(capsys: pytest.CaptureFixture[str]) -> None:
    if tool("promtool") is None:
        absent(capsys, "promtool")
        return
    run("promtool", "check", "rules", str(FOLDER / "rules.yml"))
    run("promtool", "test", "rules", *map(str, TESTS))
