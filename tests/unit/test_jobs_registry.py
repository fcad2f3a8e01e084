"""Which classes there are: packages are imported with all below them, and a wrong class stops no other."""

import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from enricher.errors import ConfigError
from enricher.jobs import WorkerRegistry, client

HEAD = "from enricher.jobs import Worker\n"


def job(name: str, says: str = "", perform: str = "def perform(cls): ...") -> str:
    body = "\n".join(f"    {line}" for line in (says, "@classmethod", perform) if line)
    return f"{HEAD}\nclass {name}(Worker):\n{body}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where packages of this test alone are put, to be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("shop"):
            del sys.modules[name]


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(dedent(text))
    importlib.invalidate_caches()


def names(registry: WorkerRegistry) -> list[str]:
    return sorted(registry.definitions)


def test_packages_are_searched_with_all_below_them(folder: Path) -> None:
    write(
        folder,
        {
            "shop1/__init__.py": "",
            "shop1/orders.py": job("OrderWorker"),
            "shop1/mail/__init__.py": "",
            "shop1/mail/send.py": job("SendWorker"),
            "shop1/plain/without_init.py": job("PlainWorker"),
            "shop1/__main__.py": "raise SystemExit('a program, not to be imported')",
            "shop_other.py": job("OtherWorker"),
        },
    )
    registry = WorkerRegistry.initialize("shop1", "shop_other")
    assert names(registry) == [
        "shop1.mail.send.SendWorker",
        "shop1.orders.OrderWorker",
        "shop1.plain.without_init.PlainWorker",
        "shop_other.OtherWorker",
    ]
    assert not registry.problems


def test_the_log_tells_what_is_registered(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    write(
        folder,
        {
            "shop2/__init__.py": "",
            "shop2/a.py": job("ImportWorker"),
            "shop2/b.py": job("NightWorker", "cron_schedule = '0 2 * * *'"),
            "shop2/c.py": "import nowhere_to_be_found",
        },
    )
    registry = WorkerRegistry.initialize("shop2")
    failed = "Failed to import worker module shop2.c: No module named 'nowhere_to_be_found'"
    assert caplog.messages == [
        "Initializing worker registry...",
        "Registered worker ImportWorker",
        "Registered worker NightWorker with cron schedule: 0 2 * * *",
        failed,
        "Registered 2 workers",
    ]
    assert registry.problems == [failed]


def test_a_wrong_cron_is_an_error_and_the_class_still_runs(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(folder, {"shop3.py": job("NightWorker", "cron_schedule = 'daily'")})
    registry = WorkerRegistry.initialize("shop3")
    said = "NightWorker: cron_schedule = 'daily': Expected format: 'minute hour day month day_of_week'"
    assert registry.problems == [said]
    assert (logging.ERROR, said) in [(record.levelno, record.message) for record in caplog.records]
    assert not registry.definitions["shop3.NightWorker"].scheduled


def test_a_schedule_without_its_arguments_is_a_warning(folder: Path) -> None:
    write(folder, {"shop4.py": job("Night", "cron_schedule = '0 2 * * *'", "def perform(cls, user_id): ...")})
    registry = WorkerRegistry.initialize("shop4")
    assert not registry.problems
    assert len(registry.warnings) == 1
    assert "Night is not scheduled" in registry.warnings[0]


def test_an_attribute_that_is_nearly_one_is_a_warning(folder: Path) -> None:
    says = "max_retry = 5; colour = 'red'; queues = ['a']; option = 1; queue_name = 'low'"
    write(folder, {"shop11.py": job("Misspelt", says) + job("Fine", "max_retries = 5")})
    registry = WorkerRegistry.initialize("shop11")
    assert registry.warnings == ["Misspelt.max_retry = 5 says nothing to jobs; did you mean max_retries?"]
    assert not registry.problems


def test_a_class_that_says_something_wrong_does_not_stop_the_others(folder: Path) -> None:
    write(folder, {"shop5.py": job("Wrong", "max_retries = '3'") + job("Right") + job("Exits")})
    write(folder, {"shop5_exits.py": "raise SystemExit(3)"})
    registry = WorkerRegistry.initialize("shop5", "shop5_exits")
    assert names(registry) == ["shop5.Exits", "shop5.Right"]
    assert "max_retries = '3'" in registry.problems[0]
    assert registry.problems[1] == "Failed to import worker module shop5_exits: SystemExit 3"


def test_two_classes_of_one_task_are_both_named(folder: Path) -> None:
    write(folder, {"shop6.py": job("First", "name = 'same'") + job("Second", "name = 'same'")})
    with pytest.raises(ConfigError, match=r"shop6\.Second: name = 'same'.*shop6\.First has this one"):
        WorkerRegistry.initialize("shop6")


def test_a_class_that_two_modules_show_is_one(folder: Path) -> None:
    write(
        folder,
        {
            "shop7/__init__.py": "from shop7.work import OneWorker",
            "shop7/work.py": job("OneWorker") + "class Base(Worker): ...\nclass Two(Base, OneWorker): ...\n",
        },
    )
    assert names(WorkerRegistry.initialize("shop7")) == ["shop7.work.OneWorker", "shop7.work.Two"]


def test_a_class_that_was_only_imported_is_found_too(folder: Path) -> None:
    write(folder, {"shop8.py": job("Imported"), "shop8_other.py": job("Registered")})
    importlib.import_module("shop8")
    registry = WorkerRegistry.initialize("shop8_other")
    found = registry.find("shop8.Imported")
    assert found is not None
    assert found.cls is sys.modules["shop8"].Imported
    assert names(registry) == ["shop8_other.Registered"]
    assert registry.find("shop8.Nobody") is None


def test_without_packages_those_of_the_settings_are_searched(
    folder: Path, nobodys_settings: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "_default", client.Connection(client._from_environment()))
    with pytest.raises(ConfigError, match=r"jobs\.packages = .*: expected the packages"):
        WorkerRegistry.initialize()
    write(folder, {"shop9.py": job("Here"), "shop9_too.py": job("There")})
    monkeypatch.setenv("ENRICHER_JOBS__PACKAGES", "shop9,shop9_too")
    monkeypatch.setattr(client, "_default", client.Connection(client._from_environment()))
    assert names(WorkerRegistry.initialize()) == ["shop9.Here", "shop9_too.There"]


def test_a_wrong_name_of_one_class_does_not_hide_another(folder: Path) -> None:
    write(folder, {"shop10.py": job("Wrong", "name = 'two words'") + job("Right")})
    importlib.import_module("shop10")
    assert WorkerRegistry().find("shop10.Right") is not None
