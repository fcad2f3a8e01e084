"""From flat keys with the values that somebody gave to sections, or to what is wrong with them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_origin

import msgspec

from enricher.config.types import Section, did_you_mean
from enricher.config.values import WrongValueError, read, shown
from enricher.errors import ConfigError
from enricher.redaction import HIDDEN

_SECRET_NAME = re.compile(
    r"password|passwd|passphrase|pwd|secret|token|credential|auth|api_?key|url", re.IGNORECASE
)


class Given(NamedTuple):
    """A value somebody set: where, whether it came as text, and by which old key, if by one."""

    value: object
    source: str
    is_text: bool
    old_key: str = ""


Layer = dict[str, Given]
"""What one place says, by dotted key."""


def is_section(kind: Any) -> bool:
    """Whether this type of a field is a section within a section."""
    return isinstance(kind, type) and issubclass(kind, Section)


def hidden(key: str, value: object) -> object:
    """The value of a key nobody knows, which may all the same be somebody's password."""
    if isinstance(value, dict):
        return {name: hidden(f"{key}.{name}", inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [hidden(key, inner) for inner in value]
    if _SECRET_NAME.search(key) or (isinstance(value, str) and "@" in value):
        return HIDDEN
    return shown(value)


def value_of(key: str, given: Given, kind: Any) -> Any:
    """The value as its kind wants it. Raises `ConfigError`, of every mistake in an open table."""
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
    return inner if is_section(inner) else None


def _tables(key: str, given: Given, section: type[Section]) -> dict[str, Section]:
    """{name: section} of an open table; text is JSON."""
    value = given.value
    if given.is_text:
        try:
            value = msgspec.json.decode(str(value))
        except (msgspec.DecodeError, UnicodeError):
            raise ConfigError(given.source, key, shown(given.value), "a table of tables, as JSON") from None
    if not isinstance(value, Mapping):
        raise ConfigError(given.source, key, hidden(key, value), f"tables [{key}.NAME]")
    tables, errors = {}, list[ConfigError]()
    for name, table in value.items():
        try:
            tables[name] = _one_table(f"{key}.{name}", table, given.source, section)
        except ConfigError as error:
            errors.append(error)
    if errors:
        raise ConfigError.together(errors)
    return tables


def _one_table(key: str, table: object, source: str, section: type[Section]) -> Section:
    if not isinstance(table, Mapping):
        raise ConfigError(source, key, hidden(key, table), f"a table [{key}]")
    types = {field.name: field.type for field in msgspec.structs.fields(section)}
    arguments, errors = {}, list[ConfigError]()
    for field, value in table.items():
        try:
            if field not in types:
                right = f"one of the keys {', '.join(types)}{did_you_mean(field, types)}"
                raise ConfigError(source, f"{key}.{field}", hidden(field, value), right)
            arguments[field] = value_of(f"{key}.{field}", Given(value, source, is_text=False), types[field])
        except ConfigError as error:
            errors.append(error)
    if not errors:
        made = section(**arguments)
        errors = [
            ConfigError(source, f"{key}.{field}", shown(getattr(made, field)), right)
            for field, right in made.validate()
        ]
    if errors:
        raise ConfigError.together(errors)
    return made


def build(section: type[Section], prefix: str, values: Mapping[str, Any]) -> Section:
    """The section from the flat values; what is not there keeps its default."""
    arguments: dict[str, Any] = {}
    for field in msgspec.structs.fields(section):
        key = f"{prefix}.{field.name}"
        if is_section(field.type):
            arguments[field.name] = build(field.type, key, values)
        elif key in values:
            arguments[field.name] = values[key]
    return section(**arguments)


def disagreements(section: Section, prefix: str, given: Layer) -> Iterator[ConfigError]:
    """An error for each disagreement between keys of this section."""
    for key, right in section.validate():
        dotted = f"{prefix}.{key}"
        if dotted in given:
            source, dotted = given[dotted].source, given[dotted].old_key or dotted
        else:
            # Not the default is at fault but the key it disagrees with, which `right` names.
            others = [f"{name} is from {one.source}" for name, one in given.items() if name in right]
            source = f"default ({', '.join(others)})" if others else "default"
        yield ConfigError(source, dotted, shown(section.printable()[key]), right)
    for name in section.__struct_fields__:
        inner = getattr(section, name)
        if isinstance(inner, Section):
            yield from disagreements(inner, f"{prefix}.{name}", given)
