"""Files as vendors hand them out, tiny and invented, and what reading them yields."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from copy import deepcopy
from itertools import cycle
from pathlib import Path
from typing import Any

from enricher.clock import event_us
from enricher.errors import EnricherError
from enricher.market.files import Notes, Options, read
from enricher.market.files.source import Source
from enricher.market.files.vendors import VENDORS
from enricher.messages.models import decode_chain, decode_quote, decode_tick
from tests.file_contract import held_when_torn

LATER = event_us("2040-01-01T00:00:00+00:00")[0]
WRONG: tuple[Any, ...] = (
    None, {}, "", -1, [], 1e300, "x", 10**30, True, "1e999", [[]], "2_5012", {"a": 1}, "2026-13-45", 0,
)  # fmt: skip
_SPOILT = 20  # members of a document
_DECODERS = {
    "market:underlying": decode_tick,
    "market:option_quote": decode_quote,
    "market:option_chain": decode_chain,
}


def written(folder: Path, content: object, name: str = "file.txt") -> Path:
    """A file with this text, or with this value as JSON."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def lines(*values: object) -> str:
    """JSON Lines."""
    return "".join(json.dumps(value) + "\n" for value in values)


def messages(path: Path, notes: Notes | None = None, **options: Any) -> list[dict[str, Any]]:
    """The messages of a file, each of them good for the feed.

    No file is of two vendors, and a wrong value anywhere in it is nothing but an error of ours.
    """
    source = Source(path)
    assert sum(one.seen(source) is not None for one in VENDORS) == 1
    found = []
    for record in read(path, Options(**options), notes):
        decoded = _DECODERS[record.topic](record.body, now_us=LATER)
        assert decoded.event_us == record.at_us, "the time of a record is that of its message"
        found.append(json.loads(record.body))
    for text in _spoilt(path.read_text()):
        other = written(path.parent, text, f"spoilt-{path.name}")
        with suppress(EnricherError):
            list(read(other, Options(**options)))
    held_when_torn(path, Options(**options), 15)
    return found


def _spoilt(text: str) -> Iterator[str]:
    """The documents with one member of one of them replaced; nothing for what is no JSON."""
    try:
        documents = [json.loads(line) for line in ([text] if text.count("\n") < 2 else text.splitlines())]
    except ValueError:
        return
    places = list(_places(documents))
    wrong = cycle(WRONG)
    for *way, last in places[:: -(-len(places) // _SPOILT)]:
        changed = holder = deepcopy(documents)
        for step in way:
            holder = holder[step]
        holder[last] = next(wrong)
        yield lines(*changed)


def _places(value: Any) -> Iterator[tuple[Any, ...]]:
    if not isinstance(value, (dict, list)):
        return
    for name, member in value.items() if isinstance(value, dict) else enumerate(value):
        yield (name,)
        yield from ((name, *rest) for rest in _places(member))


def legs(chain: dict[str, Any], *names: str) -> dict[str, list[Any]]:
    """Fields of the legs of a chain by side and strike (``C100``), null where a leg lacks one."""
    return {
        f"{side[0].upper()}{leg['strike']}": [leg.get(name) for name in names]
        for side in ("calls", "puts")
        for leg in chain[side]
    }
