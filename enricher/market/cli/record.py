"""``enricher record``: what is published on channels, as JSON Lines."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import click
from redis.asyncio import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from enricher.adapters.redis.client import redis_client
from enricher.cli.options import SettingsOptions, for_option, settings_options
from enricher.cli.output import EverySecond, listed, say, talking_to
from enricher.cli.signals import until_signal
from enricher.clock import wall_clock
from enricher.config import redact
from enricher.engine.router import is_pattern
from enricher.errors import EnricherError
from enricher.market.cli.feed import OUTAGE, channel_names
from enricher.market.feed.recording import Recorded, RecordingWriter

_TURN = 256


@contextmanager
def naming(file: Path) -> Iterator[None]:
    """Turns what the operating system refuses into an error that names the file, but that it exists."""
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise EnricherError(f"{file}: {error.strerror or error}") from error


class Recorder:
    """Writes what is heard on ``channels`` (names and glob patterns) until ``limit`` messages.

    ``listened`` says whether the server ever answered.
    """

    def __init__(self, writer: RecordingWriter, channels: tuple[str, ...], limit: int | None) -> None:
        self._writer = writer
        self._names = [name for name in channels if not is_pattern(name)]
        self._patterns = [name for name in channels if is_pattern(name)]
        self._limit = limit
        self.counts: Counter[str] = Counter()
        self.gaps = 0
        self.listened = False

    async def run(self, client: Redis) -> None:
        """Record until there is enough, over any number of connections."""
        attempt = 0
        while True:
            try:
                async with client.pubsub() as pubsub:
                    if self._names:
                        await pubsub.subscribe(*self._names)
                    if self._patterns:
                        await pubsub.psubscribe(*self._patterns)
                    if attempt and self.listened:
                        self.gaps += 1
                        say("Redis answers; messages published meanwhile are not in the recording")
                    attempt, self.listened = 0, True
                    await self._listen(pubsub)
                    return
            except (AuthenticationError, NoPermissionError):
                raise
            except (RedisError, OSError) as error:
                attempt += 1
                if attempt == 1:
                    say(f"Redis is unreachable ({type(error).__name__}: {error}); trying again")
                await asyncio.sleep(OUTAGE.delay(attempt))

    async def _listen(self, pubsub: object) -> None:
        get = pubsub.get_message  # type: ignore[attr-defined]
        since = 0
        while self._limit is None or self._writer.count < self._limit:
            message = await get(timeout=None)
            if message is None or message["type"] not in ("message", "pmessage"):
                continue
            topic = message["channel"].decode("utf-8", "backslashreplace")
            self._write(Recorded(wall_clock(), topic, message["data"]))
            since += 1
            if since % _TURN == 0:
                # A flood is read from the buffer without ever waiting; signals need a turn.
                await asyncio.sleep(0)

    def _write(self, record: Recorded) -> None:
        with naming(self._writer.path):
            self._writer.write(record)
        self.counts[record.topic] += 1

    async def report(self) -> None:
        """Once a second: hand the lines to the operating system and say how many there are."""
        every = EverySecond()
        while True:
            await asyncio.sleep(1.0)
            with naming(self._writer.path):
                self._writer.flush()
            every.report(self._writer.count, "recorded")


@click.command(
    epilog="""\b
Examples:
  enricher record today.jsonl        the market's channels, until Ctrl-C
  enricher record ticks.jsonl market:underlying --for 5m
  enricher record all.jsonl.gz 'market:*' 'enriched:*' --count 10000
"""
)
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("channels", nargs=-1)
@for_option
@click.option("--count", type=click.IntRange(min=1), help="End after so many messages.")
@click.option("--overwrite", is_flag=True, help="Replace the file if there is one.")
@settings_options
def command(
    options: SettingsOptions,
    file: Path,
    channels: tuple[str, ...],
    seconds: float | None,
    count: int | None,
    overwrite: bool,
) -> None:
    """Write what is published on CHANNELS to FILE, one JSON object a line.

    CHANNELS are names or glob patterns [default: the three market channels]. The suffix of FILE sets the
    compression: .gz, .zst (needs the extra zstd), or none. `enricher replay` publishes the file again.
    Ctrl-C and SIGTERM end it; the file then has whole lines only.
    """
    settings = options.load()
    wanted = channels or tuple(channel_names(settings).values())
    try:
        with naming(file):
            writer = RecordingWriter(file, overwrite=overwrite)
    except FileExistsError:
        raise EnricherError(f"{file} exists; choose another name or give --overwrite") from None
    with naming(file), writer:
        recorder = Recorder(writer, wanted, count)

        async def work() -> None:
            client = redis_client(settings.redis.url, socket_timeout=None)
            async with client, anyio.create_task_group() as tasks:
                tasks.start_soon(recorder.report)
                with anyio.move_on_after(seconds):
                    await recorder.run(client)
                tasks.cancel_scope.cancel()

        say(f"recording {', '.join(wanted)} to {file}")
        with talking_to(settings.redis.url):
            until_signal(work)
    if not recorder.listened:
        if not overwrite:
            # Ours, and empty: the next try may have the name.
            file.unlink(missing_ok=True)
        raise EnricherError(f"Redis at {redact(settings.redis.url)} was never reachable: nothing recorded")
    gaps = f"; connection lost {recorder.gaps} times" if recorder.gaps else ""
    click.echo(f"Recorded {writer.count:,} messages to {file}: {listed(recorder.counts)}{gaps}")
