"""Claims, attempts and dead letters of mails without the rest, on a Redis of one's own."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.asyncio import Redis

from enricher.engine.claims import Found, State
from enricher.engine.retry import Retry
from enricher.errors import EnricherError, SinkUnavailable
from enricher.mail import Attempts, Idempotency, MailLetters, mail_policy, parse_message
from tests.servers import RedisProcess

STREAM = "email_ingestion_stream"


async def test_a_loop_of_ones_own_needs_nothing_but_the_parts(any_redis_url: str) -> None:
    async with Redis.from_url(any_redis_url) as client:
        seen, letters = Idempotency(client), MailLetters(client)
        attempts = Attempts(mail_policy(initial=1, longest=10, max_retries=2))
        done = []
        for message_id, data in [("a", {"n": "1"}), ("b", {"n": "bad"}), ("a", {"n": "1"})]:
            if await seen.is_duplicate(message_id):
                continue
            while attempts.should_retry(message_id):
                try:
                    done.append(int(data["n"]))
                except ValueError as error:
                    if not isinstance(attempts.record_failure(message_id, error), Retry):
                        await letters.send(message_id, data, error, attempts.failures(message_id) - 1)
                else:
                    attempts.record_success(message_id)
                    await seen.mark_processed(message_id)
                    break
        assert done == [1]
        (letter,) = await letters.peek()
        assert (letter.message_id, letter.original_data, letter.retry_count) == ("b", {"n": "bad"}, 2)
        assert letter.error.startswith("ValueError: ")
        assert await seen.count() == 1


async def test_a_dead_letter_goes_back_to_the_stream_whole_and_only_once(any_redis_url: str) -> None:
    async with Redis.from_url(any_redis_url, decode_responses=False) as client:
        letters = MailLetters(client, "dead")
        id_ = await letters.send("1@x", {"raw": b"\xff\x00", "tenant": "grün", "n": 7}, "broken", 3)
        added = await letters.reprocess(id_, STREAM)
        assert await client.xrange(STREAM) == [
            (added.encode(), {b"raw": b"\xff\x00", b"tenant": "grün".encode(), b"n": b"7"})
        ]
        assert await letters.count() == 0
        with pytest.raises(EnricherError, match="no dead letter"):
            await letters.reprocess(id_, STREAM)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, bytes.decode])
async def test_names_and_values_may_be_bytes_as_a_client_gives_them(redis_url: str, kind: Any) -> None:
    async with Redis.from_url(redis_url) as client:
        letters, seen = MailLetters(client, kind(b"dead")), Idempotency(client)
        attempts = Attempts(mail_policy())
        raw = b"Message-ID: <1@x>\r\nSubject: gr\xc3\xbcn\r\n\r\nhello"
        fields = {b"raw": raw, b"tenant": "grün".encode(), b"scan": b"\xff\x00"}
        # Some kinds of bytes are no names of a dictionary, and bytes that are no text are none in any case.
        name = bytes if kind in (bytearray, memoryview) else kind
        handed = {name(key): value if key == b"scan" else kind(value) for key, value in fields.items()}
        id_ = await letters.send(kind(b"1@x"), handed, kind(b"broken"), b"3")
        (letter,) = await letters.peek()
        assert (letter.message_id, letter.error, letter.retry_count) == ("1@x", "broken", 3)
        added = await letters.reprocess(kind(id_.encode()), kind(STREAM.encode()))
        assert await client.xrange(STREAM) == [(added.encode(), fields)]
        mail = parse_message(kind(raw), id=kind(b"1@x"), fields={name(b"tenant"): "x"})
        assert (mail.id, mail.subject, mail.fields) == ("1@x", "grün", {"tenant": "x"})
        await seen.mark_processed(kind(b"1@x"))
        assert await seen.is_duplicate("1@x")
        attempts.record_failure(kind(b"1@x"), OSError())
        assert attempts.failures("1@x") == 1


async def test_of_many_who_send_a_dead_letter_back_one_does(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        letters = MailLetters(client)
        id_ = await letters.send("1@x", {"subject": "s"}, "broken", 0)
        answers = await asyncio.gather(
            *(letters.reprocess(id_, STREAM) for _ in range(8)), return_exceptions=True
        )
        assert sum(isinstance(answer, str) for answer in answers) == 1
        assert await client.xlen(STREAM) == 1


async def test_what_is_no_mail_stays_among_the_dead_letters(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        letters = MailLetters(client)
        id_ = (await client.xadd(letters.stream, {"original_data": "not JSON", "retry_count": "x"})).decode()
        with pytest.raises(EnricherError, match="no fields"):
            await letters.reprocess(id_, STREAM)
        assert (await letters.peek())[0].retry_count == 0
        assert await letters.discard(id_)
        assert not await letters.discard(id_)


async def test_dead_letters_are_read_by_clients_that_decode_too(redis_url: str) -> None:
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        letters, seen = MailLetters(client), Idempotency(client)
        await letters.send("1@x", {"subject": "s"}, OSError("away"), 1)
        (letter,) = await letters.peek()
        assert (letter.error, letter.original_data) == ("OSError: away", {"subject": "s"})
        await seen.mark_processed("1@x")
        assert (await seen.begin("1@x")).state is State.PROCESSED


async def test_a_reservation_is_one_persons_until_it_is_given_up_or_ends(any_redis_url: str) -> None:
    async with Redis.from_url(any_redis_url) as client:
        seen = Idempotency(client)
        assert (await seen.begin("a", "me", 10_000)).state is State.OURS
        assert (await seen.begin("a", "me", 10_000)).state is State.OURS
        assert (await seen.begin("a", "you", 10_000)).state is State.BUSY
        assert not await seen.renew("a", "you", 10_000)
        await seen.release("a", "you")
        assert (await seen.begin("a", "you", 10_000)).state is State.BUSY
        assert await seen.renew("a", "me", 20)
        await asyncio.sleep(0.05)
        assert (await seen.begin("a", "you", 10_000)).state is State.OURS
        await seen.release("a", "you")
        assert (await seen.begin("a", "me", 10_000)).state is State.OURS


async def test_a_processed_mail_says_where_its_claim_is(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        seen = Idempotency(client)
        key, member = seen.claim("a@x")
        await seen.mark_processed("a@x")
        assert await seen.begin("a@x", "me", 1000) == Found(State.PROCESSED, key, member)
        await client.sadd("processed_messages:set", "<b@x>")
        assert await seen.begin("b@x") == Found(State.PROCESSED, "processed_messages:set", "<b@x>")
        assert (await seen.count(), await seen.count_old()) == (1, 1)


async def test_claims_live_for_their_lifetime_and_memory_is_bounded(redis_url: str) -> None:
    now = [1_000_000.0]
    async with Redis.from_url(redis_url) as client:
        seen = Idempotency(client, ttl=80, clock=lambda: now[0])
        assert await seen.mark_processed("a")
        assert not await seen.mark_processed("a")
        assert 40 < await client.ttl(seen.sets()[0]) <= 80
        for later in (1, 40, 80):
            now[0] = 1_000_000.0 + later
            assert await seen.is_duplicate("a")
        now[0] = 1_000_000.0 + 91
        assert not await seen.is_duplicate("a")
        for second in range(1000):
            now[0] = 2_000_000.0 + second
            await seen.mark_processed(str(second))
        assert await seen.count() <= 90
    with pytest.raises(ValueError, match="lifetime"):
        Idempotency(client, ttl=0)


async def test_a_claim_is_seen_by_those_whose_clocks_are_behind(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        ahead = Idempotency(client, ttl=80, clock=lambda: 1_000.5)
        behind = Idempotency(client, ttl=80, clock=lambda: 999.5)
        await ahead.mark_processed("a")
        await behind.mark_processed("b")
        assert [await each.is_duplicate(name) for each in (ahead, behind) for name in "ab"] == [True] * 4


async def test_a_redis_that_is_away_is_an_outage_and_no_duplicate(own_redis: RedisProcess) -> None:
    async with Redis.from_url(own_redis.url, socket_timeout=0.3) as client:
        seen = Idempotency(client)
        await seen.mark_processed("a")
        own_redis.pause()
        with pytest.raises(SinkUnavailable):
            await seen.is_duplicate("a")
        own_redis.resume()
        assert await seen.is_duplicate("a")


async def test_an_old_key_that_is_no_set_is_passed_over(redis_url: str) -> None:
    async with Redis.from_url(redis_url) as client:
        await client.set("processed_messages:set", "1")
        assert not await Idempotency(client).is_duplicate("a")
