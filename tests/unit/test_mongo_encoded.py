"""What is encoded early is what would be encoded with the commit, and what cannot be is left as it is."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson.codec_options import DEFAULT_CODEC_OPTIONS
from hypothesis import given
from hypothesis import strategies as st

from enricher.adapters.mongo_encoded import encoded
from enricher.engine.effects import Insert

names = st.text(max_size=5) | st.sampled_from(["_id", "$set", "a.b", "a\0b", "\ud800", "é"])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=5),
    st.sampled_from(["\ud800", "\0", datetime(2026, 7, 1, 9, 15, 0, 123456, UTC), 2**53 + 1, 2**63, -0.0]),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=12,
)


@given(scalars, st.dictionaries(names, values, max_size=6))
def test_it_is_the_same_bson(identity: Any, fields: dict[str, Any]) -> None:
    effect = Insert("c", {**fields, "_id": identity}, list)
    made = encoded(effect, DEFAULT_CODEC_OPTIONS)
    try:
        plain = bson.encode(effect.document)
    except Exception:
        assert made is effect
    else:
        assert bson.encode(made.document) == plain
        assert (made.collection, made.stored) == ("c", list)
        assert repr(made.document["_id"]) == repr(identity)


@pytest.mark.parametrize("document", [{}, {"text": "x"}, {"_id": 1, "values": {1, 2}}])
def test_what_cannot_be_encoded_or_has_no_identity_stays_what_it_is(document: dict[str, Any]) -> None:
    effect = Insert("c", document)
    assert encoded(effect, DEFAULT_CODEC_OPTIONS) is effect
