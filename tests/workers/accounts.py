"""Jobs with retries: one that succeeds in the end, one that never does, one that catches what it knows."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from enricher.jobs import Worker

logger = logging.getLogger(__name__)


class SyncAccountWorker(Worker):
    queue = "default"
    max_retries = 3
    retry_backoff = True
    retry_backoff_max = 1
    cron_schedule = "0 2 * * *"

    @classmethod
    def perform(cls, account_id: int, data: dict) -> dict:  # type: ignore[type-arg]
        tries = Path(data["folder"]) / f"tries-{account_id}"
        with tries.open("a") as file:
            file.write("x")
        try:
            if tries.stat().st_size <= data["failures"]:
                raise ConnectionError(f"account {account_id} cannot be reached")
        except Exception as error:
            logger.error("Failed to sync account %s: %s", account_id, error)
            raise
        return {"account": account_id, "tries": tries.stat().st_size}


class CloseAccountWorker(Worker):
    queue = "critical"
    max_retries = 1
    retry_backoff_max = 1

    @classmethod
    def perform(cls, account_id: int, folder: str) -> None:
        with (Path(folder) / f"closed-{account_id}").open("a") as file:
            file.write("x")
        raise ValueError(f"account {account_id} has a balance")


class MergeAccountsWorker(Worker):
    """Arguments without annotations, a class of its own for an error, and a part that may fail."""

    class Conflict(Exception):
        pass

    @classmethod
    def perform(cls, data):  # type: ignore[no-untyped-def]
        try:
            if data["conflict"]:
                raise cls.Conflict("two owners")
        except cls.Conflict as error:
            logger.error("Left as it is: %s", error)
            return None
        return merged(**data["accounts"])


def merged(first: str, second: str) -> dict[str, Any]:
    return {"merged": [first, second]}
