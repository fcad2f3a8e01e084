"""Seeded workloads: the same kind, size and seed give the same messages, but for their timestamps.

Kinds: ``ticks``, ``quotes``, ``chains``, and ``mix``: per product one tick and six quotes, every fifth time a
chain. The products take turns message by message, each at another point of its round, so that every
stretch of a workload holds the kinds in these shares, however many products there are.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache

import orjson

from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING, Message
from enricher.market.feed.synthetic import QUOTES_PER_ROUND, ROUNDS_PER_CHAIN, SyntheticMarket, iso

KINDS = ("ticks", "quotes", "chains", "mix")

_ROUND = (UNDERLYING, *(OPTION_QUOTE,) * QUOTES_PER_ROUND)
CYCLE = {
    "ticks": (UNDERLYING,),
    "quotes": (OPTION_QUOTE,),
    "chains": (OPTION_CHAIN,),
    "mix": (*_ROUND * ROUNDS_PER_CHAIN, OPTION_CHAIN),
}
STEP_US = 100  # between two messages, where nothing else is said
_DAY_US = 86_400_000_000


def workload(
    kind: str,
    count: int,
    products: int = 8,
    strikes: int = 21,
    seed: int = 7,
    *,
    start_us: int | None = None,
    step_us: float = STEP_US,
) -> list[Message]:
    """``count`` messages as (channel, body), number i stamped with ``start_us + i * step_us`` (microseconds).

    Without ``start_us`` the last one is stamped with this moment: none lies in the future.
    """
    begin = time.time_ns() // 1000 - round(count * step_us) if start_us is None else start_us
    moments = (begin + round(number * step_us) for number in range(count))
    mark = _mark_us()
    return stamped(_made(kind, count, products, strikes, seed, mark), moments, mark)


def lazily(
    kind: str, products: int = 8, strikes: int = 21, seed: int = 7, *, clock: Callable[[], int]
) -> Iterator[Message]:
    """The same messages without end, made when they are asked for; ``clock`` gives the microseconds."""
    mark = _mark_us()
    for message in _messages(kind, products, strikes, seed, mark):
        yield from stamped((message,), (clock(),), mark)


def stamped(messages: Sequence[Message], moments: Iterable[int], mark_us: int) -> list[Message]:
    """The messages with the time they were made with, ``mark_us``, replaced by these moments, one each."""
    mark = iso(mark_us).encode()
    return [
        (topic, body.replace(mark, iso(us).encode()))
        for (topic, body), us in zip(messages, moments, strict=False)
    ]


@lru_cache(maxsize=4)
def _made(
    kind: str, count: int, products: int, strikes: int, seed: int, mark_us: int
) -> tuple[Message, ...]:
    return tuple(itertools.islice(_messages(kind, products, strikes, seed, mark_us), count))


def _messages(kind: str, products: int, strikes: int, seed: int, mark_us: int) -> Iterator[Message]:
    market = SyntheticMarket(products, strikes=strikes, seed=seed)
    make = {UNDERLYING: market.tick, OPTION_QUOTE: market.quote, OPTION_CHAIN: market.chain}
    cycle = CYCLE[kind]
    for step in itertools.count():
        for number, name in enumerate(market.products):
            channel = cycle[(step + number) % len(cycle)]
            yield channel, orjson.dumps(make[channel](name, mark_us))
            if channel == OPTION_CHAIN:
                # The market's own rounds are not used here, and its expiries take turns by them.
                market._products[name].rounds += ROUNDS_PER_CHAIN


def _mark_us() -> int:
    """The first microsecond of today, UTC: options listed then expire later than today."""
    return time.time_ns() // 1000 // _DAY_US * _DAY_US
