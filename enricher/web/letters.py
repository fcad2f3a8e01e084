"""The dead letters of every store: looked at, tried again, changed and tried again, thrown away."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from enricher.dead_letters.edits import NO_EDIT, Edit
from enricher.dead_letters.filters import EVERY, FieldFilter, LetterFilter, parse_moment
from enricher.dead_letters.record import StoredLetter
from enricher.dead_letters.replay import here, through
from enricher.dead_letters.runs import LetterRun, letters_left
from enricher.dead_letters.store import LetterStore
from enricher.engine.ports import Clock
from enricher.engine.service import Engine
from enricher.redaction import redact_text
from enricher.runs import Runs, RunStore, RunUnderWay
from enricher.web.json_lines import Line, lines
from enricher.web.requests import Refusal
from enricher.web.views import Action, Asked, Done, View

# Letters that one page looks at for those that are wanted.
_LOOKED_AT = 2_000
_AT_ONCE = 200
_PATIENCE = 30.0

Rate = Annotated[float, Meta(gt=0, le=10_000)]


class LetterQuery(msgspec.Struct, frozen=True):
    """Which letters: the number of the ``store``, parts of a letter, times such as ``2h``.

    ``after`` is the ``next`` of an earlier answer.
    """

    store: int = 0
    topic: str = ""
    stage: str = ""
    type: str = ""
    error: str = ""
    since: str = ""
    until: str = ""
    after: str = ""
    limit: Annotated[int, Meta(ge=1, le=500)] = 50


class LetterRow(msgspec.Struct, frozen=True):
    """A letter in a list; ``mark`` names it in its store."""

    mark: str
    task_id: str
    at: float | None
    topic: str
    stage: str
    type: str
    error: str
    attempts: int


class StoreRow(msgspec.Struct, frozen=True):
    """A store and how many letters it has; ``shown_as`` is the screen that has them, if not this one."""

    number: int
    name: str
    count: int
    shown_as: str


class LetterList(msgspec.Struct, frozen=True):
    """Letters, newest first; ``next`` goes on, ``looked_at`` is how many were looked at for these."""

    stores: list[StoreRow]
    letters: list[LetterRow]
    looked_at: int
    next: str
    run: LetterRun | None


class LetterDetail(msgspec.Struct, frozen=True):
    """A letter whole: its message as lines, with the place of the error marked where it says which."""

    row: LetterRow
    store: int
    place: str
    traceback: str
    first_at: float | None
    message: list[Line]
    body: str
    editable: bool


class RetryLetter(msgspec.Struct, frozen=True):
    """Another try; with ``message`` of this text instead."""

    message: str | None = None


class RetryMany(msgspec.Struct, frozen=True):
    """All that match, at ``rate`` a second."""

    store: int = 0
    topic: str = ""
    stage: str = ""
    type: str = ""
    error: str = ""
    since: str = ""
    until: str = ""
    rate: Rate = 50.0


class Letters:
    """The views of ``stores``. A message is retried by ``engine``, the newest run is kept in ``kept``."""

    def __init__(
        self, engine: Engine, stores: Sequence[LetterStore], kept: RunStore[LetterRun], clock: Clock
    ) -> None:
        self._engine = engine
        self._stores = stores
        self._clock = clock
        process = through(engine.pool.put, clock)
        left = letters_left(stores, lambda store: here(store, process, NO_EDIT, seconds=_PATIENCE))
        self.runs = Runs(kept, left, "dead letters")

    def views(self) -> list[View | Action]:
        one = "dead-letters/{store}/{mark}"
        return [
            View(
                "dead-letters",
                self.listed,
                "Dead letters of a store, newest first.",
                query=LetterQuery,
                menu="Dead letters",
                template="enricher.web:letters.html",
            ),
            View(
                one,
                self.letter,
                "A dead letter whole.",
                within="Dead letters",
                template="enricher.web:letter.html",
            ),
            View("dead-letters/run", self.run, "The newest run of retries, with its counters."),
            Action("dead-letters/retry", self.retry_all, "Retry all that match, at a pace.", body=RetryMany),
            Action("dead-letters/stop", self.stop, "Stop the run of retries."),
            Action(f"{one}/retry", self.retry, "Try the message again, or another one.", body=RetryLetter),
            Action(f"{one}/discard", self.discard, "Throw a dead letter away."),
        ]

    async def listed(self, asked: Asked[LetterQuery]) -> LetterList:
        query = asked.parameters
        store, wanted = self._store(query.store), self._filter(query)
        if query.after and not _is_mark(query.after):
            raise Refusal(422, f"the 'next' of another answer was expected, got {query.after!r:.60}")
        found: list[LetterRow] = []
        looked_at, after, more = 0, query.after, True
        while more and len(found) < query.limit and looked_at < _LOOKED_AT:
            most = _AT_ONCE if wanted != EVERY else query.limit - len(found)
            page, following = await store.page(after, most)
            more = bool(following)
            for mark, letter in page:
                looked_at, after = looked_at + 1, mark
                if wanted.matches(letter):
                    found.append(_row(mark, letter))
                    if len(found) == query.limit:
                        more = more or mark != page[-1][0]
                        break
        rows = [
            StoreRow(number, each.name, await each.count(), each.shown_as)
            for number, each in enumerate(self._stores)
        ]
        return LetterList(rows, found, looked_at, after if more else "", await self.runs.now())

    async def letter(self, asked: Asked[Any]) -> LetterDetail:
        mark, letter = asked.path["mark"], await self._letter(asked)
        path = str(letter.record.get("path") or "")
        try:
            body = letter.body.decode()
            editable = True
        except (ValueError, TypeError):
            body, editable = "", False
        message = letter.message
        return LetterDetail(
            row=_row(mark, letter),
            store=int(asked.path["store"]),
            place=path,
            traceback=redact_text(str(letter.record.get("traceback") or "")),
            first_at=None if letter.first_us is None else letter.first_us / 1e6,
            message=lines(message, path) if message is not None else [],
            body=body,
            editable=editable and letter.topic is not None,
        )

    async def run(self, _: Asked[Any]) -> LetterRun | None:
        return await self.runs.now()

    async def retry(self, asked: Asked[RetryLetter]) -> Done:
        store, letter = self._of(asked), await self._letter(asked)
        message = asked.parameters.message
        edit = NO_EDIT if message is None or message.encode() == _body(letter) else Edit(message=message)
        process = through(self._engine.pool.put, self._clock)
        outcome = await here(store, process, edit, seconds=_PATIENCE)(letter)
        if not outcome.done:
            raise Refusal(409, f"{outcome.label}: {redact_text(outcome.error)}")
        return Done(f"{letter.task_id[:8]} {outcome.label}", to="dead-letters")

    async def discard(self, asked: Asked[Any]) -> Done:
        letter = await self._letter(asked)
        if not await self._of(asked).remove(letter):
            raise Refusal(404, "it has gone already")
        return Done(f"{letter.task_id[:8]} discarded", to="dead-letters")

    async def retry_all(self, asked: Asked[RetryMany]) -> Done:
        order = asked.parameters
        self._store(order.store)
        run = LetterRun(
            id=secrets.token_hex(8),
            store=order.store,
            wanted=self._filter(order),
            rate=order.rate,
            who=asked.who,
            began_us=self._clock(),
        )
        try:
            await self.runs.begin(run)
        except RunUnderWay as error:
            raise Refusal(409, str(error)) from error
        return Done(f"All dead letters that match are tried again, {run.rate:g} a second")

    async def stop(self, asked: Asked[Any]) -> Done:
        run = await self.runs.stop(asked.who)
        return Done("no retries are under way" if run is None else f"stopped with {run.left:,} left")

    def _store(self, number: int) -> LetterStore:
        if not 0 <= number < len(self._stores) or self._stores[number].shown_as:
            raise Refusal(404, f"no store of dead letters has the number {number}")
        return self._stores[number]

    def _of(self, asked: Asked[Any]) -> LetterStore:
        number = asked.path["store"]
        return self._store(int(number) if number.isdecimal() and len(number) < 4 else -1)

    async def _letter(self, asked: Asked[Any]) -> StoredLetter:
        store, mark = self._of(asked), asked.path["mark"]
        if not _is_mark(mark):
            raise Refusal(404, "a mark of a dead letter was expected")
        letter = await store.marked(mark)
        if letter is None:
            raise Refusal(404, "this dead letter has gone: it was retried, discarded, or pushed out")
        return letter

    def _filter(self, query: LetterQuery | RetryMany) -> LetterFilter:
        now_us = self._clock()
        try:
            since, until = (parse_moment(t, now_us) if t else None for t in (query.since, query.until))
        except ValueError as error:
            raise Refusal(422, str(error)) from error
        fields = (FieldFilter("error_type", query.type),) if query.type else ()
        return LetterFilter(
            error=query.error,
            topic=query.topic,
            stage=query.stage,
            since_us=since,
            until_us=until,
            fields=fields,
        )


def _is_mark(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,19}(-[0-9]{1,19}|\.[0-9a-f]{16})", text) is not None


def _row(mark: str, letter: StoredLetter) -> LetterRow:
    return LetterRow(
        mark=mark,
        task_id=letter.task_id,
        at=None if letter.at_us is None else datetime.fromtimestamp(letter.at_us / 1e6, UTC).timestamp(),
        topic=letter.topic or "",
        stage=letter.stage,
        type=letter.error_type,
        error=redact_text(letter.error[:2000]),
        attempts=letter.attempts,
    )


def _body(letter: StoredLetter) -> bytes:
    try:
        return letter.body
    except (ValueError, TypeError):
        return b""
