"""With ``market.unknown = "zero"`` old readers find a number in every old field, and nobody else notices."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from enricher.clock import MINUTE, render
from enricher.engine.effects import Effect, Insert, Publish, SetKey, Upsert
from enricher.engine.ports import Delivery, Folded, Write
from enricher.market.zeros import CHAIN_FIELDS, OPTION_FIELDS, ZEROED, with_nulls, zeroed_chain
from tests.memory import MemoryDocuments
from tests.unit.test_market_reasons import CHAINS, SPOT, START, both, legs
from tests.unit.test_market_state import OneLane

Document = dict[str, Any]
EXPIRY = "2025-06-26"
HOSTILE: dict[str, dict[str, Any]] = {
    **CHAINS,
    "of no numbers": both(open_interest=float("nan"), volume=float("inf"), iv=float("-inf")),
    "half of no numbers": {"calls": legs("CALL", iv=float("nan")), "puts": legs("PUT", ("open_interest",))},
    "of negative numbers": both(open_interest=-1, iv=-0.1),
}


def said(effects: Iterable[Effect]) -> list[tuple[str, Document]]:
    """(collection, key or channel; what is written there) of everything that is data."""
    found: list[tuple[str, Document]] = []
    for effect in effects:
        if isinstance(effect, (Insert, Upsert)):
            found.append((effect.collection, effect.document))
        elif isinstance(effect, SetKey):
            found.append((effect.key, json.loads(effect.value)))
        elif isinstance(effect, Publish):
            found.append((effect.channel, json.loads(effect.message)))
    return found


def messages(chain: Mapping[str, Any], minute: int) -> list[tuple[str, bytes]]:
    """A chain and one of another expiry, with ticks and quotes that lack what is not asked for."""
    stamp = render(START + minute * MINUTE, False)
    common = {"product": "NIFTY", "timestamp": stamp, **{k: v for k, v in chain.items() if k == "product"}}
    whole = {"expiry": EXPIRY, "spot_price": SPOT, **chain, **common}
    option = {**common, "strike": SPOT, "expiry": EXPIRY, "option_type": "CALL"}
    numbers = dict.fromkeys(OPTION_FIELDS, 0.5)
    sent: list[tuple[str, Document]] = [
        ("option_chain", whole),
        ("option_chain", {**whole, "expiry": "2025-07-31"}),
        ("option_quote", {**option, "symbol": "full", **numbers}),
        ("option_quote", {**option, "symbol": "bare", "zeroed": {"fields": ["strike"]}}),
        ("option_quote", {**option, "symbol": "null", **dict.fromkeys(OPTION_FIELDS)}),
        ("option_quote", {**option, "symbol": "half", **numbers, "open_interest": None}),
        ("underlying", {**common, "price": SPOT}),
        ("underlying", {**common, "price": SPOT + 1, "tick_id": None, "volume": None}),
        ("underlying", {**common, "price": SPOT + 2, "tick_id": 0, "volume": 5}),
        ("underlying", {**common, "price": SPOT + 3, "tick_id": "7"}),
    ]
    return [(kind, json.dumps(message).encode()) for kind, message in sent]


def session(chain: Mapping[str, Any], unknown: str, analytics: bool = True) -> OneLane:
    """A lane after two minutes of such messages."""
    product = chain.get("product", "NIFTY")
    settings = {
        "market.unknown": unknown,
        "market.analytics": analytics,
        "market.max_pain_curve": True,
        "market.history_least": 1,
    }
    lane = OneLane(product, settings)
    for minute in range(2):
        for kind, body in messages(chain, minute):
            lane.take(kind, body)
        lane.settle()
    return lane


def plain(document: Mapping[str, Any]) -> str:
    """A document as text without the zeros and what says of them that they are."""
    found = {**with_nulls(document)}
    found.pop(ZEROED, None)
    flags = found.get("flags", {})
    found["flags"] = {path: why for path, why in flags.items() if "written as 0" not in why}
    for side in ("calls", "puts"):
        if side in found:
            found[side] = [{name: leg.get(name) for name in {*leg, *OPTION_FIELDS}} for leg in found[side]]
            found[side] = [dict(sorted(leg.items())) for leg in found[side]]
    if "symbol" in found:
        found |= {name: found.get(name) for name in OPTION_FIELDS}
    if "num_ticks" not in found and "price" in found:
        found.setdefault("tick_id", None)
    text = json.dumps(found, default=str, sort_keys=True)
    return text.replace("-Infinity", "null").replace("Infinity", "null").replace("NaN", "null")


@pytest.mark.parametrize("analytics", [True, False])
@pytest.mark.parametrize("name", HOSTILE)
def test_old_fields_have_a_number_and_all_else_stays_as_it_was(name: str, analytics: bool) -> None:
    nulls = said(session(HOSTILE[name], "null", analytics).said)
    zeros = said(session(HOSTILE[name], "zero", analytics).said)
    assert [where for where, _ in zeros] == [where for where, _ in nulls]
    for (where, document), (_, expected) in zip(zeros, nulls, strict=True):
        if where.startswith("latest:option:"):
            assert plain(document) == plain(expected)
            continue
        is_chain = "pcr_oi" in document and "calls" in document
        options = [*document["calls"], *document["puts"]] if is_chain else []
        options += [document] if where == "option_quotes" else []
        numbers = [document[field] for field in CHAIN_FIELDS] if is_chain else []
        numbers += [option[field] for option in options for field in OPTION_FIELDS]
        numbers += [document["tick_id"]] if where == "underlying_ticks" else []
        if where.startswith("latest:pcr:"):
            numbers += [document["pcr_oi"], document["pcr_volume"]]
            assert document.get("flags") == expected.get("flags")
        else:
            assert plain(document) == plain(expected), where
        assert all(number is not None and number == number and abs(number) != float("inf") for number in
                   numbers if not isinstance(number, str)), where  # fmt: skip
        for field in document.get(ZEROED, {}).get("fields", ()):
            assert document[field] == 0, (where, field)
            assert not is_chain or field in document["flags"], (where, field)


def test_what_is_0_without_being_known_is_named() -> None:
    lane = session({"calls": legs("CALL"), "puts": legs("PUT", ("open_interest", "iv"))}, "zero")
    chain = json.loads(lane.keys[f"latest:chain:NIFTY:{EXPIRY}"])
    strikes = [leg["strike"] for leg in chain["puts"]]
    assert chain["zeroed"]["fields"] == ["pcr_oi", "total_put_oi", "put_buildup_otm"]
    assert chain["zeroed"]["puts"]["open_interest"] == chain["zeroed"]["puts"]["iv"] == strikes
    assert chain["zeroed"]["calls"].keys() == {"delta", "gamma", "vega", "theta"}
    assert chain["flags"]["puts.open_interest"].startswith("unknown and written as 0 at 21000, 21050")
    assert chain["flags"]["total_put_oi"] == "no leg has a known open interest"
    told = json.loads(lane.keys[f"latest:pcr:NIFTY:{EXPIRY}"])
    assert told["pcr_oi"] == 0
    assert told["flags"] == {"pcr_oi": "no known open interest of the puts"}
    quotes = {d["symbol"]: d for where, d in said(lane.said) if where == "option_quotes"}
    assert ZEROED not in quotes["full"]
    assert quotes["bare"]["zeroed"] == quotes["null"]["zeroed"] == {"fields": list(OPTION_FIELDS)}
    assert (quotes["half"]["open_interest"], quotes["half"]["zeroed"]) == (0, {"fields": ["open_interest"]})
    assert json.loads(lane.keys["latest:option:null"])["iv"] is None


def test_what_was_sent_is_left_as_it_was() -> None:
    numbers = dict.fromkeys(CHAIN_FIELDS, 2)
    sent = {"calls": [{"strike": 1, "zeroed": "mine"}], "puts": [], "flags": {}, **numbers}
    found = zeroed_chain(sent)
    assert sent["calls"] == [{"strike": 1, "zeroed": "mine"}]
    assert found["calls"] == [{"strike": 1, "zeroed": "mine", **dict.fromkeys(OPTION_FIELDS, 0)}]
    assert found["zeroed"] == {"fields": [], "calls": {name: [1] for name in OPTION_FIELDS}}
    full = {**sent, "calls": [{"strike": 1, **dict.fromkeys(OPTION_FIELDS, 3)}]}
    assert zeroed_chain(full) is full


async def reloaded(lane: OneLane, unknown: str) -> OneLane:
    """A lane of another process, which begins with what this one has stored."""
    documents = MemoryDocuments()
    await documents.commit([Write((e,)) for e in lane.said if isinstance(e, (Insert, Upsert))])
    product = lane.state.product
    wanted = {product: Delivery("", b"", START + 2 * MINUTE)}
    new = OneLane(product, {"market.unknown": unknown})
    new.state = (await new.state_store.restore(documents, wanted))[product]
    return new


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [(name, "zero", "null") for name in HOSTILE]
    + [("with null everywhere", was, "zero") for was in ("zero", "null")],
)
async def test_a_restart_takes_no_zero_for_a_value(name: str, before: str, after: str) -> None:
    chain = HOSTILE[name]
    ways = ((before, after), ("null", "null"))
    lanes = [await reloaded(session(chain, was), becomes) for was, becomes in ways]
    for lane in lanes:
        marks = [lane.take(kind, body) for kind, body in messages(chain, 1)]
        # What was taken in is known again, whatever its tick_id has become.
        assert all(isinstance(mark, Folded) for mark in marks[-4:]), marks
        for kind, body in messages({**chain, **both(open_interest=77, volume=7)}, 3)[1:]:
            lane.take(kind, body)
        lane.settle()
    found, expected = (
        [(where, plain(held)) for where, held in said(lane.said) if not where.startswith("latest:pcr:")]
        for lane in lanes
    )
    assert found == expected
