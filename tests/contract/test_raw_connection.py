"""A raw connection: replies in order, errors among them, and after a failure it begins anew."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import redis.exceptions as errors
from redis.asyncio import Redis

from enricher.adapters.redis.client import redis_client
from enricher.adapters.redis.raw_connection import RawConnection, pack
from enricher.adapters.redis.sink import RedisLive
from tests.servers import RedisProcess, redis_binaries


@pytest.fixture(params=redis_binaries())
async def client(
    request: pytest.FixtureRequest, redis_processes: dict[str, RedisProcess]
) -> AsyncIterator[Redis]:
    found = redis_client(redis_processes[request.param].url, socket_timeout=60)
    await found.flushall()
    yield found
    await found.aclose()


@pytest.fixture
async def connection(client: Redis) -> AsyncIterator[RawConnection]:
    found = RawConnection(client, timeout=60)
    yield found
    await found.close()


async def test_replies_come_in_the_order_of_the_commands_and_an_error_takes_its_place(
    connection: RawConnection,
) -> None:
    replies = await connection.execute([pack("SET", "a", 1), pack("INCR", "a", "b"), pack("GET", "a")])
    assert (replies[0], replies[2]) == (b"OK", b"1")
    assert isinstance(replies[1], errors.ResponseError)
    assert "wrong number of arguments" in str(replies[1])


async def test_large_replies_are_whole_however_many_pieces_they_come_in(connection: RawConnection) -> None:
    value = bytes(range(256)) * 8192
    replies = await connection.execute([pack("SET", "big", value), *[pack("GET", "big")] * 3])
    assert replies[1:] == [value] * 3


async def test_replies_are_bytes_whatever_the_client_decodes(client: Redis) -> None:
    options = client.connection_pool.connection_kwargs
    decoding = Redis(host=options["host"], port=options["port"], decode_responses=True, protocol=3)
    connection = RawConnection(decoding, timeout=60)
    assert await connection.execute([pack("SET", "a", "x"), pack("GET", "a")]) == [b"OK", b"x"]
    await connection.close()
    await decoding.aclose()


async def test_what_the_server_announces_unasked_is_nobodys_reply(client: Redis) -> None:
    options = client.connection_pool.connection_kwargs
    third = Redis(host=options["host"], port=options["port"], protocol=3)
    connection = RawConnection(third, timeout=60)
    await connection.execute([pack("CLIENT", "TRACKING", "ON"), pack("GET", "watched")])
    await client.set("watched", 1)  # which has the server say that what we have read is old
    assert await connection.execute([pack("GET", "watched"), pack("ECHO", "x")]) == [b"1", b"x"]
    await connection.close()
    await third.aclose()


async def test_a_server_that_does_not_answer_in_time_is_an_error_and_the_next_command_begins_anew(
    client: Redis,
) -> None:
    connection = RawConnection(client, timeout=0.2)
    await client.client_pause(600_000, all=False)
    with pytest.raises(errors.TimeoutError, match=r"0\.2 s"):
        await connection.execute([pack("SET", "late", 1)])
    await client.client_unpause()
    connection.timeout = 60
    assert await connection.execute([pack("ECHO", "mine")]) == [b"mine"]
    await connection.close()


async def test_a_connection_that_the_server_ended_while_nobody_spoke_is_replaced_without_a_word(
    client: Redis, connection: RawConnection
) -> None:
    number = (await connection.execute([pack("CLIENT", "ID")]))[0]
    await client.execute_command("CLIENT", "KILL", "ID", number)
    while any(int(each["id"]) == number for each in await client.client_list()):
        pass
    await asyncio.sleep(0.05)
    assert (await connection.execute([pack("CLIENT", "ID")]))[0] > number


async def test_what_is_no_redis_is_a_lost_connection() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    stranger = Redis(host="127.0.0.1", port=port, protocol=2)
    connection = RawConnection(stranger, timeout=60)
    with pytest.raises(errors.RedisError):
        await connection.execute([pack("PING")])
    await connection.close()
    await stranger.aclose()
    server.close()


def test_a_sink_waits_no_longer_for_a_reply_than_the_client_it_was_given() -> None:
    default = Redis().connection_pool.make_connection().socket_timeout
    assert RedisLive(Redis.from_url("redis://localhost:1"))._timeout == default
    assert RedisLive(Redis.from_url("redis://localhost:1", socket_timeout=3))._timeout == 3
