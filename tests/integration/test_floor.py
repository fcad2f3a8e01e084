"""The yardstick does the work that it is a yardstick of: by other code it comes to the same results."""

from __future__ import annotations

import json
from typing import Any

from benchmarks.floor import tight_loop
from benchmarks.least import Least
from benchmarks.measure import null_counts, publish_all, settled
from benchmarks.servers import null_mongo, redis_server
from benchmarks.still import messages
from benchmarks.workloads import workload
from enricher.assembly import planned
from enricher.engine.ports import Delivery
from enricher.systems import load
from tests.rig import NOW_US, Rig

MIX = messages("mix", 400, products=3)


def by_the_yardstick() -> tuple[Least, dict[str, Any]]:
    """Message by message: what is stored, cached, published and kept in sorted sets, all told."""
    least = Least(analytics=True)
    told: dict[str, Any] = {"stored": {}, "keys": {}, "published": [], "members": {}}
    for message in MIX:
        least.enrich(least.decode([message], NOW_US), NOW_US)
        for name, found in least.documents.items():
            told["stored"].setdefault(name, {}).update({identity(d): d for d in found})
        told["published"] += [text for text in least.claims[2::3] if text]
        keys, members = least.settle()
        told["keys"] |= dict(zip(keys[::4], keys[1::4], strict=True))
        for key, score, new, old in zip(*(members[i::4] for i in range(4)), strict=True):
            held = told["members"].setdefault(key, {})
            held.pop(old, None)
            held[new] = float(score)
    return least, told


def identity(document: dict[str, Any]) -> tuple[Any, ...]:
    return (document["product"], document["event_us"], document.get("tick_id", document["_id"][-24:]))


def like(ours: Any, theirs: Any) -> Any:
    """Of ours, what theirs has at all."""
    return {name: like(ours[name], theirs[name]) for name in theirs} if isinstance(theirs, dict) else ours


def occasion(published: dict[str, Any]) -> tuple[Any, ...]:
    return (published["product"], published["timestamp"], published.get("expiry"))


async def by_enricher() -> Rig:
    rig = Rig(*planned(load())[0].routes)
    async with rig.engine:
        for topic, body in MIX:
            rig.engine.pool.offer(Delivery(topic, body, NOW_US))
        await rig.drained()
    return rig


async def test_caches_and_sorted_sets_hold_the_same() -> None:
    least, told = by_the_yardstick()
    shown = (await by_enricher()).shown
    assert least.bad == 0
    beyond = ("feed:health:", "latest:product:")
    assert told["keys"].keys() == {key for key in shown.keys if not key.startswith(beyond)}
    for key, value in told["keys"].items():
        ours, theirs = json.loads(shown.keys[key]), json.loads(value)
        assert like(ours, theirs) == theirs, key
    assert told["members"] == {key: dict(shown.sorted_set(key)) for key in shown.members}


async def test_the_same_is_stored_and_published() -> None:
    _, told = by_the_yardstick()
    rig = await by_enricher()
    for name, theirs in told["stored"].items():
        ours = {identity(document): document for document in rig.stored.collections[name].values()}
        assert ours.keys() == theirs.keys()
        for one, document in theirs.items():
            shared = {f: document[f] for f in document.keys() - {"_id", "timestamp", "processed_at"}}
            assert like(ours[one], shared) == shared
    published = [text for channel, text in rig.shown.published if channel != "enriched:product"]
    ours = {occasion(m): m for m in map(json.loads, published)}
    theirs = {occasion(m): m for m in map(json.loads, told["published"])}
    assert ours.keys() == theirs.keys()
    for one, message in theirs.items():
        assert like(ours[one], message) == message


def test_the_loop_lands_a_mix_on_real_servers() -> None:
    mix = workload("mix", 200)
    with (
        redis_server() as redis,
        null_mongo() as mongo,
        tight_loop(redis.url, mongo.url, "analytics") as loop,
    ):
        publish_all(redis.url, mix)
        figures = settled(loop.figures, len(mix))
        assert figures["topics"] == {"all": {"processed": len(mix), "duplicate": 0, "dead": 0}}
        assert sum(null_counts(mongo.url)["documents"].values()) == len(mix)
        publish_all(redis.url, mix)  # claimed already, so nothing is published a second time
        figures = settled(loop.figures, 2 * len(mix))
        assert figures["topics"]["all"]["duplicate"] == len(mix)
