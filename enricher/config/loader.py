"""From file, environment and command line to one `Settings`; all mistakes are reported together."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import msgspec

from enricher.config.building import Given, Layer, build, disagreements, hidden, is_section, value_of
from enricher.config.settings import CORE_SECTIONS, Settings
from enricher.config.types import Section, did_you_mean
from enricher.errors import ConfigError

FILE_NAME = "config.toml"
FILE_VARIABLE = "ENRICHER_CONFIG"
PREFIX = "ENRICHER_"
OVERRIDES = "overrides"
ENVIRONMENT = "environment"
OLD_NAMES = MappingProxyType(
    {"REDIS_URL": "redis.url", "MONGO_URL": "mongo.url", "SERVICE_NAME": "service.name"}
)
_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")  # as it stands in names of environment variables
NOTHING: Mapping[str, Any] = MappingProxyType({})


class Variables(NamedTuple):
    """Environment variables, or those of a .env ``file``."""

    values: Mapping[str, str]
    file: str = ""

    def source(self, name: str) -> str:
        """What an error calls the variable."""
        return f"{self.file}: {name}" if self.file else name


def load(
    path: Path | str | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    sections: Mapping[str, type[Section]] = NOTHING,
    folder: Path | str | None = None,
    dotenv: Path | None = None,
    overrides_from: str = OVERRIDES,
) -> Settings:
    """All settings; overrides over environment over .env file over config file over defaults.

    In the environment, and in the file ``dotenv`` as well, ENRICHER_SECTION__KEY wins over an old name, such
    as REDIS_URL; REDIS_HOST and REDIS_PORT make an address where REDIS_URL does not give one. What the
    environment says of a key wins over the .env file under whatever name it says it.

    ``overrides`` are {"redis.url": ...}, such as the command line's, and ``overrides_from`` is what an
    error calls them; None means not given, text is read as in the environment. ``sections`` are those of
    systems: {"market": MarketSettings}. The config file is `find_config` of path, environ and folder; with
    none of them nothing is read. Raises `ConfigError`, which names source, key, value (never a password) and
    what would be right, of everything that is wrong; ValueError for what can be no section of a system.
    """
    for name, section in sections.items():
        check_name(name)
        if not is_section(section):
            raise ValueError(f"section {name!r} is {section!r}: expected a subclass of Section")
    loading = _Loading({**CORE_SECTIONS, **sections})
    environ, written = environ or {}, loading.dotenv(dotenv)
    both = {**written, **environ}
    file = find_config(
        None if path is None else Path(path), both, None if folder is None else Path(folder)
    )
    variables = [
        Variables({name: text for name, text in written.items() if name not in environ}, str(dotenv)),
        Variables(environ),
    ]
    base = {} if file is None else loading.file(file)
    new = [loading.variables(each, both) for each in variables]
    top = loading.overrides(overrides or {}, overrides_from)
    on = loading.switched_on({**base, **new[0], **new[1], **top})
    old = [loading.old_names(each, on) for each in variables]
    given = {**base, **old[0], **new[0], **old[1], **new[1], **top}
    return loading.settings(given)


def check_name(name: object) -> None:
    """ValueError for what cannot be the name of a system, which is that of its section."""
    if isinstance(name, str) and _NAME.fullmatch(name) and name not in CORE_SECTIONS:
        return
    expected = f"small letters, digits and single _, and none of {', '.join(CORE_SECTIONS)}"
    raise ValueError(f"a system is called {name!r}: expected {expected}")


def find_config(
    path: Path | None, environ: Mapping[str, str] = NOTHING, folder: Path | None = None
) -> Path | None:
    """The config file: ``path``, else $ENRICHER_CONFIG, else ``folder``/config.toml if it exists.

    A file that was asked for by name must exist (`load` says so); the one of the folder need not.
    """
    if path is not None:
        return path
    if environ.get(FILE_VARIABLE):
        return Path(environ[FILE_VARIABLE])
    if folder is not None and (folder / FILE_NAME).is_file():
        return folder / FILE_NAME
    return None


def environment_name(key: str) -> str:
    """The environment variable of a dotted key: ``redis.url`` is ``ENRICHER_REDIS__URL``."""
    return PREFIX + key.replace(".", "__").upper()


class _Loading:
    """Reads layer by layer and collects what is wrong in ``errors``."""

    def __init__(self, types: Mapping[str, type[Section]]) -> None:
        self.errors: list[ConfigError] = []
        self._types = types
        # The type of the value of every dotted key, and the new key of every old one.
        self._leaves: dict[str, Any] = {}
        self._renamed: dict[str, str] = {}
        self._required = set[str]()
        for name, section in types.items():
            self._walk_type(name, section)

    def _walk_type(self, prefix: str, section: type[Section]) -> None:
        for old, new in section.renamed.items():
            self._renamed[f"{prefix}.{old}"] = f"{prefix}.{new}"
        for field in msgspec.structs.fields(section):
            key = f"{prefix}.{field.name}"
            if is_section(field.type):
                self._walk_type(key, field.type)
            else:
                self._leaves[key] = field.type
                if field.required:
                    self._required.add(key)

    def _wrong(self, source: str, key: str, value: object, expected: str) -> None:
        self.errors.append(ConfigError(source, key, value, expected))

    # -- one place after the other -----------------------------------------------------------------

    def dotenv(self, file: Path | None) -> Mapping[str, str]:
        if file is None:
            return {}
        from enricher.config.dotenv import read_dotenv

        try:
            return read_dotenv(file)
        except ConfigError as error:
            self.errors.append(error)
            return {}

    def file(self, file: Path) -> Layer:
        source, right = str(file), "valid TOML"
        try:
            table = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
        except OSError as error:
            wrong, right = error.strerror or str(error), "a readable file"
        except UnicodeDecodeError as error:
            wrong, right = f"byte {error.start}", "UTF-8 text"
        except tomllib.TOMLDecodeError as error:
            wrong = str(error)
        else:
            layer: Layer = {}
            self._table("", table, source, layer)
            return layer
        self._wrong(source, "config file", wrong, right)
        return {}

    def _table(self, prefix: str, table: Mapping[str, object], source: str, layer: Layer) -> None:
        for name, value in table.items():
            key = f"{prefix}{name}"
            inside = any(leaf.startswith(f"{key}.") for leaf in self._leaves)
            if inside and isinstance(value, dict):
                self._table(f"{key}.", value, source, layer)
            elif inside:
                self._wrong(source, key, hidden(key, value), f"a table [{key}]")
            else:
                self._take(layer, key, Given(value, source, is_text=False))

    def variables(self, variables: Variables, both: Mapping[str, str]) -> Layer:
        """What they say under names of ours and under old names; ``both`` completes half an address."""
        environ, layer = variables.values, _from_host_and_port(variables, both)
        for name, key in OLD_NAMES.items():
            if environ.get(name):
                layer[key] = Given(environ[name], variables.source(name), is_text=True)
        # With a Service called "enricher", Kubernetes sets ENRICHER_PORT, ENRICHER_SERVICE_HOST and
        # the like: a name without "__" is an error only where it is a key that lacks an underscore.
        nearly = {environment_name(key).replace("__", "_"): key for key in self._leaves}
        where = variables.file or ENVIRONMENT
        for name, text in environ.items():
            if not name.startswith(PREFIX):
                continue
            if "__" in name:
                key = name.removeprefix(PREFIX).lower().replace("__", ".")
                self._take(layer, key, Given(text, variables.source(name), is_text=True), name, where)
            elif name in nearly:
                right = f"the name {environment_name(nearly[name])}, with two underscores"
                self._wrong(where, name, hidden(name, text), right)
        return layer

    def overrides(self, overrides: Mapping[str, Any], source: str) -> Layer:
        layer: Layer = {}
        for key, value in overrides.items():
            if value is not None:
                self._take(layer, key, Given(value, source, is_text=isinstance(value, str)))
        return layer

    def switched_on(self, given: Layer) -> list[str]:
        """The sections with old names in the environment that are on."""
        return [
            name
            for name, section in self._types.items()
            if section.old_names and self._is_on(name, section, given)
        ]

    def _is_on(self, name: str, section: type[Section], given: Layer) -> bool:
        keys = {key for key in self._leaves if key.startswith(f"{name}.")}
        values: dict[str, Any] = {}
        for key in keys & given.keys():
            with suppress(ConfigError):  # reported with all the other values
                values[key] = value_of(key, given[key], self._leaves[key])
        if keys & self._required - values.keys():
            return False
        return build(section, name, values).is_on()

    def old_names(self, variables: Variables, on: Iterable[str]) -> Layer:
        """What they say under the old names of these sections."""
        layer: Layer = {}
        for section in on:
            for name, (key, unit) in self._types[section].old_names.items():
                text = variables.values.get(name, "").strip()
                if text:
                    with_unit = text + unit if text.replace(".", "", 1).isdecimal() else text
                    layer[f"{section}.{key}"] = Given(with_unit, variables.source(name), is_text=True)
        return layer

    def _take(self, layer: Layer, key: str, given: Given, name: str = "", where: str = "") -> None:
        """Put a value under its key; ``name`` is how the place ``where`` spells it, if not as the key."""
        new = self._renamed.get(key, key)
        if new not in self._leaves:
            self._wrong(where or given.source, name or key, hidden(key, given.value), self._known(key))
        elif new == key:
            layer[key] = given
        elif new not in layer or layer[new].old_key:
            layer[new] = given._replace(old_key=key)

    def _known(self, key: str) -> str:
        """What would be right instead of a key that nobody knows."""
        section = key.partition(".")[0]
        if section not in self._types:
            return f"one of the sections {', '.join(self._types)}{did_you_mean(section, self._types)}"
        own = [leaf for leaf in self._leaves if leaf.startswith(f"{section}.")]
        near = did_you_mean(key, own) or did_you_mean(key, self._leaves)
        names = ", ".join(leaf.removeprefix(f"{section}.") for leaf in own)
        return f"one of the keys of {section}: {names}{near}"

    # -- all of it ---------------------------------------------------------------------------------

    def settings(self, given: Layer) -> Settings:
        """The settings. Raises `ConfigError` if anything was or is wrong."""
        values: dict[str, Any] = {}
        for key, one in given.items():
            try:
                values[key] = value_of(one.old_key or key, one, self._leaves[key])
            except ConfigError as error:
                self.errors.append(error)
        if lacking := self._required - values.keys():
            for key in sorted(lacking - given.keys()):
                self._wrong("default", key, "not set", "a value, for it has no default")
            raise ConfigError.together(self.errors)
        self._provide(values, given)
        built = {name: build(section, name, values) for name, section in self._types.items()}
        for name, section in built.items():
            if not any(key.startswith(f"{name}.") for key in given.keys() - values.keys()):
                self.errors += disagreements(section, name, given)
        if self.errors:
            raise ConfigError.together(self.errors)
        core = cast("dict[str, Any]", {name: built.pop(name) for name in CORE_SECTIONS})
        return Settings(
            **core,
            routes=built,
            origins={key: one.source for key, one in given.items()},
            renamed={one.old_key: key for key, one in given.items() if one.old_key},
        )

    def _provide(self, values: dict[str, Any], given: Layer) -> None:
        """Let values of sections that are on count for the keys of others that nobody gives."""
        for name, section in self._types.items():
            for key, own in section.provides.items():
                value = values.get(f"{name}.{own}")
                if value and key not in given and build(section, name, values).is_on():
                    said = given[f"{name}.{own}"]
                    given[key] = said._replace(value=section.provided(key, value), is_text=True)
                    try:
                        values[key] = value_of(key, given[key], self._leaves[key])
                    except ConfigError as error:
                        self.errors.append(error)


def _from_host_and_port(variables: Variables, both: Mapping[str, str]) -> Layer:
    """The address that REDIS_HOST and REDIS_PORT make, unless REDIS_URL says it all."""
    if variables.values.get("REDIS_URL") or not any(_host_and_port(variables.values)):
        return {}
    host, port = _host_and_port(both)
    shown_host = f"[{host}]" if ":" in host and not host.startswith("[") else host or "localhost"
    address = f"redis://{shown_host}:{port or '6379'}/0"
    source = variables.source("REDIS_HOST" if host else "REDIS_PORT")
    return {"redis.url": Given(address, source, is_text=True)}


def _host_and_port(environ: Mapping[str, str]) -> tuple[str, str]:
    host, port = environ.get("REDIS_HOST", "").strip(), environ.get("REDIS_PORT", "").strip()
    # With a Service called "redis", Kubernetes sets REDIS_PORT to tcp://10.0.0.1:6379.
    return host, "" if port.startswith("tcp://") else port
