"""A worker process: ``python -m benchmarks.worker REDIS_URL MONGO_URL [section.key=value ...]``."""

from __future__ import annotations

import sys

import structlog
import uvloop

from enricher import Enricher, load
from enricher.build import SECTIONS


async def main(redis_url: str, mongo_url: str, *options: str) -> None:
    """Serve until killed."""
    overrides = dict(option.split("=", 1) for option in options)
    settings = load(
        overrides={"redis.url": redis_url, "mongo.url": mongo_url, **overrides}, sections=SECTIONS
    )
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    await Enricher.from_settings(settings).run()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
