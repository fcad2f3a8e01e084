"""Whole numbers of documents as plain ones, whatever their size."""

from __future__ import annotations

from bson.codec_options import TypeDecoder, TypeRegistry
from bson.int64 import Int64


class _WholeNumber(TypeDecoder):
    bson_type = Int64

    def transform_bson(self, value: Int64) -> int:
        return int(value)


PLAIN = TypeRegistry([_WholeNumber()])
"""Reads numbers above 2^31 as int, too: neither JSON nor Redis's client knows the driver's class for them."""
