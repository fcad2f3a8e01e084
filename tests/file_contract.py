"""What reading a file keeps to, whatever is done to the file."""

from __future__ import annotations

import gzip
import random
from pathlib import Path

from enricher.errors import EnricherError
from enricher.market.files import Options, Recorded, read

_PIECES = [b"0", b'"', b",", b"\n", b"null", b"-", b"9" * 400, b"\0", b"[" * 300, b"1970-01-01T00:00:00"]


def held_when_torn(path: Path, options: Options, count: int) -> None:
    """``count`` mutilated copies of a file are each read, or refused by an error that names the file."""
    content = path.read_bytes()
    torn = path.with_name("torn")
    chance = random.Random(content)
    for _ in range(count):
        at, to = sorted(chance.choices(range(len(content) + 1), k=2))
        torn.write_bytes(
            chance.choice(
                [
                    content[:at],
                    content[:at] + content[to:],
                    content[:at] + bytes(chance.choices(range(256), k=3)) + content[at:],
                    content[:at] + chance.choice(_PIECES) + content[to:],
                    gzip.compress(content)[: 10 + at % 30],
                ]
            )
        )
        try:
            found: list[Recorded] = list(read(torn, options))
        except EnricherError as error:
            assert "torn" in str(error)  # noqa: PT017 - either is right
        else:
            assert found
