"""Recordings to test with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from enricher.market.feed.recording import Recorded, RecordingWriter


def write_recording(path: Path, records: Iterable[Recorded], *, overwrite: bool = False) -> int:
    """Write ``records`` to ``path`` and return how many they were."""
    with RecordingWriter(path, overwrite=overwrite) as writer:
        for record in records:
            writer.write(record)
        return writer.count
