"""The mail route on real servers: each mail handled once, stored with what was said, or set aside."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64encode
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from structlog.testing import capture_logs

from enricher.adapters.redis.claims import Idempotency
from enricher.errors import BadMessage
from enricher.mail import Mail
from tests.integration.mails import GROUP, LETTERS, STREAM, post, raw_mail
from tests.rig import PATIENCE
from tests.servers import MongoProcess, RedisProcess, Urls


async def test_a_mail_is_read_stored_with_the_handlers_result_and_acknowledged(
    any_redis_url: str, mongo_database_url: str
) -> None:
    seen: list[Mail] = []

    async def handle(mail: Mail) -> dict[str, Any]:
        seen.append(mail)
        return {"words": len((mail.text or "").split()), "tenant": mail.fields["tenant"]}

    async with post(any_redis_url, mongo_database_url, handle) as found:
        await found.send({"raw": raw_mail(1, References="<0@x>"), "tenant": "acme", "blob": b"\xff"})
        await found.count("processed", 1)
        document = found.stored()["1@x"]
        assert await found.pending() == 0
        assert {key["name"] for key in found.emails.list_indexes()} >= {"date_-1", "thread_1_date_1"}
    assert document["result"] == {"words": 2, "tenant": "acme"}
    assert document["fields"] == {"tenant": "acme", "blob": b"\xff"}
    assert (document["subject"], document["thread"]) == ("mail 1", "0@x")
    assert document["from"] == [{"name": "Ann", "address": "ann@x.example"}]
    assert (document["text"], document["html"]) == ("text 1\n", "<p>1</p>\n")
    assert document["date"] == datetime(2026, 2, 16, 9, tzinfo=UTC)
    assert document["received_at"] <= document["processed_at"] <= datetime.now(UTC)
    assert seen[0].raw == raw_mail(1, References="<0@x>")


async def test_base64_and_parsed_fields_are_mails_too(urls: Urls) -> None:
    async with post(*urls) as found:
        await found.send({"raw": b64encode(raw_mail(1))})
        fields = {"message_id": "<2@x>", "from": "a@b", "to": "c@d, e@f", "subject": "s", "body": "hi"}
        await found.send(fields)
        await found.count("processed", 2)
        stored = found.stored()
    assert (stored["1@x"]["text"], stored["2@x"]["text"]) == ("text 1\n", "hi")
    assert [one["address"] for one in stored["2@x"]["to"]] == ["c@d", "e@f"]
    assert "result" not in stored["1@x"]


async def test_a_mail_that_comes_twenty_times_at_once_is_handled_once(urls: Urls) -> None:
    calls: list[str] = []

    async def handle(mail: Mail) -> None:
        calls.append(mail.id)
        await asyncio.sleep(0.05)

    async with post(*urls, handle) as found:
        await found.send(*[raw_mail(1)] * 20)
        await found.count("duplicate", 19)
        await found.send(raw_mail(1))
        await found.count("duplicate", 20)
        assert (found.counts["processed"], calls) == (1, ["1@x"])
        assert await Idempotency(found.redis).count() == 1
        assert await found.pending() == 0


async def test_two_workers_handle_a_mail_once_also_when_both_have_it(urls: Urls) -> None:
    calls: list[str] = []

    async def handle(mail: Mail) -> None:
        calls.append(mail.id)
        await asyncio.sleep(0.2)

    def named(name: str) -> dict[str, Any]:
        return {"mail.consumer": name, "service.instance": name, "mail.batch": 1, "mail.prefetch": 1}

    async with (
        post(*urls, handle, named("one")) as one,
        post(*urls, handle, named("two")) as two,
    ):
        for number in range(3):
            await one.send(raw_mail(number), raw_mail(number))
        await one.until(lambda: one.counts.get("duplicate", 0) + two.counts.get("duplicate", 0) >= 3)
    assert one.counts.get("processed", 0) + two.counts.get("processed", 0) == 3
    assert one.counts["received"]
    assert two.counts["received"]
    assert sorted(calls) == ["0@x", "1@x", "2@x"]


async def test_what_the_old_worker_processed_is_skipped(urls: Urls) -> None:
    async with post(*urls) as found:
        await found.redis.sadd("processed_messages:set", "<1@x>", "2@x", "3")
        await found.send(raw_mail(1), raw_mail(2), {"message_id": "3", "subject": "s"}, raw_mail(4))
        await found.count("processed", 1)
        await found.count("duplicate", 3)
        assert list(found.stored()) == ["4@x"]
        assert await found.redis.scard("processed_messages:set") == 3


async def test_a_plain_handler_runs_in_a_thread_and_gets_the_context_if_it_wants_it(urls: Urls) -> None:
    def handle(mail: Mail, context: Any) -> dict[str, Any]:
        return {"main": threading.current_thread() is threading.main_thread(), "attempt": context.attempt}

    async with post(*urls, handle) as found:
        await found.send(raw_mail(1))
        await found.count("processed", 1)
        assert found.stored()["1@x"]["result"] == {"main": False, "attempt": 1}


async def test_a_failure_is_tried_again_after_ever_longer_waits_then_set_aside(
    any_redis_url: str, mongo_database_url: str
) -> None:
    times: list[float] = []

    async def handle(mail: Mail) -> None:
        times.append(asyncio.get_running_loop().time())
        raise OSError("no route to host")

    overrides = {"mail.initial_backoff": 0.3, "mail.max_backoff": 0.6}
    async with post(any_redis_url, mongo_database_url, handle, overrides) as found:
        await found.send({"raw": raw_mail(1), "tenant": "acme"})
        await found.count("dead", 1)
        (letter,) = await found.letters()
        assert await found.pending() == 0
        assert found.counts["retried"] == 3
    assert json.loads(letter["original_data"]) == {"raw": raw_mail(1).decode(), "tenant": "acme"}
    assert (letter["error"], letter["retry_count"]) == ("OSError: no route to host", "3")
    assert letter["message_id"] == "1@x"
    assert datetime.fromisoformat(letter["failed_at"]).tzinfo is not None
    waits = [later - before for before, later in pairwise(times)]
    assert len(waits) == 3
    assert all(wait >= least for wait, least in zip(waits, (0.3, 0.6, 0.6), strict=True))


async def test_a_mail_that_recovers_is_processed_and_claimed_once(urls: Urls) -> None:
    attempts: list[int] = []

    async def handle(mail: Mail, context: Any) -> int:
        attempts.append(context.attempt)
        if len(attempts) < 3:
            raise TimeoutError
        return len(attempts)

    async with post(*urls, handle) as found:
        await found.send(raw_mail(1), raw_mail(1))
        await found.count("processed", 1)
        await found.count("duplicate", 1)
        assert found.stored()["1@x"]["result"] == 3
    assert len(attempts) == 3


async def test_what_a_handler_calls_bad_is_set_aside_at_once(urls: Urls) -> None:
    def handle(mail: Mail) -> None:
        raise BadMessage("$.subject", "an order number")

    async with post(*urls, handle) as found:
        await found.send(raw_mail(1))
        await found.count("dead", 1)
        (letter,) = await found.letters()
        assert (letter["retry_count"], found.counts.get("retried")) == ("0", None)


async def test_a_handler_that_takes_too_long_is_stopped(urls: Urls) -> None:
    async def handle(mail: Mail) -> None:
        await asyncio.sleep(60)

    overrides = {"mail.timeout": 0.1, "mail.max_retries": 0}
    async with post(*urls, handle, overrides) as found:
        await found.send(raw_mail(1))
        await found.count("dead", 1)
        assert (await found.letters())[0]["error"].startswith("TimeoutError")


async def test_a_result_that_cannot_be_stored_is_set_aside_and_the_others_go_on(urls: Urls) -> None:
    def handle(mail: Mail) -> object:
        return object() if mail.id == "1@x" else 2**10

    async with post(*urls, handle) as found:
        await found.send(raw_mail(1), raw_mail(2))
        await found.count("dead", 1)
        await found.count("processed", 1)
        (letter,) = await found.letters()
        assert json.loads(letter["letter"])["stage"] == "commit"
        assert list(found.stored()) == ["2@x"]


async def test_broken_mails_are_stored_with_their_defects_and_nothing_is_set_aside_by_name(
    redis_url: str, mongo_database_url: str
) -> None:
    headers = b"Message-ID: <1@x>\nDate: never\nContent-Type: multipart/mixed; boundary=b\n\n"
    async with post(redis_url, mongo_database_url) as found:
        await found.send(headers + b"no part")
        await found.send({"raw": b"\xff\xfe\x00"})
        await found.send({"tenant": "nothing else"}, {"raw": " "})
        await found.count("processed", 2)
        await found.count("dead", 2)
        assert set(found.stored()["1@x"]["defects"]) >= {"InvalidDateDefect", "StartBoundaryNotFoundDefect"}
        errors = [letter["error"] for letter in await found.letters()]
    assert errors[0].startswith("BadMessage: $: expected a field 'raw'")
    assert errors[1].startswith("BadMessage: $.raw: expected an RFC 5322 message")


async def test_a_mail_of_megabytes_is_read_and_a_larger_one_set_aside(urls: Urls) -> None:
    big = raw_mail(1).replace(b"text 1", b"line of text\r\n" * 200_000)
    async with post(*urls, overrides={"mail.max_message_bytes": "4MiB"}) as found:
        await found.send(big, b"Subject: x\n\n" + b"y" * 5_000_000)
        await found.count("processed", 1)
        await found.count("dead", 1)
        assert found.stored()["1@x"]["size"] == len(big)
        assert "at most 4194304 bytes" in (await found.letters())[0]["error"]


async def test_a_redis_that_goes_away_fails_no_mail(own_redis: RedisProcess, mongo_database_url: str) -> None:
    calls: list[str] = []

    async def handle(mail: Mail) -> None:
        calls.append(mail.id)
        await asyncio.sleep(0.02)

    overrides = {"redis.socket_timeout": 0.5, "mail.max_retries": 0}
    async with post(own_redis.url, mongo_database_url, handle, overrides) as found:
        await found.send(*(raw_mail(n) for n in range(40)))
        await found.count("processed", 5)
        own_redis.pause()
        await asyncio.sleep(1.2)
        own_redis.resume()
        await found.until(lambda: len(found.stored()) == 40)
        await found.until(lambda: found.counts.get("processed", 0) + found.counts.get("duplicate", 0) >= 40)
        assert await found.letters() == []
        assert len(found.stored()) == 40


async def test_a_mongodb_that_goes_away_fails_no_mail(redis_url: str, own_mongo: MongoProcess) -> None:
    overrides = {"mongo.timeout": 0.5, "mail.max_retries": 0}
    async with post(redis_url, own_mongo.url("mails"), overrides=overrides) as found:
        await found.send(raw_mail(1))
        await found.count("processed", 1)
        own_mongo.pause()
        await found.send(raw_mail(2))
        await found.until(lambda: found.enricher.engine.outages)
        own_mongo.resume()
        await found.count("processed", 2)
        assert await found.letters() == []


async def test_what_a_worker_left_unfinished_is_taken_over_by_another(urls: Urls) -> None:
    begun: asyncio.Event = asyncio.Event()

    async def never(mail: Mail) -> None:
        begun.set()
        await asyncio.sleep(60)

    overrides = {"mail.consumer": "one", "service.drain_deadline": 0.1}
    async with post(*urls, never, overrides) as found:
        await found.send(raw_mail(1))
        await asyncio.wait_for(begun.wait(), PATIENCE)
    async with post(*urls, lambda mail: "done", {"mail.consumer": "two"}) as found:
        await found.count("processed", 1)
        assert found.stored()["1@x"]["result"] == "done"
        assert await found.pending() == 0


async def test_a_stop_finishes_what_was_begun(urls: Urls) -> None:
    async def handle(mail: Mail) -> None:
        await asyncio.sleep(0.3)

    async with post(*urls, handle) as found:
        await found.send(*(raw_mail(n) for n in range(5)))
        await found.until(lambda: found.counts.get("received") == 5)
    assert found.enricher.lost.total() == 0
    assert found.counts["processed"] == 5


async def test_two_routes_share_a_process_and_each_has_its_dead_letters(urls: Urls) -> None:
    async with post(*urls, overrides={"market.enabled": True}) as found:
        await found.send({"tenant": "x"}, raw_mail(1))
        await found.redis.publish("market:underlying", b"no tick")
        await found.count("dead", 1)
        await found.count("processed", 1)
        await found.until(lambda: found.redis.llen("dlq:enrichment"))
        assert await found.redis.xlen(LETTERS) == 1


async def test_a_dead_mail_sent_again_by_submit_is_processed(urls: Urls) -> None:
    async with post(*urls) as found:
        body = json.dumps({"raw": raw_mail(1).decode(), "tenant": "t"})
        await found.enricher.submit(STREAM, body, committed=True)
        assert found.stored()["1@x"]["fields"] == {"tenant": "t"}


async def test_the_line_of_statistics_is_logged_with_its_counts(
    redis_url: str, mongo_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And said again when they have changed, and at the end."""
    overrides = {"stats.summary_interval": 0.02, "stats.interval": 0.02}
    intervals: list[bool] = []
    monkeypatch.setattr("enricher.app.log.catch_up", lambda at_end=False: intervals.append(at_end))
    with capture_logs() as lines:
        async with post(redis_url, mongo_database_url, overrides=overrides) as found:
            await found.send(raw_mail(1), raw_mail(1), {"tenant": "x"})
            await found.count("processed", 1)
            await found.count("duplicate", 1)
            await found.count("dead", 1)
            wanted = "Worker Stats - Total: 3, Processed: 1, Skipped: 1, Failed: 1, DLQ: 1"
            await found.until(lambda: [line for line in lines if line["event"] == wanted])
            said = len(lines)
            target = len(intervals) + 20
            await found.until(lambda: len(intervals) > target)
            assert [line["event"] for line in lines[said:]] in ([], ["summary"])
    figures = next(line for line in lines if line["event"] == wanted)
    assert figures == {
        "event": wanted, "log_level": "info",
        "total": 3, "processed": 1, "skipped": 1, "failed": 1, "dlq": 1, "retried": 0,
    }
    assert [line["event"] for line in lines][-2:] == [wanted, "stopped"]


async def test_the_group_and_its_consumer_are_where_operators_look(urls: Urls) -> None:
    async with post(*urls, overrides={"mail.consumer": "worker_07"}) as found:
        await found.send(raw_mail(1))
        await found.count("processed", 1)
        (group,) = await found.redis.xinfo_groups(STREAM)
        assert group["name"] == GROUP.encode()
        (consumer,) = await found.redis.xinfo_consumers(STREAM, GROUP)
        assert consumer["name"] == b"worker_07"
        assert await found.redis.xlen(STREAM) == 1
