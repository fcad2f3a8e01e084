"""The sink of documents with each driver."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from enricher.adapters.mongo import Driver, MongoDocuments, close_client, mongo_client
from tests.rig import PATIENCE


@pytest.fixture(params=["motor", "pymongo"])
def driver(request: pytest.FixtureRequest) -> Driver:
    found: Driver = request.param
    return found


@pytest.fixture
async def documents(driver: Driver, mongo_url: str, mongo_database: str) -> AsyncIterator[MongoDocuments]:
    client = mongo_client(mongo_url, driver=driver, timeout=PATIENCE)
    yield MongoDocuments(client, mongo_database)
    await close_client(client)
