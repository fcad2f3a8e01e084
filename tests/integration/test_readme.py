"""What the README and the pages in docs show runs as it stands there, and they name what the program says."""

import re
import tomllib
from pathlib import Path

import pytest

from enricher import Insert, load
from enricher.cli.main import EPILOG
from enricher.cli.top import COLORS
from tests.integration.commands import ran
from tests.integration.test_market_contract import AT, MINUTE, chain, quote, tick
from tests.integration.worker import CHAINS, QUOTES, TICKS, running
from tests.pages import blocks
from tests.rig import Clock

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}
README, STOPS = TEXTS["README.md"], TEXTS["docs/stops.md"]


PROGRAMS = [
    pytest.param(block, id=f"{page}-{number}")
    for page in ("README.md", "docs/library.md", "docs/mail.md")
    for number, block in enumerate(blocks(TEXTS[page], "python"))
    if "asyncio.run(main())" in block
]


@pytest.mark.parametrize("program", PROGRAMS)
def test_each_python_example_runs(program: str, redis_url: str, mongo_database_url: str) -> None:
    done = ran("-c", program, REDIS_URL=redis_url, MONGO_URL=mongo_database_url)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert "1" in lines or any(line.endswith("'owner': 'Asha'}") for line in lines), done.stdout


def test_the_configuration_example_loads(tmp_path: Path) -> None:
    (example,) = blocks(TEXTS["docs/start.md"], "toml")
    file = tmp_path / "config.toml"
    file.write_text(example, encoding="utf-8")
    settings = load(file)
    assert settings.mongo.driver == tomllib.loads(example)["mongo"]["driver"]
    assert settings.feed.timezone == "Asia/Kolkata"


def test_quick_start_is_two_commands_of_one_line_each() -> None:
    section = README.split("## Quick start")[1].split("\n## ")[0]
    commands = blocks(section, "sh")
    assert len(commands) == 2
    assert all(command.count("\n") == 1 for command in commands)
    assert "enricher demo" in commands[0]
    assert "pytest" in commands[1]


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_to_a_file_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+?)(?:#[^)]*)?\)", TEXTS[page]):
        assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_the_readme_leads_to_every_page() -> None:
    linked = set(re.findall(r"\]\((docs/[\w/.]+)\)", README))
    pages = {page for page in TEXTS if page.count("/") == 1}
    assert pages <= linked, pages - linked


def test_statuses_and_exit_codes_are_those_of_the_program() -> None:
    status, codes = STOPS.split("## Exit codes\n")
    told = [re.findall(r"^\| ([`\w]+) \|", page, re.MULTILINE)[1:] for page in (status, codes)]
    assert set(told[0]) == {f"`{word}`" for word in COLORS}
    assert told[1] == re.findall(r"^  (\d+) ", EPILOG, re.MULTILINE)


async def test_what_operations_looks_at_is_there_with_the_fields_it_names(
    redis_url: str, mongo_database_url: str
) -> None:
    """The lines of `redis-cli` are sent as they stand; those of `mongosh` are looked into."""
    lines = re.findall(r"^\$ (.*)$", TEXTS["docs/operate.md"], re.MULTILINE)
    clock = Clock(AT)
    async with running(redis_url, mongo_database_url, clock=clock) as worker:
        for number in range(2):
            at_us = AT - (1 - number) * 6 * MINUTE
            await worker.send(TICKS, tick(21503.45, at_us, 122 + number))
            await worker.send(QUOTES, quote(at_us=at_us, expiry="2026-01-25"))
            await worker.take(CHAINS, chain(at_us, expiry="2025-01-25"))
        await worker.take(TICKS, b"no JSON")
        worker.enricher.emit(Insert("feed_gaps", {"_id": 1, "from": 1, "to": 2, "channel": TICKS}))
        await worker.settled()
        for line in lines:
            if line.startswith("redis-cli"):
                command, _, comment = line.removeprefix("redis-cli ").partition("#")
                reply = repr(await worker.redis.execute_command(*command.split()))
                names = re.findall(r'"(\w+)":', comment)
                names = names or re.findall(r"\b(open|high|low|close|\w+_\w+)\b", comment)
                assert all(name in reply for name in names), (line, reply)
                assert reply not in ("None", "0", "[]"), line
            else:
                collection, asked, order = re.findall(r"db\.(\w+)\.find\((.*?)\)\.sort\(\{(\w+):", line)[0]
                document = worker.documents[collection].find_one()
                assert {*re.findall(r"(\w+):", asked), order} <= document.keys(), line
        assert len(lines) == 9


def test_the_architecture_names_files_that_are_there() -> None:
    page = TEXTS["docs/architecture.md"]
    named = re.findall(r"`(enricher/[\w/.]*)`", page)
    assert len(named) > 12
    assert not [name for name in named if not (ROOT / name).exists()]
    parents = {1: ROOT / "enricher"}
    for line in page.split("```text\nenricher/\n")[1].split("```")[0].splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.findall(r"(?:\w+/|\w+\.py)(?= |$)", re.split(r"\s{3,}", line.strip())[0])
        assert names, line
        assert not [name for name in names if not (parents[depth] / name).exists()], line
        parents[depth + 1] = parents[depth] / names[-1]
