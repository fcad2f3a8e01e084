"""From file, environment and command line to one `Settings`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast, get_args, get_origin

import msgspec

from enricher.config.settings import CORE_SECTIONS, Settings
from enricher.config.types import Section, did_you_mean
from enricher.config.values import WrongValueError, read, shown
from enricher.errors import ConfigError
from enricher.redaction import HIDDEN

FILE_NAME = "config.toml"
FILE_VARIABLE = "ENRICHER_CONFIG"
PREFIX = "ENRICHER_"
OVERRIDES = "overrides"
ENVIRONMENT = "environment"
OLD_NAMES = MappingProxyType(
    {"REDIS_URL": "redis.url", "MONGO_URL": "mongo.url", "SERVICE_NAME": "service.name"}
)
# Names of the Celery stack. They may hold what Redis never sees (amqp://...), so they are kept as
# they are and judged by whoever comes to use them.
LEGACY_NAMES = MappingProxyType(
    {"CELERY_BROKER_URL": "jobs.url", "CELERY_RESULT_BACKEND": "results.url"}
)
NOTHING: Mapping[str, Any] = MappingProxyType({})
_SECRET_NAME = re.compile(
    r"password|passwd|passphrase|pwd|secret|token|credential|auth|api_?key|url", re.IGNORECASE
)


class Given(NamedTuple):
    """A value somebody set: where, and whether it came as text."""

    value: object
    source: str
    is_text: bool


def load(
    path: Path | None = None,
    environ: Mapping[str, str] = NOTHING,
    overrides: Mapping[str, Any] = NOTHING,
    sections: Mapping[str, type[Section]] = NOTHING,
    folder: Path | None = None,
    written: Mapping[str, str] = NOTHING,
    overrides_from: str = OVERRIDES,
) -> Settings:
    """All settings; overrides over environment over old names over file over defaults.

    REDIS_HOST and REDIS_PORT make an address where REDIS_URL does not give one. ``written`` are variables
    that a file holds (.env): what ``environ`` says of a key wins over them under whatever name they say it.

    ``overrides`` are {"redis.url": ...}, such as the command line's, and ``overrides_from`` is what an
    error calls them; None means not given, text is read as in the environment. ``sections`` are the
    route packages' {"market": MarketSettings}. The file is `find_config` of path, environ and folder;
    with none of them nothing is read. Raises ConfigError, which names source, key, value (never a
    password) and what would be right.
    """
    kinds = {**CORE_SECTIONS, **sections}
    leaves = {key: kind for name, section in kinds.items() for key, kind in _leaves(name, section)}
    given: dict[str, Given] = {}
    both = {**written, **environ}
    file = find_config(path, both, folder)
    if file is not None:
        given |= _from_file(file, leaves)
    layers = [{name: text for name, text in written.items() if name not in environ}, environ]
    said = [_from_environment(layer, both, leaves) for layer in layers]
    options = {}
    for key, value in overrides.items():
        if value is not None:
            _known(key, key, value, overrides_from, leaves)
            options[key] = Given(value, overrides_from, is_text=isinstance(value, str))
    all_said = {**given, **said[0], **said[1], **options}
    old = [name for name, brought in kinds.items() if brought.old_names]
    switched_on = [name for name in old if _switched_on(name, kinds[name], all_said, leaves)]
    for layer, new in zip(layers, said, strict=True):
        for name in switched_on:
            given |= _from_old_names(name, kinds[name], layer)
        given |= new
    given |= options
    values = {key: _value(key, one, leaves[key]) for key, one in given.items()}
    built = {name: _build(section, name, values) for name, section in kinds.items()}
    for name, section in built.items():
        _judge(section, name, given)
    core = cast("dict[str, Any]", {name: built.pop(name) for name in CORE_SECTIONS})
    return Settings(
        **core,
        routes=built,
        origins={key: one.source for key, one in given.items()},
        legacy={key: both[name] for name, key in LEGACY_NAMES.items() if both.get(name)},
    )


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


def _leaves(prefix: str, section: type[Section]) -> Iterator[tuple[str, Any]]:
    """Every dotted key of a section with its kind; a section within a section is walked into."""
    for field in msgspec.structs.fields(section):
        key = f"{prefix}.{field.name}"
        if isinstance(field.type, type) and issubclass(field.type, Section):
            yield from _leaves(key, field.type)
        else:
            yield key, field.type


def _from_file(file: Path, leaves: Mapping[str, Any]) -> dict[str, Given]:
    source = str(file)
    try:
        table = tomllib.loads(file.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            source, "config file", error.strerror or str(error), "a readable file"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(source, "config file", f"byte {error.start}", "UTF-8 text") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(source, "config file", str(error), "valid TOML") from error
    return {
        key: Given(value, source, is_text=False) for key, value in _walk("", table, source, leaves)
    }


def _walk(
    prefix: str, table: Mapping[str, object], source: str, leaves: Mapping[str, Any]
) -> Iterator[tuple[str, object]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        inside = any(leaf.startswith(f"{key}.") for leaf in leaves)
        if inside and isinstance(value, dict):
            yield from _walk(f"{key}.", value, source, leaves)
        elif inside:
            raise ConfigError(source, key, _hidden(key, value), f"a table [{key}]")
        else:
            _known(key, key, value, source, leaves)
            yield key, value


def _from_environment(
    environ: Mapping[str, str], both: Mapping[str, str], leaves: Mapping[str, Any]
) -> dict[str, Given]:
    """What ``environ`` says, its new names over its old; ``both`` completes half an address."""
    given = _from_host_and_port(environ, both)
    for name, key in OLD_NAMES.items():
        if environ.get(name):
            given[key] = Given(environ[name], name, is_text=True)
    # With a Service called "enricher", Kubernetes sets ENRICHER_PORT, ENRICHER_SERVICE_HOST and
    # the like: a name without "__" is an error only where it is a key that lacks an underscore.
    nearly = {environment_name(key).replace("__", "_"): key for key in leaves}
    for name, text in environ.items():
        if not name.startswith(PREFIX):
            continue
        if "__" in name:
            key = name.removeprefix(PREFIX).lower().replace("__", ".")
            _known(key, name, text, ENVIRONMENT, leaves)
            given[key] = Given(text, name, is_text=True)
        elif name in nearly:
            right = f"the name {environment_name(nearly[name])}, with two underscores"
            raise ConfigError(ENVIRONMENT, name, _hidden(name, text), right)
    return given


def _from_host_and_port(environ: Mapping[str, str], both: Mapping[str, str]) -> dict[str, Given]:
    """The address that REDIS_HOST and REDIS_PORT make, unless REDIS_URL says it all."""
    if environ.get("REDIS_URL") or not any(_host_and_port(environ)):
        return {}
    host, port = _host_and_port(both)
    shown_host = f"[{host}]" if ":" in host and not host.startswith("[") else host or "localhost"
    address = f"redis://{shown_host}:{port or '6379'}/0"
    return {"redis.url": Given(address, "REDIS_HOST" if host else "REDIS_PORT", is_text=True)}


def _host_and_port(environ: Mapping[str, str]) -> tuple[str, str]:
    host, port = environ.get("REDIS_HOST", "").strip(), environ.get("REDIS_PORT", "").strip()
    # With a Service called "redis", Kubernetes sets REDIS_PORT to tcp://10.0.0.1:6379.
    return host, "" if port.startswith("tcp://") else port


def _switched_on(
    name: str, section: type[Section], given: Mapping[str, Given], leaves: Mapping[str, Any]
) -> bool:
    key = f"{name}.enabled"
    if key in given:
        return bool(_value(key, given[key], leaves[key]))
    return bool(getattr(section(), "enabled", True))


def _from_old_names(name: str, section: type[Section], environ: Mapping[str, str]) -> dict[str, Given]:
    """What the environment says under the section's old names."""
    given = {}
    for variable, (key, unit) in section.old_names.items():
        text = environ.get(variable, "").strip()
        if text:
            with_unit = text + unit if text.replace(".", "", 1).isdecimal() else text
            given[f"{name}.{key}"] = Given(with_unit, variable, is_text=True)
    return given


def _known(key: str, name: str, value: object, source: str, leaves: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the key exists; ``name`` is how this source spells it."""
    if key in leaves:
        return
    section = key.partition(".")[0]
    sections = list(dict.fromkeys(leaf.partition(".")[0] for leaf in leaves))
    if section not in sections:
        right = f"one of the sections {', '.join(sections)}{did_you_mean(section, sections)}"
    else:
        mine = [leaf for leaf in leaves if leaf.startswith(f"{section}.")]
        near = did_you_mean(key, mine) or did_you_mean(key, leaves)
        names = ", ".join(leaf.removeprefix(f"{section}.") for leaf in mine)
        right = f"one of the keys of {section}: {names}{near}"
    raise ConfigError(source, name, _hidden(key, value), right)


def _hidden(key: str, value: object) -> object:
    """The value of a key nobody knows, which may all the same be somebody's password."""
    if isinstance(value, dict):
        return {name: _hidden(f"{key}.{name}", inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_hidden(key, inner) for inner in value]
    if _SECRET_NAME.search(key) or (isinstance(value, str) and "@" in value):
        return HIDDEN
    return shown(value)


def _value(key: str, given: Given, kind: Any) -> Any:
    inner = _table_of(kind)
    if inner is not None:
        return _tables(key, given, inner)
    try:
        return read(given.value, kind, is_text=given.is_text)
    except WrongValueError as error:
        wrong = shown(given.value, kind)
        # Not `from error`: what int() and others say quotes the value, password and all.
        raise ConfigError(given.source, key, wrong, str(error)) from None


def _table_of(kind: Any) -> type[Section] | None:
    """The section that a mapping of names to sections holds, such as ``[market.products.NAME]``."""
    arguments = get_args(kind)
    inner = arguments[1] if get_origin(kind) is Mapping and len(arguments) > 1 else None
    return inner if isinstance(inner, type) and issubclass(inner, Section) else None


def _tables(key: str, given: Given, section: type[Section]) -> dict[str, Section]:
    """{name: section} of an open table; text is JSON."""
    value = given.value
    if given.is_text:
        try:
            value = msgspec.json.decode(str(value))
        except (msgspec.DecodeError, UnicodeError):
            raise ConfigError(given.source, key, shown(given.value), "a table of tables, as JSON") from None
    if not isinstance(value, Mapping):
        raise ConfigError(given.source, key, _hidden(key, value), f"tables [{key}.NAME]")
    found = {}
    for name, table in value.items():
        if not isinstance(table, Mapping):
            raise ConfigError(given.source, f"{key}.{name}", _hidden(key, table), f"a table [{key}.{name}]")
        kinds = {field.name: field.type for field in msgspec.structs.fields(section)}
        arguments = {}
        for field, one in table.items():
            dotted = f"{key}.{name}.{field}"
            if field not in kinds:
                right = f"one of the keys {', '.join(kinds)}{did_you_mean(field, kinds)}"
                raise ConfigError(given.source, dotted, _hidden(field, one), right)
            arguments[field] = _value(dotted, Given(one, given.source, is_text=False), kinds[field])
        found[name] = section(**arguments)
        for field, right in found[name].problems():
            value_there = shown(getattr(found[name], field))
            raise ConfigError(given.source, f"{key}.{name}.{field}", value_there, right)
    return found


def _build(section: type[Section], prefix: str, values: Mapping[str, Any]) -> Section:
    """The section from the flat values; what is not there keeps its default."""
    arguments: dict[str, Any] = {}
    for field in msgspec.structs.fields(section):
        key = f"{prefix}.{field.name}"
        if isinstance(field.type, type) and issubclass(field.type, Section):
            arguments[field.name] = _build(field.type, key, values)
        elif key in values:
            arguments[field.name] = values[key]
    return section(**arguments)


def _judge(section: Section, prefix: str, given: Mapping[str, Given]) -> None:
    """Raise ConfigError for the first disagreement between keys of this section."""
    for key, right in section.problems():
        dotted = f"{prefix}.{key}"
        if dotted in given:
            source = given[dotted].source
        else:
            # Not the default is at fault but the key it disagrees with, which `right` names.
            others = [f"{name} is from {one.source}" for name, one in given.items() if name in right]
            source = f"default ({', '.join(others)})" if others else "default"
        raise ConfigError(source, dotted, shown(getattr(section, key)), right)
    for name in section.__struct_fields__:
        inner = getattr(section, name)
        if isinstance(inner, Section):
            _judge(inner, f"{prefix}.{name}", given)
