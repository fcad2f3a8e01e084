"""One value for one kind: read from text, checked, or explained."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
from msgspec import inspect as kinds

from enricher.config.types import did_you_mean
from enricher.redaction import HIDDEN, redact_text
from enricher.storable import is_text

_SCALES: dict[str, dict[str, str]] = {
    "s": {"ms": "0.001", "s": "1", "m": "60", "min": "60", "h": "3600", "d": "86400"},
    "bytes": {
        "b": "1",
        "kb": "1000",
        "mb": "1000000",
        "gb": "1000000000",
        "kib": "1024",
        "mib": "1048576",
        "gib": "1073741824",
    },
}
_AMOUNT = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", re.IGNORECASE)
# What event loops and servers can count, as a lifetime in microseconds too: 30 years, and more of anything
# than there is.
_MOST_SECONDS, _MOST = 10**9, 10**15
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


class WrongValueError(ValueError):
    """The value does not fit its kind; the message says what would be right."""


def read(value: object, kind: Any, *, is_text: bool) -> Any:
    """The value as its kind wants it.

    ``is_text`` says that it came as text (environment, command line), where ``64`` is a number
    and ``1,5,15`` a list; in a file a number has no quotes. Text with a unit (``250ms``, ``4MiB``)
    is welcome from both. Raises WrongValueError.
    """
    info, extra = _unwrap(kinds.type_info(kind), value)
    try:
        if isinstance(value, str):
            if is_text:
                value = _from_text(value, info, extra)
            elif "unit" in extra:
                value = _amount(value, info, extra["unit"])
            elif isinstance(info, kinds.LiteralType):
                value = _choice(value, info)
        result = msgspec.convert(value, kind)
    except (ValueError, ArithmeticError) as error:  # msgspec.ValidationError is a ValueError
        raise WrongValueError(expected(kind, value)) from error
    _check(result, kinds.type_info(kind))
    return result


def _check(value: Any, whole: kinds.Type) -> None:
    """Raise WrongValueError for what msgspec has no word for, in the value or its items."""
    info, extra = _unwrap(whole, value)
    if isinstance(value, float) and not math.isfinite(value):
        raise WrongValueError(_words(info, extra))
    most = _MOST_SECONDS if extra.get("unit") == "s" else _MOST
    if isinstance(value, int | float) and value > most:
        raise WrongValueError(f"{_words(info, extra)}; at most {most:,}")
    if isinstance(value, str) and not is_text(value):
        raise WrongValueError(f"{_words(info, extra)}, in UTF-8")
    if isinstance(info, kinds.LiteralType) and value in extra.get("refused", {}):
        raise WrongValueError(f"{_words(info, extra)}; {extra['refused'][value]}")
    check: Callable[[Any], str | None] | None = extra.get("check")
    problem = check(value) if check else None
    if problem:
        raise WrongValueError(problem)
    if isinstance(info, kinds.VarTupleType):
        for item in value:
            _check(item, info.item_type)
    if isinstance(info, kinds.DictType):
        for name, item in value.items():
            _check(name, info.key_type)
            _check(item, info.value_type)


def shown(value: object, kind: Any = str) -> object:
    """The value as an error may print it: no password, and not longer than a line."""
    if isinstance(value, str):
        about = _unwrap(kinds.type_info(kind))[1]
        if value and (about.get("secret") or about.get("hidden")):
            # Nobody knows which part of a wrong address is the password.
            return HIDDEN
        value = redact_text(value)
        return value if len(value) <= 200 else f"{value[:200]}..."
    if isinstance(value, Mapping):
        if _unwrap(kinds.type_info(kind))[1].get("hidden", False):
            return dict.fromkeys(value, HIDDEN)
        return {key: shown(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shown(item) for item in value]
    return value


def expected(kind: Any, value: object = None) -> str:
    """What would be right for this kind, in words; names the choice nearest to the value."""
    info, extra = _unwrap(kinds.type_info(kind))
    words = ", or ".join(_words(*_unwrap(each)) for each in _alternatives(kinds.type_info(kind)))
    if isinstance(info, kinds.LiteralType) and isinstance(value, str):
        words += did_you_mean(value.lower(), [str(choice) for choice in _choices(info, extra)])
    return words


def _unwrap(info: kinds.Type, value: object = None) -> tuple[kinds.Type, dict[str, Any]]:
    """The kind itself and what is said besides; of a list or a table that which ``value`` looks like."""
    is_table = isinstance(value, Mapping) or (isinstance(value, str) and "=" in value)
    kinds_of_it = _alternatives(info)
    info = next((one for one in kinds_of_it if isinstance(one, kinds.DictType) == is_table), kinds_of_it[0])
    if isinstance(info, kinds.Metadata):
        return info.type, info.extra or {}
    return info, {}


def _alternatives(info: kinds.Type) -> list[kinds.Type]:
    if not isinstance(info, kinds.UnionType):
        return [info]
    # "or nothing" is said by leaving the key out.
    return [one for one in info.types if not isinstance(one, kinds.NoneType)]


def _choices(info: kinds.LiteralType, extra: Mapping[str, Any]) -> list[object]:
    return [choice for choice in info.values if choice not in extra.get("refused", {})]


def _words(info: kinds.Type, extra: Mapping[str, Any]) -> str:
    match info:
        case kinds.BoolType():
            return "true or false"
        case kinds.IntType() | kinds.FloatType():
            number = "a whole number" if isinstance(info, kinds.IntType) else "a number"
            unit = {"s": " of seconds", "bytes": " of bytes"}.get(extra.get("unit", ""), "")
            times = "'10s', '5m', '30d'" if isinstance(info, kinds.IntType) else "'250ms', '10s', '5m'"
            example = {
                "s": f", or text such as {times}",
                "bytes": ", or text such as '256KiB', '4MiB'",
            }
            return f"{number}{unit}{_range(info)}{example.get(extra.get('unit', ''), '')}"
        case kinds.LiteralType():
            return "one of " + ", ".join(repr(choice) for choice in _choices(info, extra))
        case kinds.VarTupleType(item_type=item, min_length=least):
            size = f" of at least {least}" if least else ""
            return f"a list{size}, each {_words(*_unwrap(item))}"
        case kinds.DictType(value_type=item):
            return f"a table of names, each with {_words(*_unwrap(item))}"
        case kinds.StrType(min_length=least):
            return "text that is not empty" if least else "text"
        case _:
            raise TypeError(f"a setting cannot be a {info!r}")


def _range(info: kinds.IntType | kinds.FloatType) -> str:
    if info.gt is not None:
        return f" above {info.gt:g}" + ("" if info.le is None else f", at most {info.le:g}")
    if info.ge is not None and info.le is not None:
        return f" from {info.ge:g} to {info.le:g}"
    if info.ge is not None:
        return f" of at least {info.ge:g}"
    return "" if info.le is None else f" of at most {info.le:g}"


def _from_text(text: str, info: kinds.Type, extra: Mapping[str, Any]) -> object:
    match info:
        case kinds.BoolType():
            if text.strip().lower() not in _BOOLS:
                raise ValueError(text)
            return _BOOLS[text.strip().lower()]
        case kinds.IntType() | kinds.FloatType():
            if "unit" in extra:
                return _amount(text, info, extra["unit"])
            return int(text) if isinstance(info, kinds.IntType) else float(text)
        case kinds.LiteralType():
            return _choice(text.strip(), info)
        case kinds.VarTupleType(item_type=item):
            return [_from_text(part.strip(), *_unwrap(item)) for part in _parts(text)]
        case kinds.DictType(value_type=item):
            pairs = [part.partition("=") for part in _parts(text)]
            if not all(equals for _, equals, _ in pairs):
                raise ValueError(text)
            return {
                name.strip(): _from_text(value.strip(), *_unwrap(item)) for name, _, value in pairs
            }
        case _:
            return text


def _parts(text: str) -> list[str]:
    return [part for part in text.split(",") if part.strip()]


def _choice(text: str, info: kinds.LiteralType) -> object:
    """The choice this text names, in upper or lower case; the text itself if it names none."""
    return next((choice for choice in info.values if str(choice) == text.lower()), text)


def _amount(text: str, info: kinds.Type, unit: str) -> int | float:
    """Seconds or bytes from ``2.5``, ``250ms``, ``4MiB``; no suffix is the unit itself."""
    found = _AMOUNT.fullmatch(text)
    scale = _SCALES[unit].get(found[2].lower()) if found and found[2] else "1"
    if not found or scale is None:
        raise ValueError(text)
    amount = Decimal(found[1]) * Decimal(scale)
    if isinstance(info, kinds.FloatType):
        return float(amount)
    if amount != int(amount):
        raise ValueError(text)
    return int(amount)
