"""Events and mails in the dashboard: listed, looked at, run again; what others wrote is text everywhere."""

from __future__ import annotations

import httpx
import redis

from enricher import load
from enricher.app import Enricher
from tests.event_app.tickets import RUNS
from tests.integration.mails import STREAM, raw_mail
from tests.integration.test_events_processing import ended
from tests.integration.worker import database
from tests.rig import until
from tests.servers import Urls

EVIL = "<script>alert(1)</script>"
ESCAPED = "&lt;script&gt;alert(1)&lt;/script&gt;"


def web(enricher: Enricher) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app=enricher.asgi())
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


async def test_an_event_is_shown_with_its_pipeline_and_run_again(urls: Urls) -> None:
    RUNS.clear()
    given = {
        "redis.url": urls.redis,
        "mongo.url": urls.mongo,
        "market.enabled": False,
        "events.packages": "tests.event_app",
        "events.max_retries": 0,
    }
    async with Enricher(load(overrides=given)) as enricher, web(enricher) as client:
        await enricher.wait_ready()
        # It fails the first time alone.
        await enricher.submit("events", b'{"text": "fail 1"}')
        await enricher.submit("events", f'{{"text": "{EVIL}", "urgent": true}}'.encode())
        await ended(database(urls.mongo)["events"], 2)
        assert len((await client.get("/api/v1/events")).json()["events"]) == 2
        (failed,) = (await client.get("/api/v1/events", params={"status": "FAILURE"})).json()["events"]
        assert (failed["type"], failed["error"]) == ("Ticket", "no answer")
        shown = (await client.get(f"/api/v1/events/{failed['id']}")).json()
        states = {box["name"]: box["state"] for box in shown["picture"]["boxes"]}
        assert states == {"Summarise": "done", "Triage": "done", "Escalate": "open", "Reply": "failed"}
        assert sum(way["taken"] for way in shown["picture"]["ways"]) == 2
        page = (await client.get(f"/ui/events/{failed['id']}")).text
        assert 'class="node failed"' in page
        assert "no answer" in page
        with redis.Redis.from_url(urls.redis) as plain:
            await until(lambda: plain.llen("dlq:enrichment") == 1, "its dead letter")
            again = await client.post(f"/api/v1/events/{failed['id']}/retry", json={})
            assert again.status_code == 200, again.text
            await until(
                lambda: database(urls.mongo)["events"].count_documents({"status": "SUCCESS"}) == 2,
                "the event to end well",
            )
            assert plain.llen("dlq:enrichment") == 0
        refused = await client.post(f"/api/v1/events/{failed['id']}/retry", json={})
        assert refused.status_code == 409
        every = (await client.get("/api/v1/events")).json()["events"]
        (evil,) = [each for each in every if each["id"] != failed["id"]]
        text = (await client.get(f"/ui/events/{evil['id']}")).text
        assert EVIL not in text
        assert ESCAPED in text
        assert (await client.get("/ui/events/none")).status_code == 404
        elsewhere = await client.get("/ui/elsewhere")
        assert elsewhere.status_code == 404
        assert 'href="/ui/events"' in elsewhere.text
        assert (await client.get("/api/v1/events", params={"before": "x"})).status_code == 422


async def test_a_mail_is_shown_as_text(urls: Urls) -> None:
    given = {
        "redis.url": urls.redis,
        "mongo.url": urls.mongo,
        "market.enabled": False,
        "mail.enabled": True,
    }
    with redis.Redis.from_url(urls.redis) as plain:
        for number in range(3):
            plain.xadd(STREAM, {"raw": raw_mail(number, Subject=f"{EVIL} {number}", X_Odd=EVIL)})
    async with Enricher(load(overrides=given)) as enricher, web(enricher) as client:
        await enricher.wait_ready()

        async def listed() -> list[dict[str, str]]:
            found: list[dict[str, str]] = (await client.get("/api/v1/mails")).json()["mails"]
            return found if len(found) == 3 else []

        mails = await until(listed, "three mails")
        assert {mail["sender"] for mail in mails} == {"Ann <ann@x.example>"}
        page = await client.get("/ui/mails", params={"sender": "ann@x.example"})
        assert page.text.count(ESCAPED) == 3
        assert EVIL not in page.text
        one = await client.get(f"/ui/mails/{mails[0]['id']}")
        assert one.status_code == 200
        assert EVIL not in one.text
        assert "<p>" + mails[0]["subject"][-1] not in one.text
        assert "text " in one.text
        assert (await client.get("/api/v1/mails", params={"sender": "no@x.example"})).json()["mails"] == []
        older = await client.get("/api/v1/mails", params={"limit": 2})
        rest = await client.get("/api/v1/mails", params={"before": older.json()["next"]})
        assert len(rest.json()["mails"]) == 1
        assert (await client.get("/ui/mails/nobody")).status_code == 404
