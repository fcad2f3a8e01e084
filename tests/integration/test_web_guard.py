"""A hostile visitor of the dashboard: nothing is shown, nothing is done, and the log knows no secret."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import httpx
import pytest
from redis import Redis
from starlette.applications import Starlette
from starlette.routing import Mount
from structlog.testing import capture_logs

from enricher import Enricher, load
from enricher.dead_letters.record import encode
from enricher.errors import EnricherError
from enricher.web import guard
from tests.rig import dead_letter

TOKEN, OTHER, WRONG = "t0ken-of-operators", "t0ken-of-another", "t0ken-of-nobody"
NAME = "jörg|日"
TOKENS = {"web.tokens": {"ops": TOKEN, NAME: OTHER}}
LIST = "dlq:enrichment"
OWN = "http://localhost"
CSRF = "c" * 24


@asynccontextmanager
async def worker(redis_url: str, **given: Any) -> AsyncIterator[Enricher]:
    base = {"redis.url": redis_url, "market.enabled": False, "jobs.packages": "tests.jobs_app"}
    async with Enricher(load(overrides=base | given)) as enricher:
        await enricher.wait_ready()
        yield enricher


def client(app: Any, base: str = OWN, **given: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=base, **given)


@asynccontextmanager
async def visitor(redis_url: str, base: str = OWN, **given: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with worker(redis_url, **given) as enricher, client(enricher.asgi(), base) as visits:
        yield visits


def bearer(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def marked(redis_url: str, visits: httpx.AsyncClient, **headers: str) -> str:
    """The path of a new dead letter."""
    with Redis.from_url(redis_url) as plain:
        plain.lpush(LIST, encode(dead_letter(task_id="1" * 32, body=b"{}")))
    (letter,) = (await visits.get("/api/v1/dead-letters", headers=headers)).json()["letters"]
    return f"dead-letters/0/{letter['mark']}"


async def actions(visits: httpx.AsyncClient) -> list[str]:
    """The path of every action there is."""
    paths = (await visits.get("/api/v1/openapi.json")).json()["paths"]
    return [re.sub(r"\{[^}]*\}", "x", path) for path, operations in paths.items() if "post" in operations]


def letters(redis_url: str) -> int:
    with Redis.from_url(redis_url) as plain:
        return int(plain.llen(LIST))


async def test_only_who_shows_a_token_gets_an_answer(redis_url: str) -> None:
    with capture_logs() as lines:
        async with visitor(redis_url, "https://desk.example", **TOKENS) as visits:
            for path in ("/api/v1/overview", "/api/v1/openapi.json", "/ui/pulse", "/api/v1/dead-letters"):
                for headers in ({}, bearer(WRONG), {"authorization": f"Basic {TOKEN}"}, bearer("")):
                    assert (await visits.get(path, headers=headers)).status_code == 401, (path, headers)
            for action in ("/api/v1/dead-letters/stop", "/ui/dead-letters/stop"):
                assert (await visits.post(action, json={})).status_code == 401
            assert (await visits.get("/api/v1/overview", headers=bearer(OTHER))).status_code == 200
            assert (await visits.get("/metrics", headers=bearer(OTHER))).status_code == 200
            sent = await visits.get("/ui/overview")
            assert (sent.status_code, sent.headers["location"]) == (303, "/ui/log-in")

            refused = await visits.post("/ui/log-in", data={"token": WRONG})
            assert refused.status_code == 401
            assert not visits.cookies
            for token in (TOKEN, OTHER):
                entered = await visits.post("/ui/log-in", data={"token": token})
                assert entered.status_code == 303
                cookie = entered.headers["set-cookie"].lower()
                for part in ("httponly", "samesite=strict", "secure", "path=/;"):
                    assert part in cookie
                screen = await visits.get("/ui/overview")
                assert screen.status_code == 200
                assert screen.headers["cache-control"] == "no-store"
                assert "default-src 'none'" in screen.headers["content-security-policy"]
            path = await marked(redis_url, visits)
            carried = {guard.CSRF_HEADER: visits.cookies[guard.CSRF]}
            assert (await visits.post(f"/ui/{path}/discard", headers=carried)).status_code == 204
            left = await visits.post("/ui/log-out")
            assert (left.status_code, guard.SESSION in visits.cookies) == (303, False)
            assert (await visits.get("/ui/overview")).status_code == 303
            said = [refused.text, entered.text, screen.text, left.text, repr(lines)]
    (done,) = [line for line in lines if line["event"] == "action"]
    assert (done["who"], done["what"]) == (NAME, "dead-letters/{store}/{mark}/discard")
    assert [line["event"] for line in lines].count("log_in_refused") == 1
    for secret in (TOKEN, OTHER, WRONG):
        assert all(secret not in each for each in said)


async def test_a_session_that_we_did_not_sign_or_that_has_run_out_is_none(redis_url: str) -> None:
    async with visitor(redis_url, **TOKENS, **{"web.open": ["/livez"]}) as visits:
        await visits.post("/ui/log-in", data={"token": TOKEN})
        name, until_s, seal = visits.cookies[guard.SESSION].strip('"').split("|")
        later, earlier = int(until_s) + 1, int(time.time()) - 1
        old = guard.Guard(load(overrides=TOKENS).web)._signed("ops", earlier)
        forged = [
            "",
            "|",
            "||",
            "ops",
            f"{name}|{later}|{seal}",
            f"{name}|{until_s}|",
            f"{name}|{until_s}|{'0' * 64}",
            f"nobody|{until_s}|{seal}",
            f"j%C3%B6rg%7C%E6%97%A5|{until_s}|{seal}",
            f"{name}|{'9' * 400}|{seal}",
            f"{name}|-1|{seal}",
            f"{name}|{until_s}|{seal}|",
            old,
        ]
        assert (await visits.get("/api/v1/overview")).status_code == 200
        visits.cookies.clear()
        for value in forged:
            headers = {"cookie": f"{guard.SESSION}={value}"}
            assert (await visits.get("/api/v1/overview", headers=headers)).status_code == 401, value
        assert (await visits.get("/livez")).status_code == 200
        assert (await visits.get("/metrics")).status_code == 401


FOREIGN = [
    {"origin": "https://evil.example"},
    {"origin": "null"},
    {"origin": "http://["},
    {"origin": "http://localhost.evil.example"},
    {"origin": "http://localhost:81"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"host": "evil.example", "origin": "http://evil.example"},
]


async def test_no_other_site_acts_in_somebodys_name(redis_url: str) -> None:
    async with visitor(redis_url) as visits:
        path = await marked(redis_url, visits)
        await visits.get("/ui/overview")
        right = {guard.CSRF_HEADER: visits.cookies[guard.CSRF]}
        form = {"content-type": "application/x-www-form-urlencoded"}
        tries = [
            *(({**right, **headers}, kind) for headers in FOREIGN for kind in (form, {})),
            *(({guard.CSRF_HEADER: wrong}, form) for wrong in ("", CSRF, "x" * 5000)),
            ({}, form),
            ({"origin": OWN}, {}),
            ({}, {"content-type": "text/plain"}),
        ]
        for headers, kind in tries:
            for where in ("ui", "api/v1"):
                send = {"headers": {**kind, **headers}} | ({} if kind else {"json": {}})
                answer = await visits.post(f"/{where}/{path}/discard", **send)
                assert answer.status_code == 403, (where, headers, kind)
        for headers in FOREIGN:
            for page in ("log-in", "log-out"):
                assert (await visits.post(f"/ui/{page}", headers=headers)).status_code == 403, (page, headers)
        assert letters(redis_url) == 1
        # The value of a cookie that is none of ours is replaced, whatever is in it.
        visits.cookies.clear()
        planted = await visits.get("/ui/overview", headers={"cookie": f"{guard.CSRF}='}}</script>"})
        assert "'}</script>" not in planted.text
        assert len(visits.cookies[guard.CSRF]) == len(CSRF)
        right = {guard.CSRF_HEADER: visits.cookies[guard.CSRF], "origin": OWN}
        right["sec-fetch-site"] = "same-origin"
        assert (await visits.post(f"/ui/{path}/discard", headers=right)).status_code == 204
    assert letters(redis_url) == 0


async def test_it_is_asked_for_by_its_own_names_alone(redis_url: str) -> None:
    names = {
        "localhost": True,
        "LOCALHOST:5555": True,
        "127.0.0.1:5555": True,
        "[::1]:5555": True,
        "[::1]": True,
        "evil.example:5555": False,
        "127.0.0.1.evil.example": False,
        "localhost.evil.example": False,
        "desk.example": False,
    }
    async with visitor(redis_url) as visits:
        for name, good in names.items():
            for path in ("/ui/overview", "/api/v1/overview"):
                answer = await visits.get(path, headers={"host": name})
                assert answer.status_code == (200 if good else 403), name
        assert (await visits.get("/ui/pulse", headers={"host": "evil.example"})).status_code == 403
        probes = {"10.1.2.3:5555": True, "[2001:db8::1]:80": True, "": True}
        odd = dict.fromkeys(("evil.local", "evil", "127.1", "a:b:c", "localhost:x"), False)
        for name, good in (names | probes | odd).items():
            answer = await visits.get("/metrics", headers={"host": name})
            assert answer.status_code == (200 if good else 403), name
    # Where others reach it, it is also asked for by names that only their network knows.
    async with visitor(redis_url, **TOKENS) as visits:
        private = ("prometheus", "worker.enricher.svc:5555", "worker.internal", "10.1.2.3")
        for name in (*private, "evil.example", "svc.evil.example", "evil.svc.", ".svc"):
            status = 200 if name in private else 401
            assert (await visits.get("/readyz", headers={"host": name})).status_code == status, name
            # Nobody but its own page has a session, and nobody out there a token.
            assert (await visits.get("/api/v1/overview", headers={"host": name})).status_code == 401, name
    async with visitor(redis_url, **{"web.hosts": ["Desk.Example"], **TOKENS}) as visits:
        for name, status in (("desk.example", 200), ("DESK.example:443", 200), ("localhost", 403)):
            headers = {"host": name, **bearer(TOKEN)}
            assert (await visits.get("/api/v1/overview", headers=headers)).status_code == status, name
        assert (await visits.post("/ui/log-in", data={"token": TOKEN})).status_code == 403


async def test_where_it_is_read_only_nothing_is_changed(redis_url: str) -> None:
    async with visitor(redis_url, **{"web.read_only": True}) as visits:
        path = await marked(redis_url, visits)
        assert (await visits.get(f"/ui/{path}")).status_code == 200
        right = {guard.CSRF_HEADER: visits.cookies[guard.CSRF]}
        assert (await visits.post(f"/ui/{path}/discard", headers=right)).status_code == 403
        assert (await visits.post(f"/api/v1/{path}/discard", json={})).status_code == 403
        for action in await actions(visits):
            assert (await visits.post(action, json={})).status_code == 403, action
    assert letters(redis_url) == 1


async def test_no_other_site_can_order_any_action(redis_url: str) -> None:
    async with visitor(redis_url) as visits:
        every = await actions(visits)
        assert {"/api/v1/bulk", "/api/v1/workers/x/stop", "/api/v1/schedules/x/pause"} <= set(every)
        for action in every:
            for headers in ({"origin": "https://evil.example"}, {"origin": "null"}):
                answer = await visits.post(action, json={}, headers=headers)
                assert answer.status_code == 403, (action, answer.text)


@pytest.mark.parametrize("address", ["0.0.0.0:80", "[::]:80", "10.1.2.3:80", "desk.example:80"])
def test_an_address_that_others_reach_needs_a_token(address: str) -> None:
    with pytest.raises(EnricherError, match=r"web\.tokens"):
        load(overrides={"web.listen": address})
    assert load(overrides={"web.listen": address, **TOKENS}).web.address == address


async def test_two_workers_in_one_program_each_under_its_path(redis_url: str) -> None:
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(worker(redis_url, **TOKENS))
        two = await stack.enter_async_context(
            worker(redis_url, **{"web.tokens": {"ops": OTHER}, "service.name": "second"})
        )
        host = Starlette(routes=[Mount("/one", one.asgi()), Mount("/a/two", two.asgi())])
        visits = await stack.enter_async_context(client(host))
        sent = await visits.get("/one/ui/overview")
        assert sent.headers["location"] == "/one/ui/log-in"
        entered = await visits.post("/one/ui/log-in", data={"token": TOKEN})
        assert entered.headers["location"] == "/one/ui/overview"
        assert "Path=/one;" in entered.headers["set-cookie"]
        screen = await visits.get("/one/ui/overview")
        assert screen.status_code == 200
        links = [part.split('"')[0] for part in screen.text.replace('src="', 'href="').split('href="')[1:]]
        assert len(links) > 5
        assert all(link.startswith(("/one/ui/", "#")) for link in links), links
        assert (await visits.get(links[0])).status_code == 200
        assert (await visits.get("/a/two/ui/overview")).status_code == 303
        # A session of the one is none of the other.
        stolen = {"cookie": f"{guard.SESSION}={visits.cookies[guard.SESSION]}"}
        assert (await visits.get("/a/two/api/v1/overview", headers=stolen)).status_code == 401
        document = (await visits.get("/one/api/v1/openapi.json")).json()
        assert document["servers"] == [{"url": "/one"}]


async def test_two_workers_on_ports_of_one_host_keep_their_sessions_apart(redis_url: str) -> None:
    one, two = "http://localhost:5001", "http://localhost:5002"
    async with AsyncExitStack() as stack:
        app = (await stack.enter_async_context(worker(redis_url, **TOKENS))).asgi()
        visits = await stack.enter_async_context(client(app, one))
        for base in (one, two):  # a browser has one jar for both
            assert (await visits.post(f"{base}/ui/log-in", data={"token": TOKEN})).status_code == 303
            assert (await visits.get(f"{base}/ui/overview")).status_code == 200
        assert (await visits.post(f"{two}/ui/log-out")).status_code == 303
        assert (await visits.get(f"{two}/ui/overview")).status_code == 303
        assert (await visits.get(f"{one}/ui/overview")).status_code == 200
        path = await marked(redis_url, visits)
        carried = {guard.CSRF_HEADER: visits.cookies[f"{guard.CSRF}_5001"]}
        assert (await visits.post(f"/ui/{path}/discard", headers=carried)).status_code == 204


async def test_passwords_are_on_no_screen_and_in_no_log(redis_url: str) -> None:
    secret = "hunter2-of-redis"
    name = "visitor-of-screens"
    with Redis.from_url(redis_url) as plain, capture_logs() as lines:
        rights: dict[str, Any] = {"keys": ["*"], "channels": ["*"], "categories": ["+@all"]}
        plain.acl_setuser(name, enabled=True, passwords=[f"+{secret}"], **rights)
        try:
            url = redis_url.replace("redis://", f"redis://{name}:{secret}@")
            async with visitor(url, **TOKENS) as visits:
                document = (await visits.get("/api/v1/openapi.json", headers=bearer(TOKEN))).json()
                paths = [path for path, ways in document["paths"].items() if "get" in ways]
                paths = [path for path in paths if "{" not in path]
                assert len(paths) >= 3
                for path in paths:
                    for each in (path, path.replace("/api/v1/", "/ui/")):
                        shown = await visits.get(each, headers=bearer(TOKEN))
                        assert secret not in shown.text, each
                        assert TOKEN not in shown.text, each
        finally:
            plain.acl_deluser(name)
    assert secret not in repr(lines)
    assert TOKEN not in repr(lines)
