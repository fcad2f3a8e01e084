"""``enricher feed``: a synthetic market on the feed's channels, at a rate that is held."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import anyio
import click
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, RedisError

from enricher.adapters.redis.client import redis_client
from enricher.cli.options import SettingsOptions, for_option, settings_options
from enricher.cli.output import EverySecond, listed, say, talking_to
from enricher.cli.signals import until_signal
from enricher.clock import wall_clock
from enricher.config import Settings, redact
from enricher.engine.retry import Backoff
from enricher.errors import EnricherError
from enricher.market.feed.channels import OPTION_CHAIN, OPTION_QUOTE, UNDERLYING, Message
from enricher.market.feed.defects import Defects
from enricher.market.feed.publish import Publish, Published, publish_at_rate, redis_publisher
from enricher.market.feed.synthetic import SyntheticMarket
from enricher.market.settings import MarketSettings

OUTAGE = Backoff(base=0.05, max_delay=1.0)
KINDS = ("malformed", "missing_legs", "duplicate", "late")


class Sender:
    """Publishes, survives outages, and counts what could not be sent meanwhile.

    While the server is unreachable a feed with a rate goes on, and counts its messages in ``unsent``: they
    would be too old later. One without a rate waits.
    """

    def __init__(self, publish: Publish, *, paced: bool) -> None:
        self._publish = publish
        self._paced = paced
        self._attempt = 0
        self._try_at = 0.0
        self.sent: Counter[str] = Counter()
        self.unsent = 0

    async def __call__(self, batch: Sequence[Message]) -> None:
        """Publish ``batch``, or count it as not sent; never raises because of an outage."""
        wait = self._try_at - time.monotonic()
        if self._attempt and wait > 0.0:
            if self._paced:
                self.unsent += len(batch)
                return
            await asyncio.sleep(wait)
        try:
            await self._publish(batch)
        except (RedisError, OSError) as error:
            self._attempt += 1
            self._try_at = time.monotonic() + OUTAGE.delay(self._attempt)
            self.unsent += len(batch)
            if self._attempt == 1:
                say(f"Redis is unreachable ({type(error).__name__}: {error}); trying again")
            return
        if self._attempt:
            self._attempt = 0
            say(f"Redis is back; {self.unsent:,} messages could not be sent so far")
        self.sent.update(channel for channel, _ in batch)


def positive_or_max(expected: str) -> Callable[[str | float], float]:
    """The type of an option: a positive number; infinite for ``max``."""

    def parse(text: str | float) -> float:
        try:
            number = float("inf") if text == "max" else float(text)
        except ValueError:
            number = 0.0
        if not number > 0.0 or (text != "max" and number == float("inf")):
            raise click.BadParameter(f"{text!r}: expected {expected}")
        return number

    return parse


parse_rate = positive_or_max("a positive number of messages a second, or max")


def parse_products(text: str) -> int | tuple[str, ...]:
    """The type of an option: how many products, or their names with commas between."""
    if text.isascii() and text.isdigit():
        if not 1 <= int(text) <= 10_000:
            raise click.BadParameter(f"{text}: expected 1 to 10000 products, or their names")
        return int(text)
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names or len(set(names)) < len(names):
        raise click.BadParameter(f"{text!r}: expected a number, or different names with commas between")
    return names


def parse_defects(text: str | Defects) -> Defects:
    """The type of an option: ``malformed=0.01,late=0.02``, shares of all messages."""
    if isinstance(text, Defects):
        return text
    shares: dict[str, float] = {}
    try:
        for part in filter(None, (part.strip() for part in text.split(","))):
            name, _, share = part.partition("=")
            if name.strip() not in KINDS:
                raise ValueError(f"no defect is called {name.strip()!r}")
            shares[name.strip()] = float(share)
        return Defects(**shares)
    except ValueError as error:
        right = f"KIND=SHARE with commas between, where KIND is one of {', '.join(KINDS)}"
        raise click.BadParameter(f"{text!r}: expected {right} ({error})") from None


@click.command(
    epilog="""\b
Examples:
  enricher feed                             4 products, 500 messages a second
  enricher feed --products NIFTY,BANKNIFTY --rate 2000 --for 1m
  enricher feed --rate max --count 100000   as fast as one process can
  enricher feed --defects malformed=0.01,late=0.02

In each round a product sends a tick and six quotes, and in every fifth round a chain. The exit code is
0 after Ctrl-C.
"""
)
@click.option(
    "--products",
    type=parse_products,
    metavar="N|NAMES",
    default="4",
    show_default=True,
    help="How many, or names: A,B,C.",
)
@click.option(
    "--rate",
    type=parse_rate,
    metavar="N|max",
    default="500",
    show_default=True,
    help="Messages a second in all, or max.",
)
@click.option(
    "--chain-size",
    type=click.IntRange(1, 1000),
    default=21,
    show_default=True,
    help="Strikes of a chain, each with a call and a put.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="The same seed, the same market.")
@for_option
@click.option("--count", type=click.IntRange(min=1), help="End after so many messages.")
@click.option(
    "--defects",
    type=parse_defects,
    default="",
    metavar="KIND=SHARE,...",
    help=f"Break a share of the messages: {', '.join(KINDS)}.",
)
@settings_options
def command(
    options: SettingsOptions,
    products: int | tuple[str, ...],
    rate: float,
    chain_size: int,
    seed: int,
    seconds: float | None,
    count: int | None,
    defects: Defects,
) -> None:
    """Publish a synthetic market: ticks, quotes and chains.

    Every message carries the time at which it is published. The feed waits for Redis at the start, at most
    as long as --for says. During an outage it goes on, and counts what it could not send. A line of rates
    goes to standard error every second, totals go to standard output at the end.
    """
    settings = options.load()
    market = SyntheticMarket(products, strikes=chain_size, seed=seed, defects=defects)
    pace = None if rate == float("inf") else rate
    every = EverySecond()
    sender: Sender | None = None
    last = Published()

    def progress(done: Published) -> None:
        nonlocal last
        last = done
        if sender is not None:
            every.report(sender.sent.total(), f"sent  {sender.unsent:8,} not sent")

    async def work() -> None:
        nonlocal sender
        async with redis_client(settings.redis.url, socket_timeout=settings.redis.socket_timeout) as client:
            with anyio.move_on_after(seconds) as waiting:
                await first_answer(client, settings.redis.url)
            if waiting.cancelled_caught:
                raise EnricherError(f"Redis at {redact(settings.redis.url)} was never reachable")
            sender = Sender(redis_publisher(client), paced=pace is not None)
            messages = renamed(market.stream(wall_clock), channel_names(settings))
            await publish_at_rate(
                messages, sender, rate=pace, duration=seconds, count=count, progress=progress
            )

    with talking_to(settings.redis.url):
        until_signal(work)
    sent = sender.sent if sender is not None else Counter[str]()
    unsent = sender.unsent if sender is not None else 0
    rate = sent.total() / last.seconds if last.seconds else 0.0
    click.echo(f"Sent {sent.total():,} messages in {last.seconds:.1f} s, {rate:,.0f} /s")
    click.echo(f"By channel: {listed(sent)}; not sent: {unsent:,}; most behind schedule: {last.behind:,}")
    if spoilt := Counter({kind: market.made[kind] for kind in KINDS if market.made[kind]}):
        click.echo(f"Broken on purpose: {listed(spoilt)}")


def channel_names(settings: Settings) -> dict[str, str]:
    """The feed's usual channels -> what the settings call them."""
    section = settings.routes.get("market")
    names = (section if isinstance(section, MarketSettings) else MarketSettings()).channels
    return {UNDERLYING: names.underlying, OPTION_QUOTE: names.option_quote, OPTION_CHAIN: names.option_chain}


def renamed(messages: Iterator[Message], names: dict[str, str]) -> Iterator[Message]:
    """The messages, on the channels that ``names`` says instead."""
    if all(usual == name for usual, name in names.items()):
        return messages
    return ((names[channel], body) for channel, body in messages)


async def first_answer(client: Redis, url: str) -> None:
    """Return when the server answers, however long that takes; raises if it refuses us."""
    attempt = 0
    while True:
        try:
            await client.ping()
        except AuthenticationError:
            raise
        except (RedisError, OSError) as error:
            attempt += 1
            if attempt == 1:
                say(f"waiting for Redis at {redact(url)} ({error})")
            await asyncio.sleep(OUTAGE.delay(attempt))
        else:
            return
