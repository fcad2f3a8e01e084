"""``post``: events from files are sent to a worker, over HTTP as any client does it."""

from __future__ import annotations

import hashlib
import hmac
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click
import msgspec

from enricher.config import Settings, redact
from enricher.config.listen import parse
from enricher.errors import EnricherError
from enricher.events.settings import EventSettings
from enricher.web.calling import connection_to

_TRIES = 6
_TIMEOUT = 60.0


class NotAccepted(EnricherError):
    """An event was refused, or nobody answered."""


class Poster:
    """Posts events to ``url``, else to where the worker of the settings listens.

    It has a token of the settings and signs where they ask for it. What is busy or away is asked again.
    """

    def __init__(self, settings: Settings, url: str = "") -> None:
        self._section = settings.section(EventSettings)
        listen = self._section.listen or settings.web.address
        if not url and not listen:
            raise click.UsageError("the settings name no address of a worker (web.listen): give --url")
        if url:
            self._where, self._path = self._connection(url)
        else:
            self._where, self._path = connection_to(parse(listen), _TIMEOUT), "/events"
        self._shown = redact(url) if url else listen

    @staticmethod
    def _connection(url: str) -> tuple[HTTPConnection, str]:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise click.UsageError(f"expected a URL such as http://127.0.0.1:8080, got {redact(url)}")
        path = parts.path.rstrip("/")
        path = path if path.endswith("/events") else f"{path}/events"
        if parts.scheme == "https":
            return HTTPSConnection(parts.hostname, parts.port, timeout=_TIMEOUT), path
        return HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT), path

    def post(self, body: bytes, key: str | None = None) -> str:
        """The id of the event once it is stored. Raises `NotAccepted`, which says what would be right."""
        headers = {"Content-Type": "application/json", **self._authorisation(body)}
        # What is sent again after no answer must be the same event. An identity in the body says so too.
        if key or not self._section.identity:
            headers["Idempotency-Key"] = key or str(uuid.uuid4())
        for attempt in range(1, _TRIES + 1):
            wait = 1.0
            try:
                self._where.request("POST", self._path, body, headers)
                answer = self._where.getresponse()
                said = answer.read()
            except (OSError, HTTPException) as error:
                self._where.close()
                problem = f"no worker answers at {self._shown}: {error or type(error).__name__}"
            else:
                if answer.status == 202:
                    return _id_in(said)
                problem = f"{answer.status} {answer.reason}: {_detail(said)}"
                if answer.status not in (429, 503):
                    break
                wait = float(answer.headers.get("Retry-After", "1"))
            if attempt < _TRIES:
                time.sleep(wait)
        raise NotAccepted(problem)

    def close(self) -> None:
        """Close the connection."""
        self._where.close()

    def _authorisation(self, body: bytes) -> Mapping[str, str]:
        found: dict[str, str] = {}
        if self._section.tokens:
            found["Authorization"] = f"Bearer {next(iter(self._section.tokens.values()))}"
        if self._section.secrets:
            secret = next(iter(self._section.secrets.values())).encode()
            stamp = str(int(time.time()))
            signature = hmac.new(secret, stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
            found |= {"X-Timestamp": stamp, "X-Signature": f"sha256={signature}"}
        return found


def bodies(files: tuple[str, ...], *, lines: bool) -> Iterator[tuple[str, bytes]]:
    """The events in these files, each with where it is; with ``lines`` one a line. ``-`` is standard input.

    Raises click.UsageError for a file that cannot be read.
    """
    for file in files:
        try:
            data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        except OSError as error:
            raise click.UsageError(f"{file}: {error.strerror}") from None
        if not lines:
            yield file, data
            continue
        for number, line in enumerate(data.splitlines(), 1):
            if line.strip():
                yield f"{file}:{number}", line


def _id_in(said: bytes) -> str:
    """The id in ``process_incoming_event started `ID` ``."""
    message: str = msgspec.json.decode(said)["message"]
    return message.split("`")[1]


def _detail(said: bytes) -> str:
    try:
        detail: Any = msgspec.json.decode(said)["detail"]
    except (msgspec.DecodeError, KeyError, TypeError):
        return said[:200].decode("utf-8", "replace")
    if isinstance(detail, str):
        return detail
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in detail)
