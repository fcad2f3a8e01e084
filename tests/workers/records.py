"""Jobs over records: nested arguments, large ones in chunks, and records that are processed once."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Dict, List  # noqa: UP035

from enricher.jobs import Worker


class ProcessRecordWorker(Worker):
    queue = "default"
    max_retries = 3

    @classmethod
    def perform(cls, record_id: int, options: Dict[str, Any]) -> Dict[str, Any]:  # noqa: UP006
        began_at = datetime.now(UTC).timestamp()
        return {"record_id": record_id, "status": "completed", "began_at": began_at, "options": options}


class SumRecordsWorker(Worker):
    """Through a list in chunks, with a rest after each; two of them can only end together."""

    queue = "low"

    @classmethod
    def perform(cls, records: List[int], folder: str, name: str, other: str) -> int:  # noqa: UP006
        total, size = 0, 1000
        for start in range(0, len(records), size):
            total += sum(records[start : start + size])
            time.sleep(0.1)
        (Path(folder) / name).touch()
        while not (Path(folder) / other).exists():
            time.sleep(0.01)
        return total


class ArchiveRecordWorker(Worker):
    """Does nothing a second time."""

    @classmethod
    def perform(cls, record_id: int, folder: str) -> str:
        if is_archived(record_id, folder):
            return "skipped"
        with (Path(folder) / "archive").open("a") as archive:
            archive.write(f"{record_id}\n")
        (Path(folder) / f"archived-{record_id}").touch()
        return "archived"


class CheckRecordWorker(Worker):
    """What a test calls directly."""

    @staticmethod
    def perform(record: str) -> Dict[str, str]:  # noqa: UP006
        if record != "valid":
            raise ValueError(f"record {record!r}: expected 'valid'")
        return {"status": "success"}


def is_archived(record_id: int, folder: str) -> bool:
    return (Path(folder) / f"archived-{record_id}").exists()
