"""The newest volatilities, one a strike, and the sorted set that mirrors the quotes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.clock import MINUTE, SECOND, event_us, render
from enricher.market.products import Contracts
from enricher.market.surface.surface import QuoteSurface, cutoff, volatility_surface
from enricher.messages.models import Quote, decode_chain, decode_quote, digest

START = event_us("2025-10-14T10:00:00")[0]
NEAR, FAR = "2025-10-30", "2025-11-27"


def quote(
    strike: float = 100, iv: Any = 0.2, kind: str = "CALL", at: int = 0, expiry: str = NEAR
) -> tuple[Quote, str]:
    message = {"symbol": f"N{strike}{kind}", "product": "N", "strike": strike, "iv": iv}
    message |= {"expiry": expiry, "option_type": kind, "timestamp": render(START + at, True)}
    body = json.dumps(message).encode()
    return decode_quote(body, now_us=2**60), digest(body)


def member(surface: QuoteSurface, quote: Quote, digest: str) -> bytes | None:
    """What the option of a quote has in the sorted set from then on; None where that is as before."""
    latest, moved = surface.fold_quote(quote, digest)
    return latest.member(quote.expiry) if moved else None


def fold_chain(surface: QuoteSurface, calls: dict[float, Any], at: int = 0, expiry: str = NEAR) -> bool:
    legs = [{"strike": strike, "iv": iv} for strike, iv in calls.items()]
    message = {"product": "N", "expiry": expiry, "spot_price": 100, "calls": legs, "puts": []}
    body = json.dumps(message | {"timestamp": render(START + at, True)}).encode()
    return surface.fold_chain(decode_chain(body, now_us=2**60), digest(body))


def never(expiry: str) -> bool:
    return False


def payload(surface: QuoteSurface, spot: float | None = 100) -> list[dict[str, Any]]:
    found = volatility_surface(surface, "N", "t", spot, never)
    assert (found["product"], found["timestamp"]) == ("N", "t")
    expiries: list[dict[str, Any]] = found["expiries"]
    return expiries


def ivs(surface: QuoteSurface, spot: float | None = 100) -> dict[float, float]:
    (expiry,) = payload(surface, spot)
    return dict(zip(expiry["strikes"], expiry["ivs"], strict=True))


def test_strikes_ascend_beside_their_volatilities_with_a_plain_mean() -> None:
    surface = QuoteSurface()
    surface.fold_quote(*quote(110, 0.3, expiry=FAR))
    for strike, iv in ((110, 0.3), (90, 0.1), (100, 0.2)):
        surface.fold_quote(*quote(strike, iv))
    assert payload(surface) == [
        {"expiry": NEAR, "strikes": [90, 100, 110], "ivs": [0.1, 0.2, 0.3], "avg_iv": 0.2},
        {"expiry": FAR, "strikes": [110], "ivs": [0.3], "avg_iv": 0.3},
    ]


def test_of_call_and_put_the_one_out_of_the_money_counts() -> None:
    surface = QuoteSurface()
    for strike in (90, 100, 110):
        surface.fold_quote(*quote(strike, 0.25, "CALL"))
        surface.fold_quote(*quote(strike, 0.75, "PUT"))
    assert ivs(surface) == {90: 0.75, 100: 0.5, 110: 0.25}
    assert ivs(surface, spot=None) == {90: 0.5, 100: 0.5, 110: 0.5}


def test_an_option_in_the_money_counts_when_it_is_the_only_one() -> None:
    surface = QuoteSurface()
    surface.fold_quote(*quote(90, 0.25, "CALL"))
    assert ivs(surface) == {90: 0.25}


def test_unusable_volatilities_are_left_out() -> None:
    surface = QuoteSurface()
    for strike, iv in ((90, None), (100, 0), (110, -0.1), (120, 10**400)):
        assert member(surface, *quote(strike, iv)) is None
    fold_chain(surface, {90: None, 100: 0, 110: -1})
    assert payload(surface) == []
    assert payload(QuoteSurface()) == []


def test_quotes_count_for_five_minutes_of_event_time() -> None:
    surface = QuoteSurface()
    surface.fold_quote(*quote(90, 0.1))
    surface.fold_quote(*quote(100, 0.2, at=1))
    surface.fold_quote(*quote(110, 0.3, at=5 * MINUTE))
    assert ivs(surface) == {100: 0.2, 110: 0.3}


def test_the_newest_chain_counts_whatever_its_age_and_others_for_five_minutes() -> None:
    surface = QuoteSurface()
    fold_chain(surface, {100: 0.1}, at=0, expiry=FAR)
    fold_chain(surface, {100: 0.2}, at=SECOND, expiry=NEAR)
    surface.fold_quote(*quote(110, 0.3, at=10 * MINUTE))
    assert ivs(surface) == {100: 0.2, 110: 0.3}


def test_a_surface_of_a_moment_knows_nothing_of_later_quotes_but_the_ones_before_them() -> None:
    surface = QuoteSurface()
    fold_chain(surface, {90: 0.1, 100: 0.1}, at=0)
    for strike, iv, at in ((90, 0.2, 1), (100, 0.2, 3), (110, 0.2, 1), (110, 0.4, 9), (120, 0.4, 9)):
        surface.fold_quote(*quote(strike, iv, at=at * SECOND))
    surface.fold_quote(*quote(100, 0.25, at=2 * SECOND))

    def drawn(at: int) -> dict[float, float]:
        (row,) = volatility_surface(surface, "N", "t", 100, never, START + at * SECOND)["expiries"]
        return dict(zip(row["strikes"], row["ivs"], strict=True))

    assert drawn(2) == {90: 0.2, 100: 0.25, 110: 0.2}
    assert drawn(8) == {90: 0.2, 100: 0.2, 110: 0.2}
    assert drawn(9) == {90: 0.2, 100: 0.2, 110: 0.4, 120: 0.4}


def test_of_quote_and_leg_the_later_speaks_and_the_leg_at_equal_times() -> None:
    surface = QuoteSurface()
    fold_chain(surface, {90: 0.1, 100: 0.1, 110: 0.1}, at=SECOND)
    surface.fold_quote(*quote(90, 0.2, at=0))
    surface.fold_quote(*quote(100, 0.2, at=SECOND))
    surface.fold_quote(*quote(110, 0.2, at=2 * SECOND))
    assert ivs(surface) == {90: 0.1, 100: 0.1, 110: 0.2}


def test_an_older_chain_changes_nothing() -> None:
    surface = QuoteSurface()
    assert fold_chain(surface, {100: 0.2}, at=SECOND)
    assert not fold_chain(surface, {100: 0.1}, at=0)
    assert not fold_chain(surface, {100: 0.2}, at=SECOND)
    assert ivs(surface) == {100: 0.2}


def test_a_quote_adds_its_member_and_replaces_its_own_old_one() -> None:
    surface = QuoteSurface()
    assert member(surface, *quote(100, 0.2)) == b'{"strike":100,"iv":0.2,"expiry":"2025-10-30"}'
    second = member(surface, *quote(100, 0.3, at=1))
    assert second is not None
    assert json.loads(second) == {"strike": 100, "iv": 0.3, "expiry": NEAR}
    assert member(surface, *quote(100, 0.4, at=0)) is None
    assert member(surface, *quote(100, 0.3, at=2)) is None
    assert member(surface, *quote(100, None, at=3)) == b""


def test_a_member_is_written_as_its_quote_was() -> None:
    surface = QuoteSurface()
    assert member(surface, *quote(100, 1)) == b'{"strike":100,"iv":1,"expiry":"2025-10-30"}'
    assert member(surface, *quote(100, 1.0, at=1)) == b'{"strike":100,"iv":1.0,"expiry":"2025-10-30"}'
    assert member(surface, *quote(100.0, 1.0, at=2)) == b'{"strike":100.0,"iv":1.0,"expiry":"2025-10-30"}'
    assert member(surface, *quote(100.0, 1.0, at=3)) is None


def test_an_option_leaves_a_member_that_call_and_put_share_also_when_it_has_none_after_it() -> None:
    surface = QuoteSurface()
    assert member(surface, *quote(100, 0.2, "CALL")) == member(surface, *quote(100, 0.2, "PUT"))
    assert member(surface, *quote(100, None, "CALL", at=1)) == b""


def test_what_has_expired_leaves_the_surface_and_the_set() -> None:
    surface = QuoteSurface()
    surface.fold_quote(*quote(100, 0.2))
    kept = member(surface, *quote(100, 0.2, expiry=FAR))
    fold_chain(surface, {100: 0.1})
    after = cutoff(Contracts().of("N"), event_us("2025-10-31T00:00:00")[0]).expired
    assert [found["expiry"] for found in payload(surface)] == [NEAR, FAR]
    found = volatility_surface(surface, "N", "t", 100, after)["expiries"]
    assert [expiry["expiry"] for expiry in found] == [FAR]
    surface.drop_expired(after)
    assert [latest.member(expiry) for (expiry, _, _), latest in surface.standing()] == [kept]


@pytest.mark.parametrize(
    ("product", "instant"),
    [
        ("NIFTY", "2025-10-30T15:30:00+05:30"),
        ("BTC", "2025-10-30T08:00:00+00:00"),
        ("SPX", "2025-10-30T09:30:00-04:00"),
        ("SPXW", "2025-10-30T16:00:00-04:00"),
        ("N", "2025-10-31T00:00:00+00:00"),
    ],
)
def test_an_expiry_lasts_until_the_instant_of_its_contract(product: str, instant: str) -> None:
    contract, at = Contracts().of(product), event_us(instant)[0]
    assert not cutoff(contract, at - 1).expired(NEAR)
    assert cutoff(contract, at).expired(NEAR)
    assert not cutoff(contract, at).expired("2025-10-31")


moments = st.integers(event_us("2025-01-01T00:00:00")[0], event_us("2027-01-01T00:00:00")[0])


@given(moments, st.sampled_from(["NIFTY", "BTC", "SPX", "SPXW", "N"]), st.integers(-3, 3))
def test_a_cutoff_says_of_every_date_what_its_contract_says_and_until_when(
    moment: int, product: str, days: int
) -> None:
    contract = Contracts().of(product)
    found = cutoff(contract, moment)
    day = render(moment + days * 24 * 60 * MINUTE, True)[:10]
    assert found.expired(day) == (contract.expiry_us(day) <= moment)
    last, then = cutoff(contract, found.until_us - 1), cutoff(contract, found.until_us)
    assert (last.before, last.today) == (found.before, found.today)
    assert (then.before, then.today) != (found.before, found.today)


@pytest.mark.parametrize("product", ["NIFTY", "BTC", "SPX", "N"])
@pytest.mark.parametrize("moment", ["0002-01-01T00:00:00", "2025-10-30T10:00:00", "9998-12-31T23:59:59"])
def test_the_first_and_the_last_date_there_is_are_expiries_like_others(product: str, moment: str) -> None:
    found = cutoff(Contracts().of(product), event_us(moment)[0])
    assert found.expired("0001-01-01")
    assert not found.expired("9999-12-31")


feeds = st.lists(
    st.tuples(
        st.sampled_from([90, 100]),
        st.sampled_from([None, 0.1, 0.2, 0.3]),
        st.sampled_from(["CALL", "PUT"]),
        st.integers(0, 4),
    ),
    max_size=20,
)


@given(feeds, st.randoms(use_true_random=False))
def test_the_set_follows_the_changes_and_the_order_of_arrival_never_shows(
    feed: list[tuple[int, float | None, str, int]], rng: Any
) -> None:
    def mirrored(order: list[tuple[int, float | None, str, int]]) -> dict[tuple[int, str], bytes]:
        surface, members = QuoteSurface(), dict[tuple[int, str], bytes]()
        for strike, iv, option_type, at in order:
            moved = member(surface, *quote(strike, iv, option_type, at))
            if moved is not None:
                members[strike, option_type] = moved
        stood = ((key, latest.member(NEAR)) for key, latest in surface.standing())
        standing = {(strike, kind): text for (_, strike, kind), text in stood if text}
        found = {option: text for option, text in members.items() if text}
        assert found == standing
        return found

    assert mirrored(feed) == mirrored(rng.sample(feed, len(feed)))


steps = st.lists(
    st.tuples(
        st.sampled_from(["quote", "chain", "draw"]),
        st.sampled_from([90, 95, 100, 105, 110]),
        st.sampled_from([None, 0, 0.1, 0.2, 0.3]),
        st.sampled_from(["CALL", "PUT"]),
        st.integers(0, 12).map(lambda minutes: minutes * MINUTE),
        st.sampled_from([NEAR, FAR]),
        st.sampled_from([None, 80, 95, 100, 102, 120]),
    ),
    max_size=40,
)


@given(steps)
def test_a_surface_drawn_bit_by_bit_is_the_one_drawn_at_once(steps: list[Any]) -> None:
    kept = QuoteSurface()
    taken: list[Any] = []
    for step in [*steps, ("draw", 0, None, "", 0, "", 100)]:
        kind, strike, iv, option_type, at, expiry, spot = step
        if kind == "quote":
            kept.fold_quote(*quote(strike, iv, option_type, at, expiry))
        elif kind == "chain":
            fold_chain(kept, {strike: iv, strike + 5: 0.4}, at, expiry)
        else:
            fresh = QuoteSurface()
            for _, strike, iv, option_type, at, expiry, _ in [t for t in taken if t[0] == "quote"]:
                fresh.fold_quote(*quote(strike, iv, option_type, at, expiry))
            for _, strike, iv, _, at, expiry, _ in [t for t in taken if t[0] == "chain"]:
                fold_chain(fresh, {strike: iv, strike + 5: 0.4}, at, expiry)
            assert kept.rows(spot, never) == fresh.rows(spot, never)
            continue
        taken.append(step)


@pytest.mark.parametrize("times", [1, 100])
def test_quotes_in_another_unit_than_the_legs_are_shown_in_that_of_the_most(times: int) -> None:
    surface = QuoteSurface()
    fold_chain(surface, {100: 0.2 * times, 110: 0.21 * times, 120: 0.25 * times, 130: 1.5 * times})
    surface.fold_quote(*quote(110, 21.5 / times, at=SECOND))
    args = surface, "N", "t", 100, never, START + SECOND
    (row,) = volatility_surface(*args, {NEAR: 0.2}.get)["expiries"]
    assert row["ivs"] == pytest.approx([0.2 * times, 0.215 * times, 0.25 * times, 1.5 * times])
    assert row["avg_iv"] == pytest.approx(2.165 * times / 4)
    unit = "decimals" if times == 1 else "percent"
    assert row["flags"] == {"ivs": f"sent in another unit, and shown in {unit}: 110"}
    for unknown in (dict[str, float](), {FAR: 0.2}):
        (plain,) = volatility_surface(*args, unknown.get)["expiries"]
        assert plain["ivs"][1] == 21.5 / times
        assert "flags" not in plain
