"""Documents that are BSON already.

A chain is 90 kB of objects and 24 kB of BSON. Where hundreds wait for one commit, no cache of the processor
holds their objects, and encoding them then takes twice as long as when they were made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bson
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from enricher.engine.effects import Insert


class _Encoded(RawBSONDocument):
    """A document as BSON, which the driver copies; its ``_id`` can be read without decoding."""

    __slots__ = ("_identity",)

    def __init__(self, document: Mapping[str, Any], options: CodecOptions[Any]) -> None:
        super().__init__(bson.encode(document, codec_options=options))
        self._identity = document["_id"]

    def __getitem__(self, name: str) -> Any:
        return self._identity if name == "_id" else super().__getitem__(name)


def encoded(effect: Insert, options: CodecOptions[Any]) -> Insert:
    """The effect with its document as BSON; itself where that cannot be, for the commit says why."""
    try:
        document = _Encoded(effect.document, options)
    except Exception:  # noqa: BLE001  it may hold anything
        return effect
    return Insert(effect.collection, document, effect.stored)
