"""What is bad becomes one dead letter that says where and why; what is only odd is kept and flagged."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest

from tests.integration.test_market_contract import AT, MINUTE, NOW, SECOND, chain, leg, quote, tick
from tests.integration.worker import CHAINS, QUOTES, TICKS, Worker, encoded, iso, running
from tests.rig import Clock
from tests.servers import Urls

NAMES = {
    TICKS: "process_underlying_tick",
    QUOTES: "process_option_quote",
    CHAINS: "process_option_chain",
}


def without(message: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in message.items() if key != name}


def text(message: dict[str, Any], old: str, new: str) -> bytes:
    """A message with something in it that `json.dumps` would not write."""
    body = json.dumps(message)
    assert old in body
    return body.replace(old, new).encode()


DEEP = b'{"product": "NIFTY", "x": ' + b"[" * 70 + b"]" * 70 + b"}"
TWICE = [leg(21000, "CALL", 1, 1, 1), leg(21000, "CALL", 2, 1, 1)]
BAD: list[tuple[str, object, str, str]] = [
    (TICKS, b"\xff\xfe{}", "$", "UTF-8"),
    (TICKS, b"", "$", "JSON"),
    (TICKS, b'{"product": "NIFTY", ', "$", "JSON"),
    (TICKS, b"[1, 2]", "$", "an object"),
    (TICKS, b"null", "$", "an object"),
    (CHAINS, DEEP, "$", "levels of nesting"),
    (TICKS, b"[" * 100_000, "$", "levels of nesting"),
    (TICKS, without(tick(1.0), "price"), "$.price", "a value"),
    (TICKS, without(tick(1.0), "product"), "$.product", "a value"),
    (TICKS, without(tick(1.0), "timestamp"), "$.timestamp", "a value"),
    (TICKS, {**tick(1.0), "price": "12"}, "$.price", "a number"),
    (TICKS, {**tick(1.0), "price": None}, "$.price", "a number"),
    (TICKS, {**tick(1.0), "tick_id": 1.5}, "$.tick_id", "a whole number"),
    (TICKS, {**tick(1.0), "product": ""}, "$.product", "not empty"),
    (TICKS, {**tick(1.0), "product": 5}, "$.product", "a text"),
    (TICKS, text(tick(1.5), "1.5", "NaN"), "$.price", "a finite number"),
    (TICKS, text(tick(1.5), "1.5", "-Infinity"), "$.price", "a finite number"),
    (TICKS, text(tick(1.5), "1.5", "1e999"), "$.price", "a finite number"),
    (TICKS, text(tick(1.0, other=7.25), "7.25", "NaN"), "$.other", "a finite number"),
    (TICKS, tick(-1.0), "$.price", "not negative"),
    (TICKS, {**tick(1.0), "timestamp": "yesterday"}, "$.timestamp", "ISO 8601"),
    (TICKS, {**tick(1.0), "timestamp": 1_750_000_000}, "$.timestamp", "a text"),
    (TICKS, {**tick(1.0), "timestamp": "2025-06-15"}, "$.timestamp", "ISO 8601"),
    (TICKS, tick(1.0, NOW + 61 * SECOND), "$.timestamp", "at most 60 s ahead"),
    (QUOTES, quote(symbol=""), "$.symbol", "not empty"),
    (QUOTES, without(quote(), "option_type"), "$.option_type", "a value"),
    (QUOTES, quote(option_type="call"), "$.option_type", '"CALL" or "PUT"'),
    (QUOTES, quote(strike=-5), "$.strike", "not negative"),
    (QUOTES, quote(bid=-0.5), "$.bid", "not negative"),
    (QUOTES, quote(expiry="26-06-2025"), "$.expiry", "YYYY-MM-DD"),
    (QUOTES, quote(expiry="2025-06-31"), "$.expiry", "YYYY-MM-DD"),
    (QUOTES, text(quote(iv=0.125), "0.125", "NaN"), "$.iv", "a finite number"),
    (CHAINS, chain(spot_price=-1), "$.spot_price", "not negative"),
    (CHAINS, chain(strikes=[], calls=[], puts=[]), "$.strikes", "at least one strike"),
    (CHAINS, chain(calls=TWICE), "$.calls[1].strike", "one leg of a side at a strike"),
    (CHAINS, chain(calls=[leg(21000, "PUT", 1, 1, 1)]), "$.calls[0].option_type", '"CALL"'),
    (CHAINS, chain(calls=[leg(21000, "FUT", 1, 1, 1)]), "$.calls[0].option_type", '"CALL" or "PUT"'),
    (CHAINS, chain(puts=[leg(-5, "PUT", 1, 1, 1)]), "$.puts[0].strike", "not negative"),
    (CHAINS, chain(calls=[without(leg(5, "CALL", 1, 1, 1), "strike")]), "$.calls[0].strike", "a value"),
    (CHAINS, chain(calls=None), "$.calls", "a list"),
    (CHAINS, without(chain(), "puts"), "$.puts", "a value"),
    (CHAINS, chain(calls=[7]), "$.calls[0]", "an object"),
    (CHAINS, chain(expiry="2025-W26-4"), "$.expiry", "YYYY-MM-DD"),
]


def finite(number: str) -> float:
    """The number, or ValueError when it is none that JSON readers agree on."""
    value = float(number)
    if math.isinf(value):
        raise ValueError(number)
    return value


def body_of(letter: dict[str, Any]) -> bytes:
    """The bytes that came."""
    return letter["body"].encode() if "body" in letter else base64.b64decode(letter["body_base64"])


async def letters_of(worker: Worker, *bad: tuple[str, bytes]) -> dict[bytes, list[dict[str, Any]]]:
    """The dead letters by body, of messages that come twice each, with good ones of their product between."""
    prices = [100.0]
    await worker.send(TICKS, tick(100.0, tick_id=0))
    for number, (channel, body) in enumerate([*bad, *bad], 1):
        prices.append(100.0 + number)
        await worker.send(channel, body)
        await worker.send(TICKS, tick(prices[-1], AT + number, number))
    await worker.settled()
    assert [m["price"] for m in worker.published("underlying")] == prices
    window = await worker.cached("ohlc:NIFTY:1m")
    assert (window["open"], window["high"], window["close"]) == (100.0, prices[-1], prices[-1])
    assert window["num_ticks"] == len(worker.stored("underlying_ticks")) == len(prices)
    found: dict[bytes, list[dict[str, Any]]] = {}
    for letter in await worker.letters():
        found.setdefault(body_of(letter), []).append(letter)
    assert set(found) == {body for _, body in bad}
    for channel, body in bad:
        first, second = found[body]
        assert first["task_id"] != second["task_id"]
        assert_whole(first, channel, body)
        assert_whole(second, channel, body)
    return found


def assert_whole(letter: dict[str, Any], channel: str, body: bytes) -> None:
    """The old fields and ours; the original bytes come back."""
    assert letter["task_name"] == NAMES[channel]
    assert letter["topic"] == channel
    try:
        message = json.loads(body, parse_constant=int, parse_float=finite)  # NaN is no JSON
    except (ValueError, RecursionError):
        message = body.decode("utf-8", "replace")
    assert letter["args"] == [message]
    assert letter["attempts"] == 1
    assert letter["timestamp"] == letter["first_at"] == letter["last_at"] == iso(NOW)


async def test_a_bad_message_is_a_dead_letter_and_its_neighbours_go_through(urls: Urls) -> None:
    async with running(*urls, clock=Clock(NOW)) as worker:
        letters = await letters_of(worker, *((channel, encoded(bad)) for channel, bad, *_ in BAD))
        for _, bad, path, expected in BAD:
            for letter in letters[encoded(bad)]:
                where = (letter["stage"], letter["error_type"], letter["path"])
                assert where == ("decode", "BadMessage", path)
                assert letter["error"].startswith(f"{path}: expected ")
                assert expected in letter["error"]
        for channel in NAMES:
            assert worker.count(channel, "dead") == 2 * sum(bad[0] == channel for bad in BAD)
        assert worker.stored("option_quotes") == worker.stored("option_chains") == []


async def test_a_message_beyond_the_size_limit_is_a_dead_letter(urls: Urls) -> None:
    body = encoded(tick(1.0, padding="x" * 2000))
    async with running(*urls, {"pool.max_message_bytes": 1000}, clock=Clock(NOW)) as worker:
        for letter in (await letters_of(worker, (TICKS, body)))[body]:
            assert (letter["stage"], letter["path"]) == ("receive", "$")
            assert f"at most 1000 bytes, got {len(body)} bytes" in letter["error"]


async def test_an_unknown_topic_of_a_pattern_is_a_dead_letter(urls: Urls) -> None:
    pattern = {"market.channels.patterns": "market:*"}
    async with running(*urls, pattern, clock=Clock(NOW)) as worker:
        await worker.redis.publish("market:news", b'{"headline": "up"}')
        await worker.redis.publish("market:option_quote", encoded(quote()))
        worker.sent += 2
        await worker.settled()
        (letter,) = await worker.letters()
        assert letter["topic"] == "market:news"
        assert letter["args"] == [{"headline": "up"}]
        assert letter["error_type"] == "UnknownTopic"
        assert "market:underlying" in letter["error"]
        # Subscribed to by name and by pattern it comes twice, and is one message all the same.
        assert len(worker.stored("option_quotes")) == 1


HUGE = 2**70
REFUSED: list[tuple[str, dict[str, Any]]] = [
    (TICKS, tick(500.0, AT + SECOND, HUGE)),
    (TICKS, tick(500.0, AT + SECOND, 5, volume=HUGE)),
    (QUOTES, quote(at_us=AT + SECOND, open_interest=HUGE, iv=0.99)),
    (QUOTES, quote(at_us=AT + SECOND, nested={"deep": [HUGE]}, iv=0.99)),
    (CHAINS, chain(AT + SECOND, spot_price=9, puts=[leg(21000, "PUT", HUGE, 1, 1, iv=0.99)])),
]


@pytest.mark.parametrize(("channel", "refused"), REFUSED, ids=["tick_id", "volume", "oi", "nested", "leg"])
async def test_what_mongodb_refuses_is_a_dead_letter_of_the_commit_and_moves_nothing(
    redis_url: str, mongo_database_url: str, channel: str, refused: dict[str, Any]
) -> None:
    keys = (
        "latest:underlying:NIFTY",
        "latest:option:NIFTYCALL21500",
        "latest:chain:NIFTY:2025-06-26",
        "volatility_surface:NIFTY",
        *(f"ohlc:NIFTY:{minutes}m" for minutes in (1, 5, 15)),
    )
    settings = {"market.buildup_min_age": 0.0}
    async with running(redis_url, mongo_database_url, settings, clock=Clock(NOW + MINUTE)) as worker:
        for good_channel, good in ((TICKS, tick(100.0)), (QUOTES, quote()), (CHAINS, chain())):
            await worker.take(good_channel, good)
        shown = [await contents(worker, key) for key in keys]
        members = await worker.redis.zrange("iv_surface:NIFTY", 0, -1)
        assert None not in shown
        heard = len(worker.heard)
        await worker.take(channel, refused)
        (letter,) = await worker.letters()
        assert (letter["stage"], letter["task_name"]) == ("commit", NAMES[channel])
        assert letter["args"] == [refused]
        assert len(worker.heard) == heard
        assert [await contents(worker, key) for key in keys] == shown
        assert await worker.redis.zrange("iv_surface:NIFTY", 0, -1) == members
        # Those that come with it, and after it, find the state as if it had never been there.
        await worker.send(TICKS, tick(101.0, AT + 1, 2))
        await worker.send(channel, refused)
        await worker.send(CHAINS, chain(AT + 2 * SECOND))
        await worker.send(TICKS, tick(102.0, AT + 2, 3))
        await worker.settled()
        window = await worker.cached("ohlc:NIFTY:1m")
        assert (window["high"], window["close"], window["num_ticks"]) == (102.0, 102.0, 3)
        newest = worker.stored("option_chains")[-1]
        assert newest["buildup"]["since_us"] == AT
        surface = await worker.cached("volatility_surface:NIFTY")
        assert 0.99 not in surface["expiries"][0]["ivs"]
        assert await worker.redis.zrange("iv_surface:NIFTY", 0, -1) == members
        assert len(await worker.letters()) == 2


async def contents(worker: Worker, key: str) -> dict[str, Any] | None:
    """What a key holds, without the curves, which are fitted to the smiles when there is time."""
    held = await worker.redis.get(key)
    if held is None:
        return None
    found: dict[str, Any] = json.loads(held)
    for smile in found.get("smiles", ()):
        smile.pop("svi", None)
        smile.pop("svi_reason", None)
    return found


def chain_with(side: str, index: int, **fields: Any) -> dict[str, Any]:
    found = chain()
    found[side][index] |= fields
    return found


KEPT: list[tuple[str, object, str, dict[str, object]]] = [
    ("a missing leg", chain(puts=chain()["puts"][:2]), "puts", {"total_put_oi": 50_000}),
    ("only in strikes", chain(strikes=[21000, 21500, 22000, 22500]), "calls", {"atm_strike": 21500}),
    ("only in a leg", chain(strikes=[21000, 21500]), "strikes", {"total_call_oi": 120_000}),
    ("repeated strikes", chain(strikes=[21000, 21000, 21500, 22000]), "strikes", {"pcr_oi": 0.75}),
    ("repeated legs", chain(calls=chain()["calls"] + chain()["calls"][:1]), "calls", {"pcr_oi": 0.75}),
    (
        "negative",
        chain_with("calls", 0, open_interest=-1),
        "calls[0].open_interest",
        {"total_call_oi": 70_000},
    ),
    (
        "not a number",
        text(chain_with("calls", 1, last=123.456), "123.456", "NaN"),
        "calls[1].last",
        {"atm_straddle_price": None},
    ),
    (
        "infinite",
        text(chain_with("puts", 0, volume=123.456), "123.456", "Infinity"),
        "puts[0].volume",
        {"pcr_volume": round(110 / 60, 4)},
    ),
]


@pytest.mark.parametrize(("sent", "flag", "numbers"), [k[1:] for k in KEPT], ids=[k[0] for k in KEPT])
async def test_what_is_only_odd_is_flagged_and_kept(
    redis_url: str, mongo_database_url: str, sent: object, flag: str, numbers: dict[str, object]
) -> None:
    async with running(redis_url, mongo_database_url, clock=Clock(NOW)) as worker:
        await worker.take(CHAINS, sent)
        assert await worker.letters() == []
        (document,) = worker.stored("option_chains")
        (message,) = worker.published("option_chain")
        assert flag in document["flags"]
        for name, number in numbers.items():
            assert document[name] == message[name] == number
        original = json.loads(sent) if isinstance(sent, bytes) else sent
        assert isinstance(original, dict)
        for side in ("calls", "puts"):
            # As sent; NaN is not equal to itself, but looks the same.
            kept = list({json.dumps(one): one for one in original[side]})
            assert [json.dumps(one) for one in document[side]] == kept


async def test_a_message_a_little_ahead_of_the_clock_is_stored_and_published_and_moves_nothing(
    redis_url: str, mongo_database_url: str
) -> None:
    ahead = AT + 30 * SECOND
    async with running(redis_url, mongo_database_url, clock=Clock(AT)) as worker:
        for channel, message in (
            (TICKS, tick(100.0)),
            (TICKS, tick(999.0, ahead, 2)),
            (QUOTES, quote(at_us=ahead)),
            (CHAINS, chain(ahead)),
        ):
            await worker.take(channel, message)
        assert await worker.letters() == []
        assert [len(worker.stored(c)) for c in ("underlying_ticks", "option_quotes", "option_chains")] == [
            2,
            1,
            1,
        ]
        assert [m["price"] for m in worker.published("underlying")] == [100.0, 999.0]
        assert len(worker.published("option_chain")) == 1
        assert (await worker.cached("latest:underlying:NIFTY"))["price"] == 100.0
        assert (await worker.cached("ohlc:NIFTY:1m"))["num_ticks"] == 1
        for key in (
            "latest:option:NIFTYCALL21500",
            "latest:chain:NIFTY:2025-06-26",
            "volatility_surface:NIFTY",
        ):
            assert await worker.redis.exists(key) == 0
        assert await worker.redis.exists("iv_surface:NIFTY") == 0
