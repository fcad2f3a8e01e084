"""The page about migration lists every field that can be null, and none that cannot."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given

from enricher.clock import MINUTE, SECOND, render
from enricher.dead_letters.record import encode
from enricher.market.zeros import CHAIN_FIELDS, OPTION_FIELDS, TICK_FIELDS
from tests.rig import dead_letter
from tests.unit.test_market_reasons import SPOT, START, both, enriched, legs, strips
from tests.unit.test_market_state import NOW_US, OneLane
from tests.unit.test_market_zeros import HOSTILE, said, session

PAGE = (Path(__file__).parents[2] / "docs" / "migration.md").read_text(encoding="utf-8")
PLACES = {
    "option_chains": "chain",
    "latest:chain": "chain",
    "enriched:option_chain": "chain",
    "latest:product": "product",
    "enriched:product": "product",
    "volatility_surface": "surface",
    "volatility_surfaces": "surface",
}
KEYS = re.compile(r"^(latest:[a-z]+|ohlc|volatility_surface|feed:health):")

Found = dict[str, set[str]]


class Row(msgspec.Struct, frozen=True):
    """One row of the tables: where, the fields (``.*``: all that is in it), what "zero" makes of them."""

    where: str
    fields: tuple[str, ...]
    zero: str

    def names(self, where: str, path: str) -> bool:
        return where == self.where and any(holds(field, path) for field in self.fields)


def holds(field: str, path: str) -> bool:
    """Whether a field of the table stands for this path."""
    return path == field or (field.endswith("*") and path.startswith(field[:-1]))


def rows() -> list[Row]:
    found = []
    for line in re.findall(r"^\|.*\|$", PAGE.split("## Nulls")[1].split("\n## ")[0], re.MULTILINE):
        where, fields, _, zero = [cell.strip() for cell in line.strip("|").split("|")]
        if "`" in fields:
            found.append(Row(where.strip("`"), tuple(re.findall(r"`([^`]+)`", fields)), zero.strip("`")))
    return found


def nulls(value: Any, path: str = "") -> Iterator[str]:
    """The paths of all that is null; the places of lists are left out."""
    if value is None:
        yield path
    elif isinstance(value, dict):
        for name, held in value.items():
            yield from nulls(held, f"{path}.{name}".removeprefix("."))
    elif isinstance(value, list):
        for held in value:
            yield from nulls(held, path)


def in_chain(path: str) -> str:
    return re.sub(r"^(calls|puts)\.", "legs.", path)


def note(found: Found, lane: OneLane) -> None:
    for name, document in said(lane.said):
        key = KEYS.match(name)
        where = key[1] if key else name
        found[PLACES.get(where, where)] |= {in_chain(path) for path in nulls(document)}


@cache
def what_is_null(unknown: str) -> Found:
    """{where: paths} of whatever is null in documents, caches and messages after all that can be sent."""
    found: Found = defaultdict(set)
    unheard_of = legs("CALL", note=None, **dict.fromkeys(OPTION_FIELDS))
    chains = {**HOSTILE, "with a null nobody knows": {"calls": unheard_of, "puts": []}}
    for chain in chains.values():
        for analytics in (True, False):
            lane = session(chain, unknown, analytics)
            while (due := lane.state.surface.svi.due()) is not None:
                lane._land(lane.state_store.on_time(lane.state, max(due, NOW_US)))
            note(found, lane)
    found["chain"] |= {in_chain(path) for path in nulls(enriched(both()["calls"], both()["puts"], 2))}
    ahead = {"product": "NIFTY", "price": 1, "timestamp": render(NOW_US + 30 * SECOND, False)}
    for ticks in ([ahead], [silent(0), silent(1)], [silent(0, volume=0), silent(1, volume=0)]):
        lane = OneLane("NIFTY", {"market.unknown": unknown})
        for tick in ticks:
            lane.take("underlying", json.dumps(tick).encode())
            lane.settle()
        lane._land(lane.state_store.on_time(lane.state, NOW_US + 10 * MINUTE))
        note(found, lane)
    for body in (b'{"product": null}', b"no JSON"):
        letter = dead_letter(body=body, stage="fold")
        found["dlq:enrichment"] |= set(nulls(json.loads(encode(letter))))
    return found


def silent(minute: int, **fields: Any) -> dict[str, Any]:
    return {"product": "NIFTY", "price": 1, "timestamp": render(START + minute * MINUTE, False), **fields}


def test_every_null_is_in_the_table() -> None:
    told = rows()
    missing = {
        f"{where}: {path}"
        for where, paths in what_is_null("null").items()
        for path in paths
        if not any(row.names(where, path) for row in told)
    }
    assert missing == set()


def test_every_field_of_the_table_can_be_null() -> None:
    found = what_is_null("null")
    never = {
        f"{row.where}: {field}"
        for row in rows()
        for field in row.fields
        if not any(holds(field, path) for path in found[row.where])
    }
    assert never == set()


def test_zeros_are_written_where_the_table_says_so_and_nowhere_else() -> None:
    before, after = what_is_null("null"), what_is_null("zero")
    zeroed = {(where, path) for where, paths in before.items() for path in paths - after[where]}
    told = [row for row in rows() if row.zero == "0"]
    assert {row.zero for row in rows()} == {"0", "null", "as sent"}
    for where, paths in before.items():
        for path in paths:
            assert ((where, path) in zeroed) == any(row.names(where, path) for row in told), (where, path)
    of_chains = {field for row in told if row.where == "chain" for field in row.fields}
    assert of_chains == {*CHAIN_FIELDS, *(f"legs.{name}" for name in OPTION_FIELDS)}
    of_ticks = {field for row in told if row.where == "underlying_ticks" for field in row.fields}
    assert of_ticks == {*TICK_FIELDS}


@given(strips)
def test_every_null_of_a_chain_is_in_the_table_whatever_is_sent(changes: list[Any]) -> None:
    sides = both()["calls"], both()["puts"]
    for at, put, name, value in changes:
        sides[put][at][name] = value
    told = rows()
    for path in nulls(enriched(*sides, 2, spot_price=SPOT)):
        assert any(row.names("chain", in_chain(path)) for row in told), path


@pytest.mark.parametrize("path", ["legs.bid", "legs.note", "smile.slope", "spot_price"])
def test_a_field_is_found_under_its_own_name_or_that_of_what_it_is_in(path: str) -> None:
    assert any(row.names("chain", path) for row in rows()) == (path != "spot_price")
