"""Text and bytes, whichever of them a client of Redis or a program hands over, and what errors say."""

from __future__ import annotations

import traceback
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from collections.abc import Mapping
from typing import Any

import msgspec

_LONGEST = 20_000  # characters of what an error says: whoever looks has enough, and so has the store


def as_text(value: Any) -> str:
    """``value`` as text that can be encoded: bytes are UTF-8, and what is none in them is escaped."""
    if isinstance(value, str) and value.isascii():
        return value
    return as_bytes(value).decode("utf-8", "backslashreplace")


def as_bytes(value: Any) -> bytes:
    """``value`` as bytes: text in UTF-8, where half a surrogate pair stands for the byte it was read from."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    try:
        return str(value).encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return str(value).encode("utf-8", "backslashreplace")


def for_json(value: Any) -> Any:
    """``value`` as JSON takes it: names and text are text, whatever they are given as.

    Bytes that are no text become ``{"base64": "..."}``.
    """
    if isinstance(value, Mapping):
        return {as_text(name): for_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [for_json(each) for each in value]
    if not isinstance(value, (str, bytes, bytearray, memoryview)):
        return value
    data = as_bytes(value)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": b64encode(data).decode("ascii")}


def from_json(value: Any) -> str | bytes:
    """What `for_json` made of text or bytes; any other value is written as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and list(value) == ["base64"]:
        try:
            return b64decode(value["base64"], validate=True)
        except (Base64Error, ValueError, TypeError):
            pass
    return msgspec.json.encode(value)


def text_of(error: BaseException) -> str:
    """What an error says, even one that cannot say it; of much only beginning and end."""
    try:
        return _shortened(str.__str__(str(error)))  # of a class of its own it may be, too
    except BaseException as worse:  # noqa: BLE001  it is somebody's own class
        return f"(its text cannot be had: {type(worse).__name__})"


def trace_of(error: BaseException) -> str:
    """Its traceback, as far as it can be written; of much only beginning and end."""
    try:
        return _shortened("".join(traceback.format_exception(error)))
    except BaseException:  # noqa: BLE001  a SyntaxError of somebody's own making is enough
        frames = "".join(traceback.format_tb(error.__traceback__))
        return f"{frames}{type(error).__name__}: {text_of(error)}\n"


def _shortened(text: str) -> str:
    if len(text) <= _LONGEST:
        return text
    half = _LONGEST // 2
    return f"{text[:half]}\n... {len(text) - 2 * half} characters left out ...\n{text[-half:]}"


def span(seconds: float) -> str:
    """A time as people say it: 90 s, 2.5 h, 30 days."""
    for unit, name in ((86_400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:,.4g} {name}"
    return f"{seconds:,.4g} s"
