"""What the README shows runs as it stands there."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from enricher import load

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("number", range(len(blocks("python"))))
def test_each_python_example_runs(number: int, redis_url: str, mongo_database_url: str) -> None:
    environ = {**os.environ, "REDIS_URL": redis_url, "MONGO_URL": mongo_database_url}
    done = subprocess.run(
        [sys.executable, "-c", blocks("python")[number]],
        env=environ,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "1" in lines or any(line.endswith("'owner': 'Asha'}") for line in lines), done.stdout


def test_the_configuration_example_loads(tmp_path: Path) -> None:
    (example,) = blocks("toml")
    file = tmp_path / "config.toml"
    file.write_text(example, encoding="utf-8")
    settings = load(file)
    assert settings.mongo.driver == tomllib.loads(example)["mongo"]["driver"]
    assert settings.feed.timezone == "Asia/Kolkata"


def test_quick_start_is_two_commands_of_one_line_each() -> None:
    section = README.split("## Quick start")[1].split("\n## ")[0]
    commands = re.findall(r"^```sh\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    assert len(commands) == 2
    assert all(command.count("\n") == 1 for command in commands)
    assert "enricher demo" in commands[0]
    assert "pytest" in commands[1]
