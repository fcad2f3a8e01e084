"""Where settings come from, and which source wins."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import msgspec
import msgspec.inspect
import pytest

from enricher.config import RedisSettings, Section, Settings, environment_name, find_config, load
from enricher.config.settings import CORE_SECTIONS
from enricher.events.settings import EventSettings
from enricher.jobs.settings import JobSettings
from enricher.mail.settings import MailSettings
from enricher.market.quality.feed_quality import WatchSettings
from enricher.market.settings import MarketChannels, MarketSettings

MARKET: dict[str, type[Section]] = {"market": MarketSettings}
EVERY: dict[str, type[Section]] = {
    **MARKET,
    "mail": MailSettings,
    "jobs": JobSettings,
    "events": EventSettings,
}
SHIPPED = Path(__file__).parents[2] / "config.toml"


def write(folder: Path, text: str) -> Path:
    file = folder / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def dotenv(folder: Path, variables: dict[str, str]) -> Path:
    file = folder / ".env"
    file.write_text("".join(f"{name}={text}\n" for name, text in variables.items()), encoding="utf-8")
    return file


def test_without_any_source_everything_is_at_its_default() -> None:
    settings = load(sections=MARKET)
    assert settings == Settings(routes={"market": MarketSettings()})
    assert settings.redis.url == "redis://localhost:6379/0"
    assert settings.mongo.url == "mongodb://localhost:27017"
    assert settings.mongo.database_name == "deltastream"
    assert settings.service.name == "worker-enricher"


def test_the_shipped_file_loads_to_exactly_the_defaults() -> None:
    from_file, without = load(SHIPPED, sections=EVERY), load(sections=EVERY)
    assert from_file.sections() == without.sections()


def test_the_shipped_file_names_every_key() -> None:
    plain = msgspec.to_builtins(load(sections=EVERY).sections())
    text = SHIPPED.read_text(encoding="utf-8")
    shipped = tomllib.loads(text)
    assert {name: set(keys) for name, keys in shipped.items()} == {
        name: {key for key, value in keys.items() if value is not None} for name, keys in plain.items()
    }
    unset = [key for keys in plain.values() for key, value in keys.items() if value is None]
    # TOML has no null, so what is left out is named in a comment.
    assert unset == ["half_tick", "enabled", "enabled"]
    assert all(f"\n# {key} = " in text for key in unset)
    for section in ("channels", "watch"):
        assert set(shipped["market"][section]) == set(plain["market"][section])


def commented(file: Path) -> dict[str, str]:
    """The comment right above each key and above each table that has no keys, by dotted name."""
    found, section, above = {}, "", [""]
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            above.append(line.lstrip("# "))
            continue
        name = line.strip("[]") if line.startswith("[") else f"{section}.{line.partition(' = ')[0]}"
        section = name if line.startswith("[") else section
        if line:
            found[name] = " ".join(above)
        above = []
    return found


def plain(value: Any) -> Any:
    """The value as TOML has it."""
    return list(value) if isinstance(value, tuple) else value


def test_the_shipped_file_says_of_every_key_what_it_is_its_unit_and_its_default() -> None:
    comments = commented(SHIPPED)
    defaults: dict[str, Any] = msgspec.to_builtins(load(sections=EVERY).sections())
    for inner in ("channels", "watch"):
        defaults[f"market.{inner}"] = defaults["market"].pop(inner)
    kinds = {**CORE_SECTIONS, **EVERY, "market.channels": MarketChannels, "market.watch": WatchSettings}
    for section, keys in defaults.items():
        for field in msgspec.structs.fields(kinds[section]):
            if field.name not in keys or keys[field.name] is None:
                continue
            comment = comments[f"{section}.{field.name}"]
            what, _, written = comment.partition("(default ")
            assert len(what) > 10, f"{section}.{field.name} has no comment of its own"
            default = written.partition(")")[0].removesuffix(": none")
            assert tomllib.loads(f"x = {default}")["x"] == plain(keys[field.name]), f"{section}.{field.name}"
            info = msgspec.inspect.type_info(field.type)
            unit = (info.extra or {}).get("unit") if isinstance(info, msgspec.inspect.Metadata) else None
            assert {"s": "seconds", "bytes": "bytes", None: ""}[unit] in what.lower(), comment


def test_the_sources_win_in_their_order(tmp_path: Path) -> None:
    file = write(tmp_path, '[redis]\nurl = "redis://file"\n')
    old = {"REDIS_URL": "redis://old"}
    new = {"ENRICHER_REDIS__URL": "redis://new"}
    option = {"redis.url": "redis://option"}

    def url(path: Path | None, environ: dict[str, str], overrides: dict[str, Any]) -> str:
        return load(path, environ, overrides).redis.url

    assert url(file, {}, {}) == "redis://file"
    assert url(file, old, {}) == "redis://old"
    assert url(file, old | new, {}) == "redis://new"
    assert url(file, old | new, option) == "redis://option"


def test_the_sources_are_remembered_key_by_key(tmp_path: Path) -> None:
    file = write(tmp_path, "[pool]\nconcurrency = 8\n")
    settings = load(file, {"SERVICE_NAME": "mine"}, {"log.level": "debug"})
    assert settings.origins == {
        "pool.concurrency": str(file),
        "service.name": "SERVICE_NAME",
        "log.level": "overrides",
    }


def test_an_option_that_was_not_given_changes_nothing() -> None:
    assert load(overrides={"redis.url": None}) == load()


@pytest.mark.parametrize(
    ("written", "environ", "url"),
    [
        ({"REDIS_URL": "redis://w"}, {}, "redis://w"),
        ({"ENRICHER_REDIS__URL": "redis://w"}, {"REDIS_URL": "redis://e"}, "redis://e"),
        ({"REDIS_URL": "redis://w"}, {"REDIS_HOST": "e"}, "redis://e:6379/0"),
        ({"REDIS_URL": "redis://w", "REDIS_PORT": "7"}, {"REDIS_HOST": "e"}, "redis://e:7/0"),
        ({"REDIS_HOST": "w"}, {"REDIS_PORT": "7"}, "redis://w:7/0"),
        ({}, {"REDIS_HOST": "[::1]"}, "redis://[::1]:6379/0"),
        ({"REDIS_HOST": "w"}, {"REDIS_PORT": "tcp://10.0.0.1:6379"}, "redis://w:6379/0"),
        ({"REDIS_URL": "redis://w"}, {"REDIS_URL": ""}, "redis://localhost:6379/0"),
        ({"ENRICHER_REDIS__URL": "redis://w"}, {"REDIS_URL": ""}, "redis://w"),
    ],
)
def test_the_environment_wins_over_a_dotenv_file_by_whatever_name(
    written: dict[str, str], environ: dict[str, str], url: str, tmp_path: Path
) -> None:
    assert load(environ=environ, dotenv=dotenv(tmp_path, written)).redis.url == url


def test_an_old_name_in_the_environment_wins_over_the_new_one_in_a_dotenv_file(tmp_path: Path) -> None:
    kinds: dict[str, type[Section]] = {"mail": MailSettings}
    written = {"ENRICHER_MAIL__ENABLED": "true", "ENRICHER_MAIL__BATCH": "1", "CONSUMER_NAME": "written"}
    environ, file = {"BATCH_SIZE": "2"}, dotenv(tmp_path, written)
    mail = load(environ=environ, sections=kinds, dotenv=file).section(MailSettings)
    assert (mail.batch, mail.consumer) == (2, "written")


def test_the_old_names_are_read_and_an_empty_one_is_as_good_as_none() -> None:
    environ = {"REDIS_URL": "", "MONGO_URL": "mongodb://m/ticks", "SERVICE_NAME": "old"}
    settings = load(environ=environ)
    assert settings.redis.url == "redis://localhost:6379/0"
    assert settings.mongo.database_name == "ticks"
    assert settings.service.name == "old"


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("market.enabled", "false", False),
        ("market.enabled", "1", True),
        ("pool.concurrency", "8", 8),
        ("redis.protocol", "3", 3),
        ("redis.socket_timeout", "250ms", 0.25),
        ("redis.socket_timeout", "2.5", 2.5),
        ("service.drain_deadline", "1m", 60.0),
        ("market.claim_ttl", "1h", 3600),
        ("dead_letters.guard_ttl", "7d", 604_800),
        ("pool.max_bytes", "4MiB", 4_194_304),
        ("pool.max_bytes", "2MB", 2_000_000),
        ("log.level", "INFO", "info"),
        ("market.windows", "1, 5,60", (1, 5, 60)),
        ("market.channels.patterns", "market:*,vix:*", ("market:*", "vix:*")),
        ("market.channels.patterns", "", ()),
        ("market.timezones", "NIFTY=Asia/Kolkata", {"NIFTY": "Asia/Kolkata"}),
        ("mongo.database", "ticks", "ticks"),
    ],
)
def test_the_environment_is_read_by_the_kind_of_the_key(key: str, text: str, value: object) -> None:
    found: Any = load(environ={environment_name(key): text}, sections=MARKET)
    section, *path = key.split(".")
    found = found.sections()[section]
    for name in path:
        found = getattr(found, name)
    assert found == value
    assert type(found) is type(value)


def test_a_name_in_the_environment_has_two_underscores_between_section_and_key() -> None:
    assert environment_name("market.channels.underlying") == "ENRICHER_MARKET__CHANNELS__UNDERLYING"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("pool.turn_budget", "pool.time_slice", "10ms"),
        ("retry.cap", "retry.max_delay", "7"),
        ("streams.keep", "streams.retention", "1h"),
        ("mail.keep", "mail.retention", "1h"),
        ("market.cap", "market.max_concurrency", "3"),
    ],
)
def test_an_old_key_is_accepted_from_everywhere_and_the_new_one_wins(
    old: str, new: str, text: str, tmp_path: Path
) -> None:
    section, old_key, new_key = *old.split("."), new.partition(".")[2]
    right: Any = load(overrides={new: text}, sections=EVERY)
    file = write(tmp_path, f"[{section}]\n{old_key} = {getattr(right.sections()[section], new_key)}\n")
    ways: list[Any] = [
        load(file, sections=EVERY),
        load(environ={environment_name(old): text}, sections=EVERY),
        load(dotenv=dotenv(tmp_path, {environment_name(old): text}), sections=EVERY),
        load(overrides={old: text}, sections=EVERY),
    ]
    assert all(found.sections() == right.sections() and found.renamed == {old: new} for found in ways)
    for both in ({old: "99", new: text}, {new: text, old: "99"}):
        found = load(overrides=both, sections=EVERY)
        assert (found.sections(), found.renamed) == (right.sections(), {})


def test_text_with_a_unit_is_welcome_in_a_file_too(tmp_path: Path) -> None:
    file = write(tmp_path, '[redis]\nsocket_timeout = "250ms"\n[pool]\nmax_bytes = "1GiB"\n')
    settings = load(file)
    assert (settings.redis.socket_timeout, settings.pool.max_bytes) == (0.25, 1_073_741_824)


def test_a_whole_number_will_do_where_a_number_is_wanted(tmp_path: Path) -> None:
    assert load(write(tmp_path, "[market]\nlateness = 3\n"), sections=MARKET).section(
        MarketSettings
    ) == MarketSettings(lateness=3.0)


def test_a_file_that_begins_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(b'\xef\xbb\xbf[service]\nname = "x"\n')
    assert load(file).service.name == "x"


def test_the_file_is_the_one_asked_for_then_the_environments_then_the_folders(
    tmp_path: Path,
) -> None:
    here = write(tmp_path, "")
    environ = {"ENRICHER_CONFIG": "/etc/enricher/config.toml"}
    assert find_config(Path("asked.toml"), environ, tmp_path) == Path("asked.toml")
    assert find_config(None, environ, tmp_path) == Path("/etc/enricher/config.toml")
    assert find_config(None, {}, tmp_path) == here
    assert find_config(None, {}, tmp_path / "empty") is None
    assert find_config(None) is None


def test_a_section_is_handed_out_by_its_type() -> None:
    settings = load(environ={"ENRICHER_MARKET__LATENESS": "5"}, sections=MARKET)
    assert settings.section(MarketSettings).lateness == 5.0
    assert settings.section(RedisSettings) is settings.redis


def test_a_section_nobody_brought_is_a_lookup_error_that_lists_the_others() -> None:
    with pytest.raises(LookupError, match="MarketSettings; there are service, redis"):
        load().section(MarketSettings)


@pytest.mark.parametrize(
    ("url", "database", "name"),
    [
        ("mongodb://h", "", "deltastream"),
        ("mongodb://h/", "", "deltastream"),
        ("mongodb://h/?w=majority", "", "deltastream"),
        ("mongodb://u:p@h1:1,h2:2/ticks?w=majority", "", "ticks"),
        ("mongodb+srv://h/a%2Db", "", "a-b"),
        ("mongodb://h/ticks", "other", "other"),
        ("mongodb://u:p@h1:1,h2:2/admin?replicaSet=rs", "", "deltastream"),
        ("mongodb://h/local?authSource=users", "", "deltastream"),
        ("mongodb+srv://h/con%66ig", "", "deltastream"),
        ("mongodb://h/Admin", "", "deltastream"),
        ("mongodb://u:p@h/admin", "other", "other"),
        ("mongodb://h/administration", "", "administration"),
    ],
)
def test_the_database_is_the_setting_or_the_path_of_the_url(
    url: str, database: str, name: str
) -> None:
    overrides = {"mongo.url": url, "mongo.database": database}
    assert load(overrides=overrides).mongo.database_name == name


@pytest.mark.parametrize(
    ("url", "database", "warned_of"),
    [
        ("mongodb://worker:hunter2@h/admin", "", ["admin"]),
        ("mongodb://worker:hunter2@h/local?authSource=users", "", ["local"]),
        ("mongodb://worker:hunter2@h/admin", "ticks", []),
        ("mongodb://worker:hunter2@h/ticks?authSource=admin", "", []),
        ("mongodb://h", "", []),
    ],
)
def test_a_path_that_is_no_place_to_write_to_is_warned_of(
    url: str, database: str, warned_of: list[str]
) -> None:
    mongo = load(overrides={"mongo.url": url, "mongo.database": database}).mongo
    found = list(mongo.warnings())
    assert [next(name for name in ("admin", "local") if repr(name) in text) for text in found] == warned_of
    assert all("'deltastream'" in text and "hunter2" not in text for text in found)


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(AttributeError):
        load().redis.url = "redis://other"  # type: ignore[misc]
