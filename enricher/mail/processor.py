"""What is done with a mail: once, read, handed to the program's own function, stored with what that returned.

    async def on_mail(mail):                # plain functions run in a thread
        return {"lang": detect(mail.text)}  # stored as `result`

A second parameter gets the context (attempt, clients). `BadMessage` from it sets the mail aside at once, any
other exception lets it be tried again by the route's policy. A mail lands once, with one result. The
function runs once per mail too, unless the process dies before that result is committed: then another runs
it again, so that what it does outside happens at least once.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import anyio
import anyio.to_thread

from enricher.clock import to_date
from enricher.engine.claims import Claims, Found, State
from enricher.engine.effects import Effect, Insert, SetClaim
from enricher.engine.isolation import apart
from enricher.engine.ports import Clock
from enricher.engine.retry import Backoff
from enricher.engine.router import Context
from enricher.engine.threads import Threads
from enricher.errors import SinkUnavailable, WrongSetting
from enricher.mail.entries import Entry
from enricher.mail.message import parse_message
from enricher.mail.models import Mail
from enricher.mail.parsed import mail_of_fields
from enricher.storable import check_storable

MailHandler = Callable[..., Any]
"""``(mail)`` or ``(mail, context)``, plain or async; what it returns is stored, so BSON must take it."""

_OUTAGE = Backoff(base=0.05, max_delay=5.0)
_BUSY = Backoff(base=0.05, max_delay=1.0, jitter="none")
# Longer messages are read in a thread: 16 KiB take a millisecond, and a hostile one some 20.
_AT_ONCE = 16 * 1024


class Processor:
    """The handler of the mail route: entry in, effects out.

    ``seen`` says what was processed; ``handler`` is the program's own; ``timeout`` (seconds, None: unlimited)
    bounds one run of it, ``threads`` how many plain ones run at once, those included that hang and that
    nobody waits for any more; ``lease`` seconds after which a mail that a dead process was at may be begun
    by others. ``threads`` are those that plain ones run in, once one has.
    """

    def __init__(
        self,
        seen: Claims,
        *,
        collection: str,
        clock: Clock,
        handler: MailHandler | None = None,
        timeout: float | None = None,
        threads: int = 16,
        lease: float = 30.0,
    ) -> None:
        self._seen = seen
        self._collection = collection
        self._clock = clock
        self._handler = handler
        self._waits = handler is not None and _is_async(handler)
        self._with_context = handler is not None and takes_context(handler)
        self._timeout = timeout
        self._most_threads = threads
        self.threads: Threads | None = None
        self._lease = lease

    async def __call__(self, entry: Entry, context: Context) -> Sequence[Effect]:
        """The effects of one mail; of one that was processed already, a claim that is taken."""
        token = uuid.uuid4().hex if self._handler is not None else ""
        try:
            # In here too, since a reservation may be made and its answer come to nobody.
            reservation = await self._begin(entry, token)
            if reservation.state is State.PROCESSED:
                return (SetClaim(reservation.key, reservation.member, self._seen.ttl),)
            mail = await read_mail(entry)
            document = mail.document()
            if self._handler is not None:
                document["result"] = await self._handled(mail, context, token)
                check_storable(document["result"], "$.result", texts_only=True)
        except BaseException as error:
            # At a stop a thread goes on, and has the mail until its reservation runs out.
            runs_on = isinstance(error, asyncio.CancelledError) and self.threads and self.threads.runs(token)
            if token and not runs_on:
                with anyio.CancelScope(shield=True), anyio.move_on_after(1), suppress(Exception):
                    await self._seen.release(entry.id, token)
            raise
        document["received_at"] = to_date(context.now_us)
        document["processed_at"] = to_date(self._clock())
        key, member = self._seen.claim(entry.id)
        return (Insert(self._collection, document), SetClaim(key, member, self._seen.ttl))

    async def _begin(self, entry: Entry, token: str) -> Found:
        """Reserve the mail, waiting out any outage, and whoever is at the same mail."""
        outages = waits = 0
        others = (entry.message_id,) if entry.message_id else ()
        while True:
            try:
                reservation = await self._seen.begin(entry.id, token, int(self._lease * 1000), others)
            except SinkUnavailable:
                outages += 1
                await anyio.sleep(_OUTAGE.delay(outages))
                continue
            if reservation.state is not State.BUSY:
                return reservation
            waits += 1
            await anyio.sleep(_BUSY.delay(waits))

    async def _handled(self, mail: Mail, context: Context, token: str) -> Any:
        """What the program's own function says; the reservation is renewed as long as it runs."""
        failed: BaseException | None = None
        result = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._keep, mail.id, token)
            try:
                result = await self._call(mail, context, token)
            except (Exception, SystemExit) as error:  # noqa: BLE001  raised below, as it is and in no group
                failed = error
            tasks.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return result

    async def _call(self, mail: Mail, context: Context, token: str) -> Any:
        assert self._handler is not None  # noqa: S101  asked by the caller
        arguments = (mail, context) if self._with_context else (mail,)
        if self._waits:
            return await apart(self._handler, *arguments, timeout=self._timeout, name=mail.id)
        if self.threads is None:
            self.threads = Threads(self._most_threads)
        result = await self.threads.run(self._handler, arguments, self._timeout, token)
        if not inspect.isawaitable(result):
            return result
        return await apart(_waited_for, result, timeout=self._timeout, name=mail.id)

    async def _keep(self, identity: str, token: str) -> None:
        while True:
            await anyio.sleep(self._lease / 3)
            with suppress(SinkUnavailable):
                await self._seen.renew(identity, token, int(self._lease * 1000))


async def read_mail(entry: Entry) -> Mail:
    """The mail of an entry. Raises `BadMessage`."""
    if entry.size <= _AT_ONCE:
        return _read(entry)
    return await anyio.to_thread.run_sync(_read, entry)


def _read(entry: Entry) -> Mail:
    if entry.raw is None:
        return mail_of_fields(entry.fields, id=entry.id, message_id=entry.message_id)
    return parse_message(entry.raw, id=entry.id, message_id=entry.message_id, fields=entry.fields)


def load_handler(name: str) -> MailHandler:
    """The function that ``module:function`` names. Raises `ConfigError`."""
    right = "module:function, such as 'shop.mails:on_mail', which this Python can import"
    module, colon, path = name.partition(":")
    if not colon or not module or not path:
        raise WrongSetting("mail.handler", name, right)
    try:
        handler: Any = importlib.import_module(module)
        for part in path.split("."):
            handler = getattr(handler, part)
    except (Exception, SystemExit) as error:
        why = f"{right} ({type(error).__name__}: {error})"
        raise WrongSetting("mail.handler", name, why) from error
    if not callable(handler):
        raise WrongSetting("mail.handler", name, f"{right}; this is a {type(handler).__name__}")
    if not takes_mail(handler):
        why = "a function of a mail, or of a mail and a context: this one cannot be called with them"
        raise WrongSetting("mail.handler", name, why)
    return handler  # type: ignore[no-any-return]


def takes_mail(handler: MailHandler) -> bool:
    """Whether a handler can be called with what it will be called with, as far as can be known."""
    try:
        inspect.signature(handler).bind(*(("mail", "context") if takes_context(handler) else ("mail",)))
    except TypeError:
        return False
    except ValueError:
        return True  # built in, without a signature
    return True


def takes_context(handler: MailHandler) -> bool:
    """Whether a handler has a second positional parameter."""
    try:
        parameters = inspect.signature(handler).parameters.values()
    except (TypeError, ValueError):
        return False
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(positional) > 1


async def _waited_for(result: Awaitable[Any]) -> Any:
    return await result


def _is_async(handler: MailHandler) -> bool:
    function = handler if inspect.isroutine(handler) else getattr(handler, "__call__", handler)  # noqa: B004
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(function)
