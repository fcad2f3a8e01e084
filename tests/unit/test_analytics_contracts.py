"""Which product has which terms, and when its options expire."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import msgspec
import pytest
import QuantLib as ql  # noqa: N813  (its usual name)
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.contracts import Contract, years
from enricher.clock import SECOND, event_us, to_date
from enricher.market.products import SHIPPED, Contracts, ProductSettings

SHIPPED_CONTRACTS = Contracts()


def us(text: str) -> int:
    return event_us(text)[0]


@pytest.mark.parametrize(
    ("product", "expiry", "moment"),
    [
        ("NIFTY", "2025-10-28", "2025-10-28T15:30:00+05:30"),
        ("SENSEX", "2025-10-30", "2025-10-30T15:30:00+05:30"),
        ("SPX", "2025-06-20", "2025-06-20T09:30:00-04:00"),
        ("SPXW", "2025-06-20", "2025-06-20T16:00:00-04:00"),
        ("SPXW", "2025-12-19", "2025-12-19T16:00:00-05:00"),
        ("BTC", "2025-12-26", "2025-12-26T08:00:00+00:00"),
        ("nobody knows it", "2025-12-26", "2025-12-27T00:00:00+00:00"),
    ],
)
def test_an_option_expires_at_its_product_s_time_and_zone(product: str, expiry: str, moment: str) -> None:
    assert SHIPPED_CONTRACTS.of(product).expiry_us(expiry) == us(moment)


def test_what_is_no_date_has_no_expiry() -> None:
    with pytest.raises(ValueError, match="isoformat"):
        SHIPPED_CONTRACTS.of("NIFTY").expiry_us("28-Oct-2025")


def test_the_worked_example_of_the_volatility_index_has_its_years_by_minutes() -> None:
    expiry = us("2030-01-24T08:30:00+00:00")
    assert years(expiry, expiry - 34_484 * 60 * SECOND) == pytest.approx(34_484 / 525_600, rel=1e-15)


def test_an_expired_option_has_no_years_left() -> None:
    assert years(5, 5) == 0
    assert years(4, 5) < 0


@given(st.integers(0, 4000))
def test_years_are_those_of_act_365_fixed(days: int) -> None:
    start = ql.Date(15, 2, 2024)
    expected = ql.Actual365Fixed().yearFraction(start, start + days)
    assert years(days * 86_400 * SECOND, 0) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize(
    ("product", "entry"),
    [
        ("NIFTY", "NIFTY"),
        ("nifty", "NIFTY"),
        ("NSE:NIFTY", "NIFTY"),
        ("NIFTY 50", "NIFTY"),
        ("NIFTY25OCT25000CE", "NIFTY"),
        ("NIFTY BANK", "BANKNIFTY"),
        ("^SPX", "SPX"),
        ("SPXW251017", "SPXW"),
        ("BTC-27DEC24", "BTC"),
        ("BTC_USDC-27DEC24", "BTC_USDC"),
        ("BTC27DEC24", "BTC"),
        ("BTC-USDT", "default"),
        ("BTC/USD", "default"),
        ("ETH_USDT", "default"),
        ("DERIBIT:BTC-27DEC24", "BTC"),
        ("DERIBIT:SOL_USDC", "DERIBIT_USDC"),
        ("NSE:RELIANCE", "NSE_STOCK"),
        ("NASDAQ:AAPL", "US_STOCK"),
        ("NIFTYBEES", "default"),
        ("NIFTY IT", "default"),
        ("RELIANCE", "default"),
        (":", "default"),
        ("", "default"),
    ],
)
def test_a_product_finds_its_entry_by_name_expiry_exchange_or_not_at_all(product: str, entry: str) -> None:
    assert SHIPPED_CONTRACTS.of(product).name == entry


@given(st.text(max_size=30))
def test_every_product_has_a_contract(product: str) -> None:
    assert SHIPPED_CONTRACTS.of(product).expiry_us("2025-10-28") > 0


def test_more_names_than_are_remembered_are_answered_too() -> None:
    contracts = Contracts()
    assert {contracts.of(f"ACME{number}").name for number in range(5000)} == {"default"}
    assert contracts.of("NIFTY").name == "NIFTY"


def test_terms_that_nobody_named_are_marked_as_assumed() -> None:
    assert SHIPPED_CONTRACTS.of("RELIANCE").assumed
    assert sorted(name for name, entry in SHIPPED.items() if entry.assumed) == ["NSE_STOCK", "default"]


@pytest.mark.parametrize(
    ("product", "expiry", "units"),
    [
        ("NIFTY", "2025-12-30", 75),
        ("NIFTY", "2026-01-06", 65),
        ("BANKNIFTY", "2025-06-26", 30),
        ("BANKNIFTY", "2025-07-31", 35),
        ("BANKNIFTY", "2026-01-27", 30),
        ("SPX", "2026-01-16", 100),
        ("BTC", "2026-01-30", 1),
    ],
)
def test_open_interest_counts_by_the_lot_of_its_expiry(product: str, expiry: str, units: float) -> None:
    assert SHIPPED_CONTRACTS.of(product).units(expiry) == units


def test_open_interest_in_units_does_not_count_by_the_lot() -> None:
    contract = Contract(name="X", lot=75, multiplier=2, oi_unit="units")
    assert contract.units("2025-10-28") == 2


def test_a_setting_changes_one_product_and_nothing_else() -> None:
    contracts = Contracts({"NIFTY": ProductSettings(rate=0.1, lot=25)})
    nifty = contracts.of("NIFTY")
    assert (nifty.rate, nifty.units("2025-12-30"), nifty.zone) == (0.1, 25, "Asia/Kolkata")
    assert contracts.of("NIFTY25OCT") == nifty
    assert contracts.of("BANKNIFTY") == SHIPPED["BANKNIFTY"]


def test_a_product_can_start_from_another_entry() -> None:
    contracts = Contracts({"RELIANCE": ProductSettings(like="NSE_STOCK", lot=500)})
    found = contracts.of("RELIANCE")
    assert (found.name, found.expiry_time, found.lot, found.assumed) == ("RELIANCE", "15:30", 500, False)


def test_a_default_of_one_s_own_serves_all_unknown_products_and_those_set_without_a_like() -> None:
    settings = {"ACME": ProductSettings(lot=7), "default": ProductSettings(like="US_STOCK")}
    contracts = Contracts(settings)
    assert contracts.of("ANYTHING").zone == "America/New_York"
    assert contracts.of("ACME").exercise == "american"


def test_the_terms_are_published_as_plain_data() -> None:
    terms = SHIPPED_CONTRACTS.of("NIFTY").conventions("2025-10-28")
    assert terms["lot"] == 75
    assert terms["day_count"] == "ACT/365"
    assert msgspec.json.decode(msgspec.json.encode(terms)) == terms


def test_a_session_has_the_hours_of_its_local_day() -> None:
    tuesday = SHIPPED_CONTRACTS.of("NIFTY").session(us("2025-10-14T20:00:00+00:00"))
    assert to_date(tuesday.start_us).astimezone(ZoneInfo("Asia/Kolkata")).isoformat() == (
        "2025-10-15T00:00:00+05:30"
    )
    assert tuesday.open_us == us("2025-10-15T09:15:00+05:30")
    assert tuesday.is_open(us("2025-10-15T15:29:59+05:30"))
    assert not tuesday.is_open(us("2025-10-15T15:30:00+05:30"))


def test_weekends_and_holidays_have_no_hours() -> None:
    contract = Contracts({"NIFTY": ProductSettings(holidays=("2025-10-21",))}).of("NIFTY")
    assert contract.session(us("2025-10-18T12:00:00+05:30")).open_us is None
    assert contract.session(us("2025-10-21T12:00:00+05:30")).open_us is None
    assert contract.session(us("2025-10-20T12:00:00+05:30")).open_us is not None


def test_a_market_that_never_closes_is_open_at_midnight() -> None:
    contract = SHIPPED_CONTRACTS.of("BTC")
    for second in (-1, 0, 1):
        moment = us("2025-10-19T00:00:00+00:00") + second * SECOND
        assert contract.session(moment).is_open(moment)


def test_a_day_of_a_changed_clock_has_its_true_length() -> None:
    session = SHIPPED_CONTRACTS.of("SPX").session(us("2025-03-09T12:00:00+00:00"))
    assert session.end_us - session.start_us == 23 * 3600 * SECOND


@given(st.datetimes(datetime(2001, 1, 1), datetime(2100, 1, 1)), st.sampled_from(sorted(SHIPPED)))  # noqa: DTZ001
def test_every_moment_lies_in_the_session_of_its_day(moment: datetime, name: str) -> None:
    at = round(moment.replace(tzinfo=UTC).timestamp() * SECOND)
    session = SHIPPED[name].session(at)
    assert session.start_us <= at < session.end_us
    assert abs(session.end_us - session.start_us - 86_400 * SECOND) <= timedelta(hours=1).seconds * SECOND


def test_a_table_of_the_configuration_becomes_settings() -> None:
    table = {"NIFTY": {"rate": 0.1, "session_open": "09:15", "session_close": "15:30"}}
    found = msgspec.convert(table, dict[str, ProductSettings])
    assert found["NIFTY"].rate == 0.1
    assert list(found["NIFTY"].validate()) == []


def test_a_misspelt_key_of_a_product_is_an_error() -> None:
    with pytest.raises(msgspec.ValidationError, match="lott"):
        msgspec.convert({"lott": 75}, ProductSettings)


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        (ProductSettings(like="NIFTI"), "like"),
        (ProductSettings(zone="Asia/Calcuta"), "zone"),
        (ProductSettings(expiry_time="25:00"), "expiry_time"),
        (ProductSettings(expiry_time="9:30"), "expiry_time"),
        (ProductSettings(session_open="09:15"), "session_open"),
        (ProductSettings(session_open="15:30", session_close="09:15"), "session_close"),
        (ProductSettings(holidays=("21-10-2025",)), "holidays"),
    ],
)
def test_a_wrong_setting_is_named(settings: ProductSettings, key: str) -> None:
    assert [name for name, _ in settings.validate()] == [key]


@given(st.dates(), st.sampled_from(sorted(SHIPPED)))
def test_every_date_of_the_calendar_has_an_instant(day: date, name: str) -> None:
    instant = SHIPPED[name].expiry_us(day.isoformat())
    assert abs(instant - (day - date(1970, 1, 1)).days * 86_400 * SECOND) <= 36 * 3600 * SECOND


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
@pytest.mark.parametrize("name", sorted(SHIPPED))
def test_the_first_and_the_last_date_have_an_instant_too(day: str, name: str) -> None:
    assert (SHIPPED[name].expiry_us(day) > 0) == (day > "1970")
