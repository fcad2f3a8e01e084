"""A connection to Redis that is spoken to directly: redis-py connects, hiredis packs and parses.

Address, TLS, users and passwords are redis-py's business. What travels afterwards would cost 5 to 17 us a
message in its pub/sub layer and about 90 us a command in its pool and timeouts, so that is done here: packed
commands go out in one write, and what has come in is parsed many replies at a time.
"""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter, TimerHandle
from collections.abc import Sequence
from typing import Any

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as Lost
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import TimeoutError as TooLate

from enricher.adapters.redis.client import is_outage
from enricher.adapters.redis.scripts import Script

_CHUNK = 256 * 1024

Part = str | bytes | int | float


def pack(*parts: Part) -> bytes:
    """One command as RESP."""
    packed: bytes = hiredis.pack_command(parts)  # type: ignore[arg-type]  # its stub says a tuple of one
    return packed


class RawConnection:
    """One connection to the server of ``client``, apart from that client's own.

    It is opened on first use, closed by any failure and by a server that refuses everybody, and opened
    again by the use after that; it never repeats a command. ``timeout`` (seconds) bounds an `execute` once
    connected (connecting has the client's own limit); None waits for ever. Replies are bytes whatever the
    client decodes. Not to be used by two tasks at once.
    """

    def __init__(self, client: Redis, *, timeout: float | None) -> None:
        self.timeout = timeout
        self._client = client
        self._connection: AbstractConnection | None = None

    async def open(self) -> None:
        """Connect if need be. Raises what redis-py raises: `RedisError`, `OSError`."""
        connection = self._connection
        # One that the server has closed while nobody spoke is no failure: there is another at once.
        if connection is not None and connection.is_connected and not self._reader.at_eof():
            return
        await self.close()
        pool: Any = self._client.connection_pool
        connection = pool.make_connection()
        await connection.connect()
        self._connection = connection
        self._reader: StreamReader = connection._reader
        self._writer: StreamWriter = connection._writer
        self._parser = hiredis.Reader(protocolError=Lost, replyError=ResponseError)

    def send(self, packed: Sequence[bytes]) -> None:
        """Write packed commands (`hiredis.pack_command`) to the open connection without waiting."""
        self._writer.writelines(packed)

    async def receive(self) -> list[Any]:
        """The replies that have come, at least one; an error reply is among them as a `ResponseError`.

        Raises `redis.exceptions.ConnectionError` when the server closes the connection.
        """
        parser = self._parser
        while True:
            chunk = await self._reader.read(_CHUNK)
            if not chunk:
                raise Lost("Connection closed by server.")
            parser.feed(chunk)
            replies = []
            while (reply := parser.gets()) is not False:
                replies.append(reply)
            if replies:
                return replies

    async def execute(self, packed: Sequence[bytes]) -> list[Any]:
        """The replies to as many packed commands, in order, errors among them. Connects if need be."""
        await self.open()
        replies: list[Any] = []
        late = None
        if self.timeout is not None:
            # An alarm that hangs up costs a tenth of a scope that cancels.
            late = asyncio.get_running_loop().call_later(self.timeout, self._writer.transport.abort)
        try:
            self.send(packed)
            while len(replies) < len(packed):
                # What a server announces unasked (RESP3, on a host's client) is nobody's reply.
                replies += [r for r in await self.receive() if not isinstance(r, hiredis.PushNotification)]
        except BaseException as error:
            # Half a conversation must not be the beginning of the next.
            await self.close()
            if isinstance(error, (Lost, OSError)) and late is not None and _rang(late):
                raise TooLate(f"no answer from Redis for {self.timeout:g} s") from error
            raise
        finally:
            if late is not None:
                late.cancel()
        for reply in replies:
            if type(reply) is ResponseError and is_outage(str(reply)):
                # After a failover the address leads to another server, and this one stays read-only.
                await self.close()
                break
        return replies

    async def call(self, *parts: Part) -> Any:
        """The reply to one command. Raises the error that it answers with."""
        (reply,) = await self.execute([pack(*parts)])
        if isinstance(reply, Exception):
            raise reply
        return reply

    async def run(self, script: Script, *calls: Sequence[Part]) -> list[Any]:
        """The replies of ``script`` to each of ``calls`` (number of keys, keys, arguments).

        All travel in one write. A server that does not know the script is given it first. Raises the first
        error among the replies.
        """
        packed = [pack("EVALSHA", script.sha, *call) for call in calls]
        replies = await self.execute(packed)
        unknown = [at for at, reply in enumerate(replies) if _knows_no_script(reply)]
        if unknown:
            load = pack("SCRIPT", "LOAD", script.text)
            loaded, *again = await self.execute([load, *(packed[at] for at in unknown)])
            if isinstance(loaded, Exception):
                raise loaded
            for at, reply in zip(unknown, again, strict=True):
                replies[at] = reply
        for reply in replies:
            if _knows_no_script(reply):
                raise NoScriptError(f"the script was not kept: {reply}")
            if isinstance(reply, Exception):
                raise reply
        return replies

    async def close(self) -> None:
        """Close the connection without waiting for the server."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


def _knows_no_script(reply: object) -> bool:
    return type(reply) is ResponseError and str(reply).startswith("NOSCRIPT")


def _rang(alarm: TimerHandle) -> bool:
    return alarm.when() <= asyncio.get_running_loop().time()
