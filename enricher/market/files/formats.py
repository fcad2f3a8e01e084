"""All formats in the order in which they are asked, and reading by what recognises a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from enricher.errors import EnricherError
from enricher.market.feed.packed import unreadable
from enricher.market.feed.recording import BadRecord, Recorded
from enricher.market.files import chain_csv, message_json, recording, redis_log, ticks_csv
from enricher.market.files.contract import Format, Notes, OptionNeeded, Options
from enricher.market.files.source import Source
from enricher.market.files.unknown import described
from enricher.market.files.vendors import VENDORS

FORMATS: tuple[Format, ...] = (
    recording.FORMAT,
    redis_log.FORMAT,
    message_json.FORMAT,
    *VENDORS,
    chain_csv.FORMAT,
    ticks_csv.FORMAT,
)


def recognise(path: Path, options: Options | None = None) -> Format:
    """What a file is, by ``options.kind`` or its content; EnricherError where that tells nothing."""
    options = options or Options()
    return _recognised(_source(path, options))[0] if options.kind is None else _by_name(options.kind)


def read(path: Path, options: Options | None = None, notes: Notes | None = None) -> Iterator[Recorded]:
    """The messages of a file, which ``options.kind`` names or its content shows.

    Raises BadRecord at the first value that cannot be read, `OptionNeeded` where the file does not say what
    is needed, EnricherError where it is of no kind that is read, or without any message.
    """
    options, notes = options or Options(), notes or Notes()
    source = _source(path, options)
    source.skip, source.doubt = notes.skip, notes.doubt
    found, why = _recognised(source) if options.kind is None else (_by_name(options.kind), "--kind")
    notes.guess(f"read as {found.title} ({why})")
    if found.read is None:
        raise EnricherError(f"{path}: this looks like {found.title} ({why}), not read: {found.missing}")
    count = 0
    try:
        for number, part in enumerate(source.documents() if found.whole else (source,)):
            if number and options.timestamp is not None:
                raise OptionNeeded(f"{path}: --time is that of one answer, and every line here is one")
            for record in found.read(part, options, notes):
                count += 1
                yield record
    except BadRecord as error:
        if options.kind is not None and (other := _other(source, found)):
            raise EnricherError(f"{error}. {other}") from error
        raise
    except unreadable() as error:
        raise EnricherError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    if not count:
        left_out = "".join(f"; {rows:,} rows left out: {reason}" for reason, rows in notes.skipped.items())
        raise EnricherError(f"{path}: there is no message in it, read as {found.title}{left_out}")


def _source(path: Path, options: Options) -> Source:
    return Source(
        path,
        encoding=options.encoding,
        delimiter=options.delimiter,
        decimal=options.decimal,
        header=options.header,
    )


def _by_name(kind: str) -> Format:
    return next(one for one in FORMATS if one.name == kind)


def _recognised(source: Source) -> tuple[Format, str]:
    if not source.first_line:
        raise EnricherError(f"{source.path}: there is nothing in it, or it is cut off within its first line")
    for one in FORMATS:
        if why := one.seen(source):
            return one, why
    raise EnricherError(f"{source.path}: {described(source)}")


def _other(source: Source, taken: Format) -> str:
    found, why = _recognised(source)
    return "" if found is taken else f"It looks like {found.title} ({why})."
