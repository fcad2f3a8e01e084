"""The arguments of a job as JSON, and back: ``[args, kwargs]``.

    arguments = Arguments(ImportWorker.perform)
    payload = arguments.encode((7,), {"since": date(2026, 1, 1)})     b'[[7],{"since":"2026-01-01"}]'
    args, kwargs = arguments.decode(payload)

JSON knows text, numbers, true, false, null, lists and objects. What else an argument may be is said by its
annotation: a datetime, date, UUID, Decimal, set, enum, dataclass or `msgspec.Struct` is converted there and
back.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, get_type_hints

import msgspec
from msgspec import inspect as kinds

from enricher.jobs.errors import BadArguments
from enricher.storable import MAX_DEPTH, is_text
from enricher.texts import text_of

MAX_PAYLOAD = 1_048_576
"""Bytes of a payload, unless the settings say otherwise (`jobs.max_payload`)."""

_PLAIN = (kinds.AnyType, kinds.NoneType, kinds.BoolType, kinds.IntType, kinds.FloatType, kinds.StrType)
_HOLDERS = (kinds.ListType, kinds.DictType, kinds.TypedDictType, kinds.UnionType, kinds.Metadata)
_SHOWN = 60

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode


class Arguments:
    """What `perform` takes: checks arguments against it, and makes them JSON and back."""

    def __init__(self, perform: Callable[..., Any]) -> None:
        self.signature = inspect.signature(perform)
        hints = _hints(perform)
        self._positional: list[Any] = []  # the type to convert the argument at this place to, None: as it is
        self._rest: Any = None
        self._named: dict[str, Any] = {}
        self._others: Any = None
        required: set[str] = set()
        only_positional = False
        for name, parameter in self.signature.parameters.items():
            kind = _converted_type(hints.get(name))
            if parameter.kind is parameter.VAR_POSITIONAL:
                self._rest = kind
            elif parameter.kind is parameter.VAR_KEYWORD:
                self._others = kind
            else:
                only_positional |= parameter.kind is parameter.POSITIONAL_ONLY
                if parameter.kind is not parameter.KEYWORD_ONLY:
                    self._positional.append(kind)
                if parameter.kind is not parameter.POSITIONAL_ONLY:
                    self._named[name] = kind
                if parameter.default is parameter.empty:
                    required.add(name)
        # To ask `bind` takes longer than all the rest, and most calls name all that they give.
        self._required = None if only_positional else frozenset(required)
        self._converts = any(
            kind is not None for kind in (*self._positional, self._rest, *self._named.values(), self._others)
        )

    def encode(
        self, args: Sequence[Any], kwargs: Mapping[str, Any], most: int = MAX_PAYLOAD, at: str = "$"
    ) -> bytes:
        """The payload, of at most ``most`` bytes. Raises `BadArguments`; ``at`` is where the path begins."""
        self.check(args, kwargs, at)
        payload = self._converted(args, kwargs, at) if self._converts else _strict([list(args), kwargs], at)
        if len(payload) > most:
            found = (
                f"{len(payload):,}: hand over a key of what is stored elsewhere, or raise jobs.max_payload"
            )
            raise BadArguments(at, f"arguments of at most {most:,} bytes of JSON", found)
        return payload

    def decode(self, payload: bytes) -> tuple[list[Any], dict[str, Any]]:
        """``args`` and ``kwargs`` for `perform`. Raises `BadArguments` for what does not fit it any more."""
        args, kwargs = split(payload)
        self.check(args, kwargs)
        if self._converts:
            for at, value in enumerate(args):
                args[at] = _read(value, self._kind_at(at), f"$.args[{at}]")
            for name, value in kwargs.items():
                kwargs[name] = _read(value, self._named.get(name, self._others), f"$.kwargs.{name}")
        return args, kwargs

    def check(self, args: Sequence[Any], kwargs: Mapping[str, Any], at: str = "$") -> None:
        """Raises `BadArguments` unless `perform` takes them."""
        required = self._required
        if not args and required is not None and required <= kwargs.keys() <= self._named.keys():
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            found = str(error).removeprefix("got ")
            raise BadArguments(at, f"arguments that fit perform{self.signature}", found) from None

    def by_name(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Each argument under its parameter's name, defaults included, however it was given."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments

    def _kind_at(self, at: int) -> Any:
        return self._positional[at] if at < len(self._positional) else self._rest

    def _converted(self, args: Sequence[Any], kwargs: Mapping[str, Any], at: str) -> bytes:
        plain = [
            _written(value, self._kind_at(place), f"{at}.args[{place}]") for place, value in enumerate(args)
        ]
        named = {
            name: _written(value, self._named.get(name, self._others), f"{at}.kwargs.{name}")
            for name, value in kwargs.items()
        }
        return _encode([plain, named])


def split(payload: bytes) -> tuple[list[Any], dict[str, Any]]:
    """``args`` and ``kwargs`` as plain JSON. Raises `BadArguments` for what is no such payload."""
    try:
        args, kwargs = _decode(payload)
        if isinstance(args, list) and isinstance(kwargs, dict):
            return args, kwargs
    except (msgspec.DecodeError, ValueError, TypeError, RecursionError):
        pass
    raise BadArguments("$", "a JSON array [args, kwargs]", _shown(payload))


def plain_payload(
    args: Sequence[Any], kwargs: Mapping[str, Any], most: int = MAX_PAYLOAD, at: str = "$"
) -> bytes:
    """The payload for a class that is not known here: nothing but JSON is checked. Raises `BadArguments`."""
    return _ANYTHING.encode(args, kwargs, most, at)


def _anything(*args: Any, **kwargs: Any) -> None: ...


def _strict(value: Any, at: str) -> bytes:
    """JSON that reads back as what was given. Raises `BadArguments` with the path of what would not."""
    try:
        text = _encode(value)
        if _decode(text) == value:
            return text
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.DecodeError):
        pass
    args, kwargs = value
    _refuse_others(args, f"{at}.args")
    _refuse_others(kwargs, f"{at}.kwargs")
    return _encode(value)  # tuples: they come back as lists


def _refuse_others(value: Any, path: str, depth: int = 0) -> None:
    """Raises `BadArguments` with the path of the first thing that is no JSON."""
    if depth > MAX_DEPTH:
        raise BadArguments(path, f"at most {MAX_DEPTH} levels of nesting", "more")
    if value is None or value is True or value is False:
        return
    if isinstance(value, str):
        if not is_text(value):
            raise BadArguments(path, "text", "half of a surrogate pair")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise BadArguments(path, "a number that JSON knows, or None", repr(value))
    elif isinstance(value, int):
        if not _is_kept(value):
            raise BadArguments(path, "a number of fewer digits", f"one of {value.bit_length()} bits")
    elif isinstance(value, list | tuple):
        for place, each in enumerate(value):
            _refuse_others(each, f"{path}[{place}]", depth + 1)
    elif isinstance(value, dict):
        for name, each in value.items():
            if not isinstance(name, str):
                raise BadArguments(path, "an object whose names are text", f"the name {_shown(name)}")
            if not is_text(name):
                raise BadArguments(path, "an object whose names are text", "half of a surrogate pair")
            _refuse_others(each, f"{path}.{name}", depth + 1)
    else:
        expected = (
            "JSON (text, a number, true, false, null, a list, an object) or a type that the annotation names"
        )
        raise BadArguments(path, expected, f"{type(value).__name__} {_shown(value)}")


def _is_kept(number: int) -> bool:
    try:
        return bool(_decode(_encode(number)) == number)
    except (ValueError, OverflowError):  # of thousands of digits
        return False


def _written(value: Any, kind: Any, path: str) -> Any:
    """``value`` as plain JSON, from which `_read` makes it again. Raises `BadArguments`."""
    if kind is None:
        _refuse_others(value, path)
        return value
    try:
        plain = msgspec.to_builtins(value, str_keys=True)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadArguments(path, f"{_name(kind)}", f"{_shown(value)}: {text_of(error)}") from None
    _refuse_others(plain, path)
    _read(plain, kind, path)
    return plain


def _read(value: Any, kind: Any, path: str) -> Any:
    if kind is None:
        return value
    try:
        return msgspec.convert(value, kind, str_keys=True)
    except (msgspec.ValidationError, TypeError, ValueError, RecursionError) as error:
        said, _, inside = text_of(error).partition(" - at `$")
        where = f"{path}{inside.removesuffix('`')}"
        raise BadArguments(where, _name(kind), f"{_shown(value)}: {said}") from None


def _hints(perform: Callable[..., Any]) -> dict[str, Any]:
    """The annotations as types; those that cannot be read here are left out."""
    function = inspect.unwrap(getattr(perform, "__func__", perform))
    with suppress(Exception):  # a name that only type checkers import, or anything else
        return get_type_hints(function, include_extras=True)
    found = {}
    for name, hint in getattr(function, "__annotations__", {}).items():
        with suppress(Exception):
            found[name] = eval(hint, function.__globals__) if isinstance(hint, str) else hint  # noqa: S307
    return found


def _converted_type(hint: Any) -> Any:
    """The type to convert to; None where JSON has it as it is, or where nobody knows how to convert it."""
    if hint is None or hint is inspect.Parameter.empty:
        return None
    try:
        info = kinds.type_info(hint)
        # A union that msgspec cannot tell apart, and the like, shows only here.
        msgspec.json.Decoder(hint)
    except Exception:  # noqa: BLE001  no type of ours, then JSON it has to be
        return None
    return hint if _is_converted(info) and not _is_foreign(info) else None


def _inside(info: kinds.Type) -> Iterable[kinds.Type]:
    match info:
        case kinds.Metadata(type=inner):
            return (inner,)
        case kinds.UnionType(types=types):
            return types
        case kinds.ListType(item_type=item) | kinds.VarTupleType(item_type=item):
            return (item,)
        case kinds.SetType(item_type=item) | kinds.FrozenSetType(item_type=item):
            return (item,)
        case kinds.DictType(key_type=key, value_type=value):
            return (key, value)
        case kinds.TupleType(item_types=items):
            return items
        case kinds.TypedDictType(fields=fields):
            return [each.type for each in fields]
        case _:
            return ()


def _is_converted(info: kinds.Type) -> bool:
    if isinstance(info, kinds.DictType) and not isinstance(info.key_type, kinds.StrType | kinds.AnyType):
        return True
    if isinstance(info, _HOLDERS):
        return any(_is_converted(each) for each in _inside(info))
    return not isinstance(info, (*_PLAIN, kinds.LiteralType, kinds.CustomType))


def _is_foreign(info: kinds.Type) -> bool:
    return isinstance(info, kinds.CustomType) or any(_is_foreign(each) for each in _inside(info))


def _name(kind: Any) -> str:
    if getattr(kind, "__metadata__", None) is not None:
        kind = kind.__origin__
    return kind.__name__ if isinstance(kind, type) else str(kind).replace("typing.", "")


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  it is somebody's own class
        text = object.__repr__(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


_ANYTHING = Arguments(_anything)
