"""PyMongo's clients without what they spend on each command, and the asyncio one on waiting for its reply.

Servers, connections, TLS, users, compression, failover and errors are PyMongo's business. Its own way to wait
for a reply makes three tasks, and `Database.command` looks for a session, a reason to try again and a
deadline that commands of ours never have: three quarters of what a small insert costs. So a connection waits
here for one future with one alarm, and a command goes from the chosen server's pool straight to it. PyMongo
encodes the documents of an insert in one call in C, as a sequence of their own behind the command.

All of this is PyMongo's inside. What it needs is checked by the tests of each sink and of each failure.
"""

from __future__ import annotations

import asyncio
from asyncio import TimerHandle
from contextlib import suppress
from typing import Any, NamedTuple

from bson.codec_options import CodecOptions
from pymongo import AsyncMongoClient
from pymongo.asynchronous.pool import AsyncConnection, Pool
from pymongo.database import Database
from pymongo.errors import ProtocolError, _OperationCancelled
from pymongo.message import _UNPACK_REPLY, _OpMsg
from pymongo.synchronous.pool import Connection
from pymongo.topology_description import TopologyDescription

# Seconds after which it is looked whether PyMongo has given up the server meanwhile, as its own way does.
_LOOK = 0.5
# Seconds after its last command in which a connection is used without a look at it.
_UNSEEN = 1.0
# Connections that a client may have at once from which on some are kept.
_ENOUGH = 32


class _Connection(AsyncConnection):
    """A connection on which one task at a time sends and waits."""

    _end: float | None
    _alarm: TimerHandle | None = None

    async def send_message(self, message: bytes, max_doc_size: int) -> None:
        """Hand ``message`` to the transport, which takes any size."""
        if max_doc_size:  # of a bulk, whose documents have to be looked at
            await super().send_message(message, max_doc_size)
            return
        try:
            await self.conn.get_conn.write(message)
        except BaseException as error:  # noqa: BLE001  it closes the connection and raises what that means
            await self._raise_connection_failure(error)

    async def receive_message(self, request_id: int | None) -> _OpMsg:
        """The reply. Raises a `ConnectionFailure`, and closes the connection, if there is none in time."""
        protocol = self.conn.get_conn
        timeout: float | None = protocol.gettimeout
        self._end = None if timeout is None else asyncio.get_running_loop().time() + timeout
        try:
            self._look()
            data, code = await protocol.read(request_id, self.max_message_size)
            if code not in _UNPACK_REPLY:
                raise ProtocolError(f"Got opcode {code!r} but expected {_UNPACK_REPLY.keys()!r}")
            return _UNPACK_REPLY[code](data)
        except BaseException as error:  # noqa: BLE001  as above
            await self._raise_connection_failure(error)
        finally:
            if self._alarm is not None:
                self._alarm.cancel()

    def _look(self) -> None:
        """Let the wait fail that is too long, or that PyMongo has given up; else look again later."""
        loop = asyncio.get_running_loop()
        left = _LOOK if self._end is None else self._end - loop.time()
        if self.cancel_context.cancelled:
            self.conn.get_conn.close(_OperationCancelled("operation cancelled"))
        elif left <= 0:
            self.conn.get_conn.close(TimeoutError("timed out"))
        else:
            self._alarm = loop.call_later(min(left, _LOOK), self._look)


class LeanPool(Pool):
    """PyMongo's pool; those of its connections that carry commands wait in our way."""

    async def connect(self, handler: Any = None) -> AsyncConnection:
        """A new connection, greeted and logged in."""
        connection = await super().connect(handler)
        if not self.is_sdam:  # a monitor has a way of its own to wait
            connection.__class__ = _Connection
        return connection


class _Held(NamedTuple):
    """A connection, what keeps it out of its pool, and what was known of the servers when it was chosen."""

    connection: Any
    checkout: Any
    servers: TopologyDescription


class Commands:
    """Commands to the primary through PyMongo's asyncio ``client``.

    A connection is kept from one command to the next: choosing a server and taking a connection out of its
    pool cost as much as the command. It is used by the rules of the pool (`_stands`), and as long as nothing
    new is known of the servers: another may be the primary by then. What fails gives it back, with why.
    """

    def __init__(self, client: AsyncMongoClient[Any], database: str, options: CodecOptions[Any]) -> None:
        self._client, self._name, self._options = client, database, options
        self._kept: list[_Held] = []
        self._closed = False

    async def run(self, command: dict[str, Any]) -> dict[str, Any]:
        """The reply to ``command``. It is never repeated; raises what `Database.command` does."""
        client, name, options = self._client, self._name, self._options
        reply: dict[str, Any]
        if client.options.timeout is not None:  # `timeoutMS` bounds all of it: PyMongo counts down
            reply = await client[name].command(command, codec_options=options)
            return reply
        held = await self._take(next(iter(command)))
        try:
            reply = await held.connection.command(name, command, codec_options=options, client=client)
        except BaseException as error:
            await held.checkout.__aexit__(type(error), error, error.__traceback__)
            raise
        if not _may_keep(held.connection):
            await held.checkout.__aexit__(None, None, None)
            return reply
        self._kept.append(held)
        if self._closed:  # while the command ran
            await self.close()
        return reply

    async def _take(self, operation: str) -> _Held:
        servers = self._client.topology_description
        while self._kept:
            held = self._kept.pop()
            stands = _stands(held.connection)
            if stands and held.servers is servers:
                return held
            if not stands:
                await held.connection.close_conn(None)
            await held.checkout.__aexit__(None, None, None)
        checkout = await self._client._conn_for_writes(None, operation)
        return _Held(await checkout.__aenter__(), checkout, servers)

    async def close(self) -> None:
        """Give back what is kept; nothing is kept any more."""
        self._closed = True
        while self._kept:
            await self._kept.pop().checkout.__aexit__(None, None, None)


class BlockingCommands:
    """The same through the client of ``database`` that blocks (motor has one inside), from any thread."""

    def __init__(self, database: Database[Any]) -> None:
        self._database = database
        self._kept: list[_Held] = []
        self._closed = False

    def run(self, command: dict[str, Any]) -> dict[str, Any]:
        """The reply to ``command``, as `Commands.run`."""
        database, client = self._database, self._database.client
        options, name = database.codec_options, database.name
        reply: dict[str, Any]
        if client.options.timeout is not None:
            reply = database.command(command, codec_options=options)
            return reply
        held = self._take(next(iter(command)))
        try:
            reply = held.connection.command(name, command, codec_options=options, client=client)
        except BaseException as error:
            held.checkout.__exit__(type(error), error, error.__traceback__)
            raise
        if not _may_keep(held.connection):
            held.checkout.__exit__(None, None, None)
            return reply
        self._kept.append(held)
        if self._closed:  # while the command ran
            self.close()
        return reply

    def _take(self, operation: str) -> _Held:
        servers = self._database.client.topology_description
        # Taking out of a list is one step, so that no two threads get the same.
        with suppress(IndexError):
            while True:
                held = self._kept.pop()
                stands = _stands(held.connection)
                if stands and held.servers is servers:
                    return held
                if not stands:
                    held.connection.close_conn(None)
                held.checkout.__exit__(None, None, None)
        checkout = self._database.client._conn_for_writes(None, operation)
        return _Held(checkout.__enter__(), checkout, servers)

    def close(self) -> None:
        """Give back what is kept; nothing is kept any more."""
        self._closed = True
        with suppress(IndexError):
            while True:
                self._kept.pop().checkout.__exit__(None, None, None)


def _may_keep(connection: AsyncConnection | Connection) -> bool:
    """Whether there are connections enough for everybody else who uses the client; it was used now."""
    connection.update_last_checkin_time()
    most: float | None = connection.opts.max_pool_size
    return not most or most >= _ENOUGH  # 0 and None are no limit


def _stands(connection: AsyncConnection | Connection) -> bool:
    """Whether a connection may be used again: as a pool does, it looks only after some time."""
    idle, most = connection.idle_time_seconds(), connection.opts.max_idle_time_seconds
    if connection.pool_gen.stale(connection.generation, connection.service_id):
        return False
    return (most is None or idle <= most) and (idle <= _UNSEEN or not connection.conn_closed())
