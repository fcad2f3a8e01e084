"""The sink of search indices: Elasticsearch, OpenSearch, and what speaks like them, by one `_bulk` a commit.

The official client makes the connections, and is imported only when somebody searches. Requests go through
its transport: the client itself asks for a media type that servers of another major version refuse, and
refuses servers that do not call themselves Elasticsearch.

An item is versioned by whoever makes it (``version_type=external``): done again it is a conflict, which is
as good as written. Items that the server refuses are answered one by one; what says that the server is in
trouble (429, 5xx, no permission, no answer) is an outage.
"""

from __future__ import annotations

import asyncio
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlsplit

import msgspec

from enricher.config.search import SearchSettings, index_problem
from enricher.engine.effects import SEARCH, Effect, Index, Unindex
from enricher.engine.ports import Answer, Refused, Write
from enricher.errors import SinkUnavailable, WriteRefused, WrongSetting
from enricher.log import log
from enricher.redaction import parse, redact
from enricher.storable import misfit
from enricher.texts import text_of

if TYPE_CHECKING:
    from elasticsearch import AsyncElasticsearch

_JSON, _LINES = "application/json", "application/x-ndjson"
# What is asked for of a bulk's items: their outcomes, and not what is known already.
_BULK = "/_bulk?filter_path=errors,items.*.status,items.*.error"
_MAX_ID = 512
_MAX_VERSION = 2**63
_FIELD = re.compile(r"(?:field|mapping for|mapper) \[([^\]]+)\]")
_SHOWN = 1000

_encode = msgspec.json.Encoder().encode


def search_client(settings: SearchSettings) -> AsyncElasticsearch:
    """A client for the settings; nothing is connected yet. Raises `WrongSetting` without the package."""
    try:
        from elastic_transport import NodeConfig
        from elasticsearch import AsyncElasticsearch
    except ImportError as error:
        expected = "none, or the package of its client as well: pip install 'enricher[search]'"
        raise WrongSetting("search.url", redact(settings.url), expected) from error
    address = parse(settings.url)
    if address is None:
        raise WrongSetting("search.url", redact(settings.url), "an address")
    user, password = settings.user, settings.password
    if not user and address.user is not None:
        user, password = unquote(address.user), unquote(address.password or "")
    authorization = _authorization(settings.api_key, user, password)
    tls: dict[str, Any] = {}
    if address.scheme == "https":
        tls = {"verify_certs": settings.verify, "ca_certs": settings.ca_file or None, "ssl_show_warn": False}
    nodes = [
        NodeConfig(
            scheme=address.scheme,
            host=host.hostname or "",
            port=host.port or (443 if address.scheme == "https" else 9200),
            path_prefix=address.path.rstrip("/"),
            headers={"authorization": authorization} if authorization else {},
            **tls,
        )
        for host in (urlsplit(f"//{each}") for each in address.hosts.split(","))
    ]
    return AsyncElasticsearch(nodes, request_timeout=settings.timeout, max_retries=0)


def read_indices(files: Mapping[str, str]) -> dict[str, Mapping[str, Any]]:
    """The settings and mappings of indices, by name. Raises `WrongSetting` for a file that has none."""
    found: dict[str, Mapping[str, Any]] = {}
    for name, file in files.items():
        body: Any = {}
        try:
            body = msgspec.json.decode(Path(file).read_bytes()) if file else {}
            known = {"settings", "mappings", "aliases"}
            why = "" if isinstance(body, dict) and body.keys() <= known else "it has something else"
        except (OSError, ValueError) as error:
            why = text_of(error)
        if why:
            expected = f"a JSON file with an object of settings, mappings and aliases, or nothing: {why}"
            raise WrongSetting("search.indices", f"{name}={file}", expected)
        found[name] = body
    return found


def _authorization(api_key: str, user: str, password: str) -> str:
    if api_key:
        return f"ApiKey {api_key}"
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}" if user else ""


class SearchIndices:
    """Writes `Index` and `Unindex`.

    ``indices`` {name: settings and mappings} are made before anything is written, each with a template of its
    name, from which a server makes it again; those that exist are left as they are. ``timeout`` (seconds)
    bounds a request, ``max_bulk`` its bytes.
    """

    name = SEARCH
    durable = True
    derived = True

    def __init__(
        self,
        client: AsyncElasticsearch,
        indices: Mapping[str, Mapping[str, Any]],
        *,
        timeout: float,
        max_bulk: int,
        server: str = "",
    ) -> None:
        self.server = server
        self._transport = client.transport
        self._timeout = timeout
        self._max_bulk = max_bulk
        self._to_make = dict(indices)
        self._making = asyncio.Lock()

    # -- before anything is written ----------------------------------------------------------------

    async def open(self) -> None:
        """Make the indices that are missing. Raises `WrongSetting` for mappings that the server refuses."""
        async with self._making:
            for name in sorted(self._to_make):
                await self._make_template(name, self._to_make[name])
                await self._make_index(name, self._to_make[name])
                del self._to_make[name]

    async def _make_template(self, name: str, body: Mapping[str, Any]) -> None:
        path = f"/_index_template/enricher-{quote(name)}"
        template = {"index_patterns": [name], "template": body}
        await self._make("template", name, path, f"{path}?create=true", template)

    async def _make_index(self, name: str, body: Mapping[str, Any]) -> None:
        path = f"/{quote(name)}"
        status, why = await self._make("index", name, path, path, body)
        if status == 400 and "already_exists" not in why:
            expected = f"an index whose settings and mappings the server takes: {why}"
            raise WrongSetting("search.indices", name, expected)

    async def _make(
        self, what: str, name: str, path: str, to_make: str, body: Mapping[str, Any]
    ) -> tuple[int, str]:
        """Make what is missing at ``path``; the status, and why it could not be made."""
        status, _ = await self._ask("HEAD", path)
        if status == 404:
            status, reply = await self._ask("PUT", to_make, _encode(body), _JSON)
            if status < 300:
                return status, ""
            why = _reason(status, reply)
        else:
            why = f"HTTP status {status}"
        if status in (400, 401, 403):
            # Others may have made it, or be the only ones who may.
            if "already" not in why:
                log.warning("search_not_made", what=what, index=name, reason=why)
        elif status >= 300:
            raise SinkUnavailable(self.name, why)
        return status, why

    # -- writing -----------------------------------------------------------------------------------

    async def commit(self, writes: Sequence[Write]) -> Mapping[int, Answer]:
        """Write the items, as one bulk or, if they are large, as several."""
        answers: dict[int, Answer] = {}
        items: list[tuple[int, bytes]] = []
        for index, write in enumerate(writes):
            try:
                items += [(index, item(effect)) for effect in write.effects if effect.sink == SEARCH]
            except WriteRefused as error:
                answers[index] = Refused(str(error), "InvalidDocument", path=error.path)
                items = [each for each in items if each[0] != index]
        if items and self._to_make:
            await self.open()
        for bulk in bulks(items, self._max_bulk):
            for (index, _), answer in zip(bulk, await self._send(bulk), strict=True):
                if answer is not None:
                    answers.setdefault(index, answer)
        return answers

    async def _send(self, bulk: Sequence[tuple[int, bytes]]) -> Sequence[Refused | None]:
        status, reply = await self._ask("POST", _BULK, b"".join(lines for _, lines in bulk), _LINES)
        if status == 413 or (status == 400 and isinstance(reply, Mapping)):
            # Whose fault it is is found out by sending less.
            raise WriteRefused(_reason(status, reply))
        if status >= 300 or not isinstance(reply, Mapping) or "errors" not in reply:
            raise SinkUnavailable(self.name, _reason(status, reply))
        if not reply["errors"]:
            return [None] * len(bulk)
        items = reply.get("items", ())
        if len(items) != len(bulk):
            raise SinkUnavailable(self.name, f"{len(items)} answers to {len(bulk)} items of a bulk")
        return [self._answer(next(iter(each.values()))) for each in items]

    def _answer(self, found: Mapping[str, Any]) -> Refused | None:
        """What the server says of one item. Raises `SinkUnavailable` where nobody's item is to blame."""
        status = int(found.get("status", 500))
        # A conflict: it is there, or a newer one is. Not found, without an error: it was removed before.
        if status < 300 or status == 409 or (status == 404 and "error" not in found):
            return None
        reason = _reason(status, found)
        if status >= 500 or status in (401, 403, 429):
            raise SinkUnavailable(self.name, reason)
        field = _FIELD.search(reason)
        return Refused(reason, _type(found) or f"HTTP {status}", path=f"$.{field[1]}" if field else None)

    # ----------------------------------------------------------------------------------------------

    async def info(self) -> str:
        """What the server is: its name and version. Raises `SinkUnavailable`."""
        status, reply = await self._ask("GET", "/")
        version = reply.get("version") if isinstance(reply, Mapping) else None
        if status >= 300 or not isinstance(version, Mapping):
            raise SinkUnavailable(self.name, _reason(status, reply))
        return f"{version.get('distribution', 'elasticsearch')} {version.get('number', 'of unknown version')}"

    async def close(self) -> None:
        """Nothing: the client belongs to who made it."""

    async def _ask(
        self, method: str, path: str, body: bytes | None = None, kind: str = _JSON
    ) -> tuple[int, Any]:
        from elastic_transport import TransportError

        headers = {"accept": _JSON}
        if body is not None:
            headers["content-type"] = kind
        try:
            reply = await self._transport.perform_request(
                method, path, body=body, headers=headers, request_timeout=self._timeout, max_retries=0
            )
        except TransportError as error:
            reason = f"{type(error).__name__}: {str(error.message)[:_SHOWN]}"
            raise SinkUnavailable(self.name, reason) from error
        return reply.meta.status, reply.body


def bulks(items: Sequence[tuple[int, bytes]], most: int) -> Iterator[Sequence[tuple[int, bytes]]]:
    """The items in parts of at most ``most`` bytes each, or of one item."""
    begin = size = 0
    for place, (_, lines) in enumerate(items):
        if size + len(lines) > most and place > begin:
            yield items[begin:place]
            begin, size = place, 0
        size += len(lines)
    if begin < len(items):
        yield items[begin:]


def item(effect: Effect) -> bytes:
    """The lines of a bulk for one effect.

    Raises `WriteRefused` for what no server takes: of an id or version that cannot be a whole bulk would be
    refused.
    """
    if not isinstance(effect, Index | Unindex):
        raise TypeError(f"the search sink cannot write {type(effect).__name__}")
    if problem := index_problem(effect.index):
        raise WriteRefused(f"index {effect.index!r}: expected {problem}")
    id_, version = effect.id, effect.version
    if not isinstance(id_, str) or not 0 < len(id_.encode("utf-8", "replace")) <= _MAX_ID:
        raise WriteRefused(f"id {id_!r:.80}: expected a text of 1 to {_MAX_ID} bytes")
    if type(version) is not int or not 0 <= version < _MAX_VERSION:
        raise WriteRefused(f"version {version!r:.80}: expected a whole number from 0 to 2^63 - 1")
    what = {"_index": effect.index, "_id": id_, "version": version, "version_type": "external"}
    try:
        if isinstance(effect, Unindex):
            return _encode({"delete": what}) + b"\n"
        return b"%b\n%b\n" % (_encode({"index": what}), _encode(effect.document))
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        wrong = misfit(effect.document) if isinstance(effect, Index) else None
        where = f": {wrong.path}: expected {wrong.expected}, got {wrong.found}" if wrong else ""
        raise WriteRefused(f"{text_of(error)}{where}", wrong.path if wrong else None) from error


def _type(reply: Any) -> str:
    error = reply.get("error") if isinstance(reply, Mapping) else None
    return str(error.get("type", "")) if isinstance(error, Mapping) else ""


def _reason(status: int, reply: Any) -> str:
    """Why the server did not do it, in its own words."""
    error = reply.get("error") if isinstance(reply, Mapping) else reply
    words: list[str] = []
    while isinstance(error, Mapping):
        words += [str(error[name]) for name in ("type", "reason") if error.get(name)]
        error = error.get("caused_by")
    if not words and error:
        words = [str(error)]
    return ": ".join([f"HTTP status {status}", *words])[:_SHOWN]
