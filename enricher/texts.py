"""Text and bytes, whichever of them a client of Redis or a program hands over."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any


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
