"""Requests that nobody sends by accident, each with the statuses that may answer it.

for request in REQUESTS: ...        # of one event, ``Ticket`` with ``text``, ``urgent`` and ``more``
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

MIB = 1_048_576
PATIENCE = 60.0


class Hostile(NamedTuple):
    """``parts`` are sent one after the other; one of ``statuses`` answers, or with 0 nothing does."""

    name: str
    parts: Sequence[bytes]
    statuses: tuple[int, ...]


def head(line: str = "POST /events HTTP/1.1", *headers: str) -> bytes:
    """A request line and headers."""
    return "".join(f"{each}\r\n" for each in (line, "Host: x", *headers)).encode("latin-1") + b"\r\n"


def post(body: bytes, *headers: str) -> bytes:
    """A whole POST."""
    return head("POST /events HTTP/1.1", f"Content-Length: {len(body)}", *headers) + body


def ticket(**more: object) -> bytes:
    """A body that is right, but for what is said."""
    return json.dumps({"text": "hello", **more}).encode()


def bodies() -> Iterator[tuple[str, bytes]]:
    """Bodies that are no event."""
    for value in (None, 7, 7.5, True, [], {}, ["x"], {"x": 1}):
        yield f"text {value!r}", json.dumps({"text": value}).encode()
        if value is not True:
            yield f"urgent {value!r}", ticket(urgent=value)
        yield f"whole {value!r}", json.dumps(value).encode()
    for number in (
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "01",
        "+1",
        ".5",
        "1.",
        "0x10",
        "--1",
        "1e",
        "1_0",
    ):
        yield f"number {number}", b'{"text": "x", "more": %s}' % number.encode()
    for number in ("9" * 30, "9" * 5_000, "-" + "9" * 400_000, "1" + "0" * 100 + "e9"):
        yield f"number of {len(number)} digits", b'{"text": "x", "urgent": %s}' % number.encode()
    for depth in (101, 1_000, 10_000, 400_000):
        yield f"lists {depth} deep", b'{"text": "x", "more": ' + b"[" * depth + b"]" * depth + b"}"
        yield f"unclosed {depth} deep", b'{"text": "x", "more": ' + b"[" * depth
        objects = b'{"a":' * depth + b"1" + b"}" * depth
        yield f"objects {depth} deep", (b'{"text": "x", "more": ' + objects + b"}")[: MIB - 1]
    for key in ("text", "urgent", "type", "", "$where", "a.b"):
        yield f"{key!r} twice", b'{"text": "x", "more": {"%s": 1, "%s": 2}}' % (key.encode(), key.encode())
    yield "a key twice", b'{"text": "x", "text": "y"}'
    yield "a key twice, once escaped", b'{"text": "x", "t\\u0065xt": "y"}'
    yield "a key 10,000 times", b'{"text": "x"' + b', "text": "x"' * 10_000 + b"}"
    yield "a name with NUL", b'{"text": "x", "more": {"a\\u0000b": 1}}'
    for text in (
        b"\\ud800",
        b"\\udc00\\ud800",
        b"\\x41",
        b"\\",
        b"\\u12",
        b"\x00",
        b"\n",
        b"\xff",
        b"\xc0\xaf",
    ):
        yield f"text {text!r}", b'{"text": "' + text + b'"}'
    for encoding in ("utf-16", "utf-32", "utf-16-le", "utf-8-sig", "cp037"):
        yield f"in {encoding}", '{"text": "ü"}'.encode(encoding)
    yield "latin-1", '{"text": "ü"}'.encode("latin-1")
    yield "gzip", b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03\xabV*I\xad(Q\xb2RP\xaaP\xaa\x05\x00"
    yield "a form", b"text=hello&urgent=1"
    yield "XML", b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><text>&a;</text>'
    yield "two documents", b'{"text": "x"}{"text": "y"}'
    yield "more after it", b'{"text": "x"} garbage'
    for cut in (
        b"",
        b"{",
        b'{"text',
        b'{"text"',
        b'{"text":',
        b'{"text": "x',
        b'{"text": "x",}',
        b"{text: 1}",
    ):
        yield f"cut {cut!r}", cut
    yield "quotes of one mark", b"{'text': 'x'}"
    yield "a comment", b'{"text": "x" /* no */}'
    yield "spaces", b" " * 100_000
    yield "NULs", b"\x00" * 100_000
    yield "1 MiB of text in place of a flag", ticket(urgent="y" * (MIB - 100))
    yield "a name of 1 MiB", b'{"' + b"k" * (MIB - 20) + b'": 1}'
    yield "100,000 wrong values", b'{"text": [' + b"0," * 100_000 + b'0], "urgent": []}'


def requests() -> Iterator[Hostile]:
    """Whole requests that are wrong before anybody looks at the body, or whose body is long or slow."""
    right = ticket()
    yield Hostile("a body of 3 MiB", [post(b'{"text": "' + b"x" * 3 * MIB + b'"}')], (413,))
    chunked = head("POST /events HTTP/1.1", "Transfer-Encoding: chunked")
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    yield Hostile("3 MiB in chunks", [chunked, *[chunk] * 48, b"0\r\n\r\n"], (413, 0))
    for size in ("-1", "zz", "FFFFFFFFFFFFFFFFF", "1;" + "x" * 200_000, " 5", "0x5", ""):
        yield Hostile(
            f"a chunk of {size[:20]!r}", [chunked + f"{size}\r\nhello\r\n0\r\n\r\n".encode()], (400, 422, 431)
        )
    yield Hostile("a chunk longer than it says", [chunked + b"2\r\nhello\r\n0\r\n\r\n"], (400,))
    trailers = [chunked + b"2\r\n{}\r\n0\r\n", *[b"X-%d: %s\r\n" % (n, b"y" * 900) for n in range(300)]]
    yield Hostile("300 trailers", trailers, (431, 400))
    yield Hostile(
        "a trailer without an end", [chunked + b"2\r\n{}\r\n0\r\nX: ", *[b"y" * 60_000] * 20], (431, 400)
    )
    for length in ("-1", "abc", "1e3", "99999999999999999999999", "5, 5", "+5", "0x5", "5 5", "²"):
        yield Hostile(
            f"Content-Length: {length}",
            [head("POST /events HTTP/1.1", f"Content-Length: {length}") + right],
            (400,),
        )
    lengths = head("POST /events HTTP/1.1", "Content-Length: 5", "Content-Length: 25")
    yield Hostile("two lengths", [lengths + right], (400,))
    yield Hostile("a length too short", [head("POST /events HTTP/1.1", "Content-Length: 5") + right], (422,))
    yield Hostile(
        "a length too long", [head("POST /events HTTP/1.1", "Content-Length: 5000") + right], (408,)
    )
    yield Hostile(
        "a length of 10 GB", [head("POST /events HTTP/1.1", "Content-Length: 10000000000") + right], (413,)
    )
    for encoding in ("chunked, identity", "xchunked", "identity, chunked, gzip", "chunked\x0b", "gzip"):
        both = head("POST /events HTTP/1.1", f"Transfer-Encoding: {encoding}", "Content-Length: 5")
        yield Hostile(f"{encoding!r} and a length", [both + b"0\r\n\r\n" + right], (400,))
    for headers in (
        ("Transfer-Encoding: chunked", "Content-Length: 5"),
        ("Content-Length: 5", "Transfer-Encoding: chunked"),
        ("Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
        ("Transfer-Encoding : chunked",),
        (" Transfer-Encoding: chunked",),
        ("Transfer-Encoding:\x00chunked",),
    ):
        smuggled = b"0\r\n\r\nGET /events/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
        yield Hostile(f"smuggled by {headers}", [head("POST /events HTTP/1.1", *headers) + smuggled], (400,))
    yield Hostile("bare line feeds", [head().replace(b"\r\n", b"\n")], (400, 422))
    yield Hostile("a header of 1 MiB", [head("POST /events HTTP/1.1", "X: " + "y" * MIB)], (431,))
    yield Hostile(
        "10,000 headers", [head("POST /events HTTP/1.1", *(f"X-{n}: y" for n in range(10_000)))], (431,)
    )
    endless = [b"POST /events HTTP/1.1\r\n", *[b"X-Header: " + b"y" * 30_000 + b"\r\n"] * 30]
    yield Hostile("900 kB of headers", endless, (431,))
    yield Hostile("headers without an end", endless * 4, (431, 0))
    yield Hostile(
        "a request after 70 kB of headers", [head("GET /events HTTP/1.1", "X: " + "y" * 70_000) * 2], (431,)
    )
    yield Hostile("an address of 1 MiB", [head("GET /" + "a" * MIB + " HTTP/1.1")], (400, 431))
    yield Hostile("a query of 60,000", [head("GET /events?status=" + "a" * 60_000 + " HTTP/1.1")], (422,))
    for header in ("X\x00: y", "X: a\x00b", "X\x7f: y", "X(: y", ": y", "X y: z", "no colon", "X: a\rb"):
        yield Hostile(f"header {header!r}", [head("POST /events HTTP/1.1", header)], (400,))
    for key in ("", "k" * 256, "k" * 60_000):
        yield Hostile(f"a key of {len(key)}", [post(right, f"Idempotency-Key: {key}")], (422,))
    for line in (
        "",
        "\x00",
        "GET",
        "GET /events",
        "get /events HTTP/1.1",
        "GET /events HTTP/9.9",
        "GET /events HTTP/0.9",
        "GET /events HTTP/1.1.1",
        "GET /events FTP/1.1",
        "GET /ev ents HTTP/1.1",
        "GET events HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET //[::1 HTTP/1.1",
        "GET /\x00 HTTP/1.1",
        "GET /é HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "NONSENSE /events HTTP/1.1",
        "CONNECT x:443 HTTP/1.1",
        "PRI * HTTP/2.0",
    ):
        yield Hostile(f"line {line!r}", [head(line)], (400, 404, 405))
    for method in ("PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PURGE"):
        yield Hostile(method, [head(f"{method} /events HTTP/1.1")], (405, 404))
    for path in (
        "/../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/events/../../etc/passwd",
        "/events/%2e%2e/%2e%2e/etc/passwd",
        "/events/..%5c..%5cwindows",
        "/events/%00",
        "/events/%ff%fe",
        "/events/%ed%a0%80",
        "/events/{$ne:1}",
        "/events/" + "a" * 50_000,
        "/events//",
        "/EVENTS",
        "//events",
        "/.env",
        "http://169.254.169.254/latest/meta-data",
    ):
        yield Hostile(f"path {path[:60]}", [head(f"GET {path} HTTP/1.1")], (400, 404))
    for query in (
        "status=DONE",
        "status[$ne]=x",
        "limit=0",
        "limit=-1",
        "limit=501",
        "limit=" + "9" * 5_000,
        "limit=%D9%A3%D9%A3%D9%A3%D9%A3",
        "limit=1e3",
        "before=x",
        "before=%00",
        "before=" + "A" * 50_000,
        "before=OTk5OTk5OTk5OTk5OTk5OTk5OTk5IHg=",
        "before=LTk5OTk5OTk5OTk5OTk5IHg=",
        "$where=sleep(1000)",
        "=",
    ):
        yield Hostile(f"query {query[:40]}", [head(f"GET /events?{query} HTTP/1.1")], (422,))
    expecting = head("POST /events HTTP/1.1", "Content-Length: 2", "Expect: 100-continue")
    yield Hostile("Expect with an empty object", [expecting, b"{}"], (422,))
    yield Hostile("Expect and never a body", [expecting], (408,))
    yield Hostile("another expectation", [post(b"{}", "Expect: the-unexpected")], (417, 422))
    yield Hostile("an upgrade", [post(b"{}", "Connection: Upgrade", "Upgrade: websocket")], (422, 400))
    yield Hostile("an upgrade to h2c", [post(b"{}", "Connection: Upgrade", "Upgrade: h2c")], (422, 400))
    yield Hostile(
        "a body byte by byte", [post(b"{}x")[at : at + 1] for at in range(len(post(b"{}x")))], (422,)
    )
    yield Hostile("half a body, then nothing", [post(right)[:-5]], (408,))
    yield Hostile("half a header, then nothing", [head()[:-10]], (0,))
    yield Hostile("nothing at all", [], (0,))
    yield Hostile("empty lines for ever", [b"\r\n" * 40_000] * 2, (431, 400, 0))
    yield Hostile("a TLS greeting", [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"r" * 500], (400,))
    yield Hostile("SSH", [b"SSH-2.0-OpenSSH_9.6\r\n"], (400,))
    yield Hostile("Redis", [b"*1\r\n$4\r\nPING\r\n"], (400,))
    yield Hostile("2,000 requests at once", [head("GET /nothing HTTP/1.1") * 2_000], (404,))
    yield Hostile("garbage after a request", [post(b"{}") + b"\x00\x01garbage\r\n\r\n"], (422,))


REQUESTS = [*(Hostile(name, [post(body)], (422,)) for name, body in bodies()), *requests()]


async def answer(port: int, request: Hostile) -> tuple[int, bytes]:
    """Status (0: none) and body of the first answer to a request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(PATIENCE):
            sending = asyncio.create_task(_send(writer, request.parts))
            try:
                return await _first(reader)
            finally:
                sending.cancel()
    except (ConnectionError, asyncio.IncompleteReadError):
        return 0, b""
    finally:
        writer.transport.abort()


async def _send(writer: asyncio.StreamWriter, parts: Sequence[bytes]) -> None:
    try:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
    except ConnectionError:
        pass


async def _first(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    while True:
        lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        status = int(lines[0].split()[1])
        if status == 100:
            continue
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return status, await reader.readexactly(int(headers.get("content-length", "0")))
