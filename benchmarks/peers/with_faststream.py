"""FastStream: handlers subscribed to the channels themselves (``faststream run ...with_faststream:app``)."""

from __future__ import annotations

from faststream import FastStream
from faststream.redis import RedisBroker, RedisMessage

from benchmarks.peers.landing import REDIS_URL, RESP, TOPICS, Landing

AT_ONCE = 64

# The handlers validate by themselves: apply_types=False spares the framework's second look at the arguments.
# Its own ``protocol`` is a word in its documents; redis-py's is taken from the URL.
broker = RedisBroker(f"{REDIS_URL}?protocol={RESP}", apply_types=False, logger=None)
app = FastStream(broker, logger=None)

_landings: list[Landing] = []


@app.on_startup
async def connect() -> None:
    """Clients belong to the loop that runs now."""
    _landings.append(Landing())


async def as_sent(message: RedisMessage) -> bytes:
    """Leave the decoding to the handler."""
    return message.body


@broker.subscriber(TOPICS[0], decoder=as_sent, max_workers=AT_ONCE, no_reply=True)
async def tick(body: bytes) -> None:
    """One tick."""
    await _landings[0].land(TOPICS[0], body)


@broker.subscriber(TOPICS[1], decoder=as_sent, max_workers=AT_ONCE, no_reply=True)
async def quote(body: bytes) -> None:
    """One quote."""
    await _landings[0].land(TOPICS[1], body)


@broker.subscriber(TOPICS[2], decoder=as_sent, max_workers=AT_ONCE, no_reply=True)
async def chain(body: bytes) -> None:
    """One chain."""
    await _landings[0].land(TOPICS[2], body)
