"""Which classes of jobs there are: `WorkerRegistry.initialize` imports packages and looks into them."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Any, Self

from enricher.errors import ConfigError
from enricher.jobs import client
from enricher.jobs.attributes import misspelt
from enricher.jobs.definition import Definition, task_name
from enricher.jobs.worker import Worker, definition_of, imported_worker
from enricher.log import log
from enricher.packages import modules
from enricher.texts import text_of

_SHIPPED = "enricher."


class WorkerRegistry:
    """Classes of jobs by the names of their tasks.

    ``problems`` are modules that could not be imported and what is wrong with classes, ``warnings`` what will
    probably be regretted, a text for each. Two registries know nothing of each other; but what one does not
    know `find` looks for among all classes that the process has imported.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self.warnings: list[str] = []
        self._definitions: dict[str, Definition] = {}

    @classmethod
    def initialize(cls, *packages: str | ModuleType) -> Self:
        """Import these packages with all below them, and register their classes of jobs.

        Without any it is those of the settings (`jobs.packages`). A module that cannot be imported, and a
        class with a wrong attribute, is logged and is one of ``problems``; the others go on. Raises
        `ConfigError` for two classes with one name of a task.
        """
        log.info("Initializing worker registry...")
        registry = cls()
        for package in packages or _packages_of_settings():
            registry.scan(package)
        own = [each for each in registry.definitions.values() if not each.cls.__module__.startswith(_SHIPPED)]
        log.info(f"Registered {len(own)} workers")
        return registry

    @property
    def definitions(self) -> Mapping[str, Definition]:
        """What is registered, by the names of the tasks, in the order of registration."""
        return MappingProxyType(self._definitions)

    def find(self, task: str) -> Definition | None:
        """The class of this task: a registered one, else one that the process has imported.

        Raises `ConfigError` if that one says something wrong.
        """
        known = self._definitions.get(task)
        if known is not None:
            return known
        worker = imported_worker(task)
        return None if worker is None else definition_of(worker)

    def scan(self, package: str | ModuleType) -> None:
        """Register what is found in this package and all below it."""
        name = package if isinstance(package, str) else package.__name__
        for module in modules(name, self._not_imported):
            for found in list(vars(module).values()):
                if isinstance(found, type) and issubclass(found, Worker) and _is_job(found):
                    self.register(found)

    def register(self, worker: type[Worker]) -> None:
        """Register one class; once is enough. Raises `ConfigError` for another class with its task's name."""
        name = worker.__name__
        try:
            task = task_name(worker)
            other = self._definitions.get(task)
            if other is None:
                definition = definition_of(worker)
        except ConfigError as error:
            self._problem(f"Failed to register worker {name}: {text_of(error)}")
            return
        if other is not None:
            if other.cls is not worker:
                right = f"another name: {_path(other.cls)} has this one"
                raise ConfigError(_path(worker), "name", task, right)
            return
        self._definitions[task] = definition
        for warning in misspelt(worker, Worker):
            self._warning(warning)
        if definition.schedule_error:
            self._problem(definition.schedule_error)
        elif definition.schedule_warning:
            self._warning(definition.schedule_warning)
        log.info(f"Registered worker {name}{_schedule(definition)}")

    def _not_imported(self, module: str, why: str) -> None:
        self._problem(f"Failed to import worker module {module}: {why}")

    def _warning(self, text: str) -> None:
        self.warnings.append(text)
        log.warning(text)

    def _problem(self, text: str) -> None:
        self.problems.append(text)
        log.error(text)


def _packages_of_settings() -> tuple[str, ...]:
    packages = tuple(getattr(client.settings().routes.get("jobs"), "packages", ()))
    if not packages:
        raise ConfigError(
            "settings", "jobs.packages", (), "the packages whose classes are jobs, such as 'app.jobs'"
        )
    return packages


def _is_job(worker: type[Worker]) -> bool:
    """Whether it is meant to run: a class without `perform` that others are made of is their base."""
    return worker is not Worker and (hasattr(worker, "perform") or not worker.__subclasses__())


def _schedule(definition: Definition) -> str:
    if not definition.scheduled:
        return ""
    if definition.every is not None:
        return f" every {definition.every:g} s"
    return f" with cron schedule: {definition.cron_schedule}"


def _path(cls: type[Any]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
