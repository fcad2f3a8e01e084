"""The unit, the image and the composition are what the tools of their makers accept.

Where a tool is not installed its absence is printed, and what the files say themselves is checked
all the same.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from enricher.assembly import planned
from enricher.cli.main import LOST
from enricher.cli.watchdog import MARGIN
from enricher.config.listen import parse
from enricher.systems import SYSTEMS, load
from tests.checkers import absent, run, tool

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "deploy" / "enricher.service"
COMPOSE = ROOT / "deploy" / "compose.yaml"
DOCKERFILE = ROOT / "Dockerfile"


def unit() -> dict[str, list[str]]:
    """{key: values in order} of the unit."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for line in UNIT.read_text(encoding="utf-8").splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found[key].append(value)
    return dict(found)


def instructions() -> list[tuple[str, str]]:
    """(instruction, rest) of the Dockerfile, continued lines joined."""
    text = DOCKERFILE.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, " ".join(rest.split())) for word, _, rest in (x.partition(" ") for x in lines)]


def composition() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return loaded


def test_systemd_accepts_the_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert unit()["ExecStart"] == [
        "/opt/enricher/bin/python -m enricher run --config /etc/enricher/config.toml"
    ]
    analyze = tool("systemd-analyze")
    if analyze is None:
        absent(capsys, "systemd-analyze")
        return
    # It wants the program to exist, and /opt/enricher is not on the machine that tests.
    copy = tmp_path / "enricher.service"
    text = UNIT.read_text(encoding="utf-8")
    copy.write_text(text.replace("/opt/enricher/bin/python", sys.executable), encoding="utf-8")
    run(analyze, "verify", "--recursive-errors=no", str(copy))


def test_the_unit_is_hardened_to_an_exposure_of_at_most_two(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = unit()
    assert said["DynamicUser"] == ["yes"]
    assert said["CapabilityBoundingSet"] == [""]
    assert said["ProtectSystem"] == ["strict"]
    assert said["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    analyze = tool("systemd-analyze")
    if analyze is None:
        absent(capsys, "systemd-analyze")
        return
    run(analyze, "security", "--offline=true", "--threshold=20", str(UNIT))


def test_the_unit_gives_the_web_app_to_this_machine_alone() -> None:
    name, _, value = unit()["Environment"][0].partition("=")
    address = parse(load(ROOT / "config.toml", environ={name: value}).web.listen)
    assert address.is_own
    assert address.port


def test_systemd_watches_the_worker_and_always_starts_it_again() -> None:
    said = unit()
    assert (said["Type"], said["Restart"], said["NotifyAccess"]) == (
        ["notify"], ["always"], ["main"],
    )  # fmt: skip
    assert int(said["WatchdogSec"][0]) > 2 * load().service.health_interval
    # `run` waits for servers that are away and is not ready meanwhile; that must not be a failure.
    assert said["TimeoutStartSec"] == ["infinity"]
    assert said["StartLimitIntervalSec"] == ["0"]


async def test_whoever_stops_the_worker_waits_until_it_has_drained() -> None:
    settings = load(overrides={f"{system.name}.enabled": True for system in SYSTEMS})
    routes = [route for plan in planned(settings) for route in plan.routes]
    deadline = max(settings.service.drain_deadline, *(r.drain_deadline or 0 for r in routes)) + MARGIN
    assert int(unit()["TimeoutStopSec"][0]) > deadline
    assert unit()["SuccessExitStatus"] == [str(LOST)]
    grace = composition()["services"]["enricher"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) > deadline


def test_the_image_runs_as_a_numbered_user_from_a_second_stage(
    capsys: pytest.CaptureFixture[str],
) -> None:
    said = instructions()
    assert [word for word, _ in said].count("FROM") == 2
    last_stage = dict(said[[word for word, _ in said].index("FROM", 1) :])
    user, _, group = last_stage["USER"].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert json.loads(last_stage["ENTRYPOINT"]) == ["python", "-m", "enricher"]
    assert json.loads(last_stage["CMD"]) == ["run"]
    assert last_stage["HEALTHCHECK"].endswith('CMD ["python", "-m", "enricher", "health"]')
    hadolint = tool("hadolint")
    if hadolint is None:
        absent(capsys, "hadolint")
        return
    run(hadolint, str(DOCKERFILE))


def test_everything_the_image_copies_is_let_through_to_the_build() -> None:
    let_through = {
        line.removeprefix("!")
        for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    copied = {
        source.removeprefix("./")
        for word, rest in instructions()
        if word == "COPY" and not rest.startswith("--from")
        for source in rest.split()[:-1]
    }
    assert copied == let_through


def test_the_image_reads_its_settings_where_the_composition_mounts_them() -> None:
    environment = next(rest for word, rest in instructions() if word == "ENV")
    assert "ENRICHER_CONFIG=/etc/enricher/config.toml" in environment
    source, target, mode = composition()["services"]["enricher"]["volumes"][0].split(":")
    assert (target, mode) == ("/etc/enricher/config.toml", "ro")
    assert (COMPOSE.parent / source).resolve() == ROOT / "config.toml"


def test_the_composition_gives_the_worker_settings_it_understands() -> None:
    service = composition()["services"]["enricher"]
    # Without a token it does not start.
    given, asked = re.subn(r"\$\{WEB_TOKEN:\?[^}]+\}", "t0ken", json.dumps(service["environment"]))
    assert asked == 1
    settings = load(ROOT / "config.toml", environ=json.loads(given))
    port = parse(settings.web.listen).port
    assert settings.web.tokens == {"operator": "t0ken"}
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert dict(instructions())["EXPOSE"] == str(port)
    assert settings.redis.url == "redis://redis:6379/0"
    assert settings.mongo.database_name == "deltastream"


def test_the_composition_publishes_the_web_app_alone_and_waits_for_healthy_servers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    composed = composition()
    services = composed["services"]
    for name, service in services.items():
        assert ("ports" in service) == (name == "enricher"), name
        assert service["restart"] == "unless-stopped", name
        assert set(service["networks"]) <= set(composed["networks"]), name
        assert "no-new-privileges:true" in service["security_opt"], name
        named = [volume.partition(":")[0] for volume in service["volumes"]]
        assert {volume for volume in named if "/" not in volume} <= set(composed["volumes"]), name
    assert services["enricher"]["depends_on"] == {
        name: {"condition": "service_healthy"} for name in ("redis", "mongo")
    }
    for name in ("redis", "mongo"):
        assert services[name]["healthcheck"]["test"][0] == "CMD"
    docker = tool("docker")
    has_compose = docker and not subprocess.run(
        [docker, "compose", "version"], capture_output=True, timeout=60, check=False
    ).returncode  # fmt: skip
    if not docker or not has_compose:
        absent(capsys, "docker compose")
        return
    monkeypatch.setenv("WEB_TOKEN", "t0ken")
    run(docker, "compose", "-f", str(COMPOSE), "config", "--quiet")
