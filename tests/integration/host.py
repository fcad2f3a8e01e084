"""What a host of `enricher` has of its own in the tests: settings, a route, and a look at its documents."""

from __future__ import annotations

import json
from typing import Any

from enricher import Context, Effect, Insert, Publish, Route, SetKey, Settings, load
from tests.integration.worker import database

QUICK = {
    "redis.socket_timeout": 0.5,
    "redis.canary_interval": 0.1,
    "redis.canary_timeout": 1,
    "retry.max_delay": 0.1,
    "mongo.timeout": 1,
}


def settings_for(redis_url: str, mongo_url: str, **overrides: Any) -> Settings:
    """Settings without the market, for routes of the program's own."""
    given = {"redis.url": redis_url, "mongo.url": mongo_url, "market.enabled": False, **QUICK}
    return load(overrides={**given, **{key.replace("__", "."): value for key, value in overrides.items()}})


def greet(event: Any, context: Context) -> list[Effect]:
    """Store a greeting and say it."""
    document = {"_id": event["id"], "text": f"hello {event['name']}"}
    return [
        Insert("greetings", document),
        SetKey(f"greeting:{event['id']}", document["text"].encode(), 60_000),
        Publish("greeted", document["text"].encode()),
    ]


def numbered(number: int, **fields: Any) -> bytes:
    return json.dumps({"id": number, "name": f"n{number}", **fields}).encode()


GREETINGS = Route(topic="greetings", handler=greet)


def stored(mongo_url: str, collection: str = "greetings") -> list[Any]:
    """The ``_id``s in a collection, in order."""
    documents = database(mongo_url)
    try:
        return sorted(document["_id"] for document in documents[collection].find())
    finally:
        documents.client.close()
