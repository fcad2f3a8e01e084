"""`enricher check` and `enricher health` against real servers."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
import redis

from enricher import __version__
from enricher.build_info import described
from enricher.cli.main import exit_code
from enricher.clock import wall_clock
from enricher.events import PipelineRegistry
from tests.servers import RedisProcess, SearchProcess, Urls, free_port

pytestmark = pytest.mark.usefixtures("nobodys_settings")


Check = Callable[..., tuple[str, str]]


@pytest.fixture
def check(urls: Urls, capsys: pytest.CaptureFixture[str]) -> Check:
    """`enricher check` on both servers: what it says on standard output and on standard error."""

    def checked(*arguments: str, code: int = 0) -> tuple[str, str]:
        servers = ("--redis-url", urls.redis, "--mongo-url", urls.mongo)
        assert exit_code(["check", *servers, *arguments]) == code
        return capsys.readouterr()

    return checked


def row_of(text: str, word: str) -> list[str]:
    """The cells of the first line with this word."""
    return next(line.split() for line in text.splitlines() if word in line)


def test_with_both_servers_there_it_lists_routes_and_dead_letters(check: Check, urls: Urls) -> None:
    with redis.Redis.from_url(urls.redis) as client:
        client.lpush("dlq:enrichment", "one", "two")
    out, err = check()
    assert "2 dead letters in dlq:enrichment" in out
    assert "maxmemory-policy noeviction" in out
    assert out.startswith(f"enricher {__version__} on {described()}\n")
    row = ["market:option_chain", "process_option_chain", "documents+live", "drop_oldest"]
    assert row_of(out, "market:option_chain") == row
    assert err == ""


def test_a_key_that_holds_something_else_is_named_and_ends_it_with_1(
    check: Check, urls: Urls, capsys: pytest.CaptureFixture[str]
) -> None:
    with redis.Redis.from_url(urls.redis) as client:
        for key in ("dlq:enrichment", "email_ingestion_dlq"):
            client.set(key, "x")
    _, err = check("--quiet", "--set", "mail.enabled=true", code=1)
    assert "dlq:enrichment is a string, not a list" in err
    assert "email_ingestion_dlq is a string, not a stream" in err
    assert "unreachable" not in err
    assert exit_code(["mail", "--redis-url", urls.redis]) == 1
    assert "email_ingestion_dlq is a string, not a stream" in capsys.readouterr().err


def test_a_user_who_may_not_ask_for_the_version_is_no_server_that_is_away(
    check: Check, own_redis: RedisProcess
) -> None:
    own_redis.call("ACL", "SETUSER", "low", "on", ">p", "~*", "+@read", "+@connection", "-info")
    out, err = check("--redis-url", own_redis.url.replace("redis://", "redis://low:p@"))
    assert "of unknown version, maxmemory-policy unknown" in out
    assert err == ""


def test_quiet_says_nothing_when_all_is_well(check: Check) -> None:
    assert check("--quiet") == ("", "")


def test_each_server_that_is_away_is_named_without_its_password(check: Check, redis_url: str) -> None:
    away = f"mongodb://user:geheim@127.0.0.1:{free_port()}/d"
    # What the URL says wins: the one that is there has all the time it wants.
    there = f"{redis_url}?socket_timeout=60"
    out, err = check("-v", "--timeout", "300ms", "--redis-url", there, "--mongo-url", away, code=1)
    assert "MongoDB at mongodb://user:***@" in err
    assert "Redis" not in err
    assert "mongo.url" in out
    assert "geheim" not in out + err


def test_the_search_server_is_asked_where_there_is_one(check: Check, own_search: SearchProcess) -> None:
    url = own_search.url.replace("http://", "http://elastic:hush@")
    out, err = check("--set", f"search.url={url}", "--verbose")
    assert f"Search server at http://elastic:***@127.0.0.1:{own_search.port}: elasticsearch 8.15.3" in out
    own_search.kill()
    _, away = check("--set", f"search.url={url}", code=1)
    assert "Error: Search server at http://elastic:***@127.0.0.1" in away
    assert "is unreachable: ConnectionError: Cannot connect to host" in away
    assert "hush" not in out + err + away


def test_a_pipeline_that_names_no_possible_index_is_a_problem(
    check: Check, own_search: SearchProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wrong_index.py").write_text(
        "from enricher.events import ElasticsearchIndexNode, Event, Pipeline\n"
        "class Loud(Event):\n    shout: str\n"
        "class LoudPipeline(Pipeline):\n    event = Loud\n    start = ElasticsearchIndexNode\n"
        "    def __init__(self):\n        super().__init__()\n"
        "        self.add_node(ElasticsearchIndexNode('Loud'))\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(PipelineRegistry, "pipelines", {})
    given = ("--set", f"search.url={own_search.url}", "--set", "events.packages=wrong_index")
    _, err = check(*given, code=1)
    assert "the pipeline of Loud cannot be made: PipelineError: ElasticsearchIndexNode: index 'Loud'" in err
    assert "expected the name of an index: lower case, at most 255 bytes, such as 'loud'" in err


def test_a_frozen_redis_counts_as_away(check: Check, own_redis: RedisProcess) -> None:
    own_redis.pause()
    _, err = check("--timeout", "300ms", "--redis-url", own_redis.url, code=1)
    own_redis.resume()
    assert "Redis at" in err


def test_an_eviction_policy_that_may_throw_away_dead_letters_is_warned_of(
    check: Check, own_redis: RedisProcess
) -> None:
    for policy, warned in (("allkeys-lru", True), ("volatile-lru", False)):
        own_redis.call("CONFIG", "SET", "maxmemory-policy", policy)
        _, err = check("--quiet", "--redis-url", own_redis.url)
        assert f"maxmemory-policy {policy}" in err if warned else err == ""


def test_claims_that_live_shorter_than_a_window_are_warned_of(check: Check) -> None:
    _, err = check("--set", "market.claim_ttl=60", "--set", "market.windows=1,5")
    assert "market.claim_ttl 60 s is shorter than the longest window, 300 s" in err


def test_an_old_key_works_and_is_warned_of(check: Check) -> None:
    out, err = check("-v", "--set", "streams.keep=2h", "--set", "pool.turn_budget=10ms")
    assert "Warning: streams.keep (command line) is an old name; write streams.retention" in err
    assert "Warning: pool.turn_budget (command line) is an old name; write pool.time_slice" in err
    assert row_of(out, "streams.retention") == ["streams.retention", "7200.0", "command", "line"]


def test_dead_letters_in_a_redis_of_their_own_are_asked_for_there(
    check: Check, own_redis: RedisProcess
) -> None:
    own_redis.call("LPUSH", "letters", "one")
    out, _ = check("--set", f"dead_letters.url={own_redis.url}", "--set", "dead_letters.key=letters")
    assert "1 dead letters in letters" in out


def test_streams_are_listed_with_length_lag_and_pending(check: Check, redis_url: str) -> None:
    stream, group = "enricher:intake:worker-enricher", "worker-enricher"
    intake = ("--set", "streams.intake=market:underlying=stream")
    out, _ = check(*intake)
    assert row_of(out, stream) == [stream, group, "-", "-", "-", "-", "-"]
    assert "market:underlying" in out
    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("*") == []
        client.xgroup_create(stream, group, "0", mkstream=True)
        client.xgroup_create(stream, "worker-enricher:0/3", "0")
        client.xgroup_create(stream, b"other\xff", "0")
        for number in range(5):
            client.xadd(stream, {"body": number})
        client.xreadgroup(group, "one", {stream: ">"}, count=2)
    out, err = check(*intake)
    assert row_of(out, stream) == [stream, group, "5", "3", "2", "0", "-"]
    assert "nobody with these settings reads for other\\xff, worker-enricher:0/3" in err


def test_every_shard_and_the_spill_are_listed(check: Check) -> None:
    more = ("--set", "streams.shard=1/2", "--set", "market.overload=spill", "--set", "service.instance=blue")
    out, _ = check(*more, "--set", "streams.intake=market:underlying=stream")
    assert [line.split()[:2] for line in out.splitlines() if "enricher:" in line] == [
        ["enricher:intake:worker-enricher", "worker-enricher:0/2"],
        ["enricher:intake:worker-enricher", "worker-enricher:1/2"],
        ["enricher:spill:worker-enricher:blue", "worker-enricher"],
    ]


def test_the_mails_stream_is_listed_with_its_dead_letters(check: Check, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.xadd("email_ingestion_dlq", {"error": "no"})
    out, _ = check("--set", "mail.enabled=true")
    assert row_of(out, "email_processor_group")[-3:] == ["1", "in", "email_ingestion_dlq"]


def test_dead_letters_on_a_stream_are_counted(check: Check, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.xadd("dlq:enrichment", {"letter": "{}"})
    assert "1 dead letters in dlq:enrichment" in check("--set", "dead_letters.store=stream")[0]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--set", "pool.concurrency=0"], "pool.concurrency"),
        (["--set", "streams.shard=4/4"], "streams.shard"),
        (["--set", "streams.intake=market:trad=stream"], "streams.intake"),
        (["--set", "pool.concurency=1"], "did you mean 'pool.concurrency'?"),
        (["--set", "nonsense"], "section.key=value"),
        (["--config", "no-such-file.toml"], "no-such-file.toml"),
        (["--redis-url", "http://somewhere"], "redis.url"),
        (["--redis-url", "redis://host/0?socket_timeout=long"], "redis.url"),
        (["--redis-url", "redis://host/0?no_such_option=1"], "no_such_option"),
        (["--mongo-url", "mongodb://host/?nosuchoption=1"], "nosuchoption"),
        (["--mongo-url", "mongodb+srv://cluster.example.org/?nosuchoption=1"], "nosuchoption"),
        (["--mongo-url", "mongodb://host/?nosuchoption=1"], "expected an address the client takes"),
        (["--mongo-url", "mongodb://us:er:p@ss@host"], "mongo.url"),
        (["--mongo-url", "mongodb://host:99999"], "mongo.url"),
        (["--timeout", "soon"], "20s, 2m or 1h"),
    ],
)
def test_what_is_wrong_with_a_setting_is_said_with_exit_code_2(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(["check", *arguments]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("ENRICHER_POOL__CONCURRENCY=0\n", "ENRICHER_POOL__CONCURRENCY: pool.concurrency = '0'"),
        ("ENRICHER_POOL__CONCURENCY=1\n", "ENRICHER_POOL__CONCURENCY = '1'"),
        ("REDIS_URL=localhost\n", "REDIS_URL: redis.url = '***'"),
        ("MONGO_URL=mongodb://host:99999\n", "MONGO_URL: mongo.url"),
        ("# fine\nREDIS_URL redis://:geheim@h\n", "line 2"),
    ],
)
def test_a_mistake_in_the_env_file_names_the_file_and_the_name_with_exit_code_2(
    tmp_path: Path, text: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text(text)
    assert exit_code(["check"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"Wrong setting: {tmp_path / '.env'}: ")
    assert named in err
    assert "geheim" not in err


def test_what_the_environment_overrides_in_the_env_file_is_blamed_on_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / ".env").write_text("REDIS_URL=redis://h\n")
    monkeypatch.setenv("REDIS_URL", "localhost")
    assert exit_code(["check"]) == 2
    assert capsys.readouterr().err.startswith("Wrong setting: REDIS_URL: redis.url")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('[streams.intake]\n"market:trad" = "stream"\n', "streams.intake = 'market:trad'"),
        ('[mail]\nenabled = true\nhandler = "nowhere:on_mail"\n', "mail.handler = 'nowhere:on_mail'"),
    ],
)
def test_what_turns_out_wrong_only_in_use_names_the_file_all_the_same(
    tmp_path: Path, text: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.toml").write_text(text)
    assert exit_code(["check"]) == 2
    assert capsys.readouterr().err.startswith(f"Wrong setting: {tmp_path / 'config.toml'}: {named}")


def leave_figures(url: str, instance: str, status: str, age: float = 0.0) -> None:
    figures = {
        "service": "worker-enricher",
        "instance": instance,
        "status": status,
        "now_us": wall_clock() - int(age * 1e6),
    }
    with redis.Redis.from_url(url) as client:
        client.set(f"enricher:stats:worker-enricher:{instance}", msgspec.json.encode(figures), ex=60)


HERE = f"{socket.gethostname()}-4711"


@pytest.mark.parametrize(
    ("instance", "status", "age", "code"),
    [
        (HERE, "ready", 0.0, 0),
        (HERE, "degraded", 0.0, 0),
        (HERE, "starting", 0.0, 1),
        (HERE, "stopping", 0.0, 1),
        (HERE, "ready", 20.0, 1),
        ("some-other-host-4711", "ready", 0.0, 1),
    ],
)
def test_health_asks_whether_this_hosts_worker_is_fresh_and_at_work(
    redis_url: str, instance: str, status: str, age: float, code: int
) -> None:
    leave_figures(redis_url, instance, status, age)
    assert exit_code(["health", "--redis-url", redis_url]) == code


def test_health_asks_for_a_configured_instance_and_age(redis_url: str) -> None:
    leave_figures(redis_url, "blue", "ready", age=20.0)
    ask = ["health", "--redis-url", redis_url, "--set", "service.instance=blue"]
    assert exit_code([*ask, "--max-age", "1m"]) == 0
    assert exit_code([*ask, "--max-age", "10s"]) == 1


def test_health_is_1_without_redis() -> None:
    assert exit_code(["health", "--redis-url", f"redis://127.0.0.1:{free_port()}"]) == 1
