"""The connection to MongoDB that is kept between commands, and when it is not."""

from __future__ import annotations

import asyncio
import socket
from copy import copy
from typing import Any

import anyio
import pymongo
import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from enricher.adapters.mongo import Driver, MongoDocuments, close_client, mongo_client
from enricher.engine.effects import Insert
from tests.contract.test_sinks import writes
from tests.rig import PATIENCE, until


async def test_a_connection_that_was_lost_while_nobody_wrote_is_replaced_without_a_word(
    documents: MongoDocuments, driver: Driver
) -> None:
    assert await documents.commit(writes(Insert("c", {"_id": 1}))) == {}
    (kept,) = documents._commands._kept
    lost: Any = kept.connection.conn.get_conn
    if driver == "motor":
        lost.shutdown(socket.SHUT_RDWR)
    else:
        lost.transport.abort()
    kept.connection.last_checkin_time -= 2
    assert await documents.commit(writes(Insert("c", {"_id": 2}))) == {}
    assert len(await documents.find("c", {})) == 2


async def test_a_server_is_chosen_anew_when_more_is_known_of_the_servers(documents: MongoDocuments) -> None:
    async def insert(number: int) -> Any:
        assert await documents.commit(writes(Insert("c", {"_id": number}))) == {}
        (kept,) = documents._commands._kept
        return kept

    first = await insert(1)
    known = documents._database.client.topology_description
    kept = documents._commands._kept[0] = first._replace(servers=known)
    assert await insert(2) is kept
    documents._commands._kept[0] = kept._replace(servers=copy(known))
    assert (await insert(3)).checkout is not kept.checkout


async def test_of_few_connections_none_is_kept_from_others(
    driver: Driver, mongo_url: str, mongo_database: str
) -> None:
    one = f"{mongo_url}{'&' if '?' in mongo_url else '/?'}maxPoolSize=1"
    client = mongo_client(one, driver=driver, timeout=PATIENCE)
    sink = MongoDocuments(client, mongo_database)
    with anyio.fail_after(PATIENCE):
        assert await sink.commit(writes(Insert("c", {"_id": 1}))) == {}
        assert len(await sink.find("c", {})) == 1
    await close_client(client)


@pytest.mark.parametrize("most", [None, 0])
async def test_a_programs_own_client_may_have_connections_without_limit(
    driver: Driver, mongo_url: str, mongo_database: str, most: int | None
) -> None:
    make: Any = AsyncIOMotorClient if driver == "motor" else pymongo.AsyncMongoClient
    client = make(mongo_url, maxPoolSize=most)
    sink = MongoDocuments(client, mongo_database)
    assert await sink.commit(writes(Insert("c", {"_id": 1}))) == {}
    assert len(sink._commands._kept) == 1
    await close_client(client)


async def test_closed_while_a_command_runs_it_keeps_no_connection(documents: MongoDocuments) -> None:
    await documents.commit(writes(Insert("c", {"_id": 0})))
    commands = documents._commands
    many = asyncio.create_task(documents.commit(writes(*(Insert("c", {"_id": n}) for n in range(1, 3000)))))
    await until(lambda: not commands._kept)
    await documents.close()
    assert await many == {}
    assert not commands._kept
    assert await documents.commit(writes(Insert("c", {"_id": 3000}))) == {}
    assert not commands._kept
