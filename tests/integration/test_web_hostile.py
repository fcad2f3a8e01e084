"""What a hostile visitor sends to a socket: paths, headers, pages that watch by the hundred or never read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request

from enricher.web import guard, pulse, server, watched
from enricher.web.shell import Shell
from enricher.web.views import Done
from tests.integration.test_web_guard import CSRF, worker
from tests.rig import PATIENCE, until
from tests.servers import free_port

EVIL = "x\r\nset-cookie: a=b\r\n\r\n<script>é日😀"


async def raw(port: int, head: str, body: str = "") -> tuple[bytes, bytes]:
    """Head and body of what is answered to this, byte by byte."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    rest = f"Host: localhost\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    writer.write(f"{head}\r\n{rest}".encode())
    answer = await asyncio.wait_for(reader.read(), PATIENCE)
    writer.close()
    start, _, text = answer.partition(b"\r\n\r\n")
    return start, text


async def test_no_path_leads_out_and_no_text_becomes_a_header(redis_url: str) -> None:
    port = free_port()
    async with worker(redis_url, **{"web.listen": f"127.0.0.1:{port}"}):
        start, text = await raw(port, "GET /ui/static/style.css?1 HTTP/1.1")
        assert start.startswith(b"HTTP/1.1 200")
        assert b"immutable" in start
        for name in (
            "../guard.py",
            "..%2fguard.py",
            "%2e%2e/guard.py",
            "..%5cguard.py",
            "%252e%252e%252fguard.py",
            "style.css%00.js",
            "NOTICE.txt/../../guard.py",
            "/etc/passwd",
            "",
            ".",
        ):
            start, text = await raw(port, f"GET /ui/static/{name} HTTP/1.1")
            assert b" 404 " in start.splitlines()[0], name
            assert b"hmac" not in text
        field = "".join(f"%{byte:02x}" for byte in EVIL.encode())
        head = (
            "POST /ui/dead-letters/stop HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded\r\n"
            f"Cookie: {guard.CSRF}={CSRF}\r\n{guard.CSRF_HEADER}: {CSRF}"
        )
        start, text = await raw(port, head, f"{field}=1")
        assert start.startswith(b"HTTP/1.1 422")
        assert b"\r\nset-cookie" not in start
        assert text == b""
        (toast,) = [line for line in start.split(b"\r\n") if line.lower().startswith(b"hx-trigger: ")]
        said = json.loads(toast.partition(b" ")[2])["toast"]
        assert said["kind"] == "bad"
        assert repr(EVIL)[:30] in said["text"]
        json_stop = "POST /api/v1/dead-letters/stop HTTP/1.1\r\nContent-Type: application/json"
        for head, sent, status in (
            (json_stop, "[" * 50_000, 422),
            (json_stop, '{"rate": ' + "9" * 5_000 + "}", 200),
            ("GET /metrics HTTP/1.1\r\nHost: evil.example", "", 400),
            ("HEAD /ui/pulse HTTP/1.1", "", 200),
            ("GET /ui/pulse HTTP/1.1\r\nOrigin: http://evil.example", "", 403),
            ("OPTIONS /ui/overview HTTP/1.1", "", 405),
            ("TRACE /ui/overview HTTP/1.1", "", 405),
            (f"GET /ui/overview HTTP/1.1\r\nCookie: {'a=b; ' * 14_000}", "", 431),
        ):
            start, text = await raw(port, head, sent)
            assert start.startswith(b"HTTP/1.1 %d" % status), (head[:60], start)
    scope = {"type": "http", "root_path": "/x", "path": "/", "headers": [], "query_string": b""}
    shell = Shell([], service="x", read_only=False)
    answer = shell.done(Request(scope), Done(EVIL, to=f"jobs/{EVIL}?page=2"))
    assert answer.headers["hx-redirect"].startswith("/x/ui/jobs/x%0D%0Aset-cookie")
    assert answer.headers["hx-redirect"].endswith("?page=2")
    toast_text = json.loads(shell.done(Request(scope), Done(EVIL)).headers["hx-trigger"])["toast"]["text"]
    assert toast_text == EVIL


@pytest.mark.skipif(
    not hasattr(socket, "TCP_USER_TIMEOUT"), reason="TCP_USER_TIMEOUT, by which it is done, is of Linux alone"
)
async def test_who_reads_no_answer_is_hung_up_on(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_UNREAD_MS", 300)
    port = free_port()
    async with worker(redis_url, **{"web.listen": f"127.0.0.1:{port}"}):
        with socket.socket() as client:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.connect(("127.0.0.1", port))
            request = f"GET /ui/static/lightweight-charts.js HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n"
            client.sendall(request.encode() * 50)

            def served() -> bool:
                its = f":{client.getsockname()[1]:04X}"
                lines = Path("/proc/net/tcp").read_text().splitlines()
                return any(line.split()[2].endswith(its) for line in lines)

            await until(served, "the connection")
            await until(lambda: not served(), "its end")


async def test_of_120_pages_that_watch_100_are_served_and_more_when_they_go(redis_url: str) -> None:
    port = free_port()
    writers = []

    async def watch() -> int:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        writer.write(f"GET /ui/pulse HTTP/1.1\r\nHost: localhost:{port}\r\n\r\n".encode())
        return int((await asyncio.wait_for(reader.readline(), PATIENCE)).split()[1])

    async with worker(redis_url, **{"web.listen": f"127.0.0.1:{port}"}):
        statuses = await asyncio.gather(*(watch() for _ in range(120)))
        assert (statuses.count(200), statuses.count(503)) == (100, 20)
        for writer in writers:
            writer.close()

        async def served() -> bool:
            return await watch() == 200

        await until(served, "a place")
        for writer in writers:
            writer.close()


async def test_a_slow_reader_misses_figures_and_one_that_never_reads_is_hung_up_on(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulse, "EVERY", 0.01)
    scope = {"type": "http", "method": "GET", "path": "/ui/pulse", "query_string": b""}
    scope |= {"headers": [(b"host", b"localhost")], "asgi": {"version": "3.0"}, "root_path": ""}
    may_go_on = asyncio.Event()
    read: dict[str, list[float]] = {"quick": [], "slow": [], "stuck": []}

    async def watch(name: str) -> None:
        async def receive() -> Any:
            await asyncio.Event().wait()

        async def send(message: Any) -> None:
            text = message.get("body", b"").rpartition(b"data: ")[2]
            if text:
                read[name].append(json.loads(text)["at"])
            if name == "slow" and len(read[name]) == 2:
                await may_go_on.wait()
            if name == "stuck" and len(read[name]) == 2:
                await asyncio.Event().wait()

        await app(dict(scope), receive, send)

    async with worker(redis_url) as enricher:
        app = enricher.asgi()
        tasks = {name: asyncio.create_task(watch(name)) for name in ("quick", "slow")}
        await until(lambda: len(read["slow"]) == 2, "the slow one to be slow")
        seen = len(read["quick"])
        await until(lambda: len(read["quick"]) > seen + 20, "the quick one not to wait for it")
        may_go_on.set()
        await until(lambda: len(read["slow"]) > 4, "the slow one to go on")
        assert read["slow"][2] > read["quick"][seen + 18]
        monkeypatch.setattr(watched, "PATIENCE", 0.05)
        await asyncio.wait_for(watch("stuck"), PATIENCE)
        assert len(read["stuck"]) == 2
        for task in tasks.values():
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
