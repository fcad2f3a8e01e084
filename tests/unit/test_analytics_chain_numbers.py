"""What a chain says, against brute force and the worked examples of the contract."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from enricher.analytics.chain_numbers import MaxPain, Wall, atm_strike, chain_numbers, max_pain, pcr, ratio
from enricher.analytics.columns import total
from enricher.analytics.oi_walls import TradingRange, losses, trading_range, walls
from enricher.market.documents import chain_fields
from enricher.messages.models import Chain
from tests.chains import made_chain

Legs = list[dict[str, Any]]


def legs(**oi_at: float) -> Legs:
    return [{"strike": int(key[1:]), "open_interest": oi} for key, oi in oi_at.items()]


CALLS = legs(k21000=50000, k21500=40000, k22000=30000)
PUTS = legs(k21000=20000, k21500=30000, k22000=40000)


def chain(calls: Legs, puts: Legs, spot: float = 21510, **fields: Any) -> Chain:
    return made_chain("NIFTY", "2025-10-30", spot, "2025-10-14T10:00:00", calls, puts, **fields)


def test_max_pain_of_the_worked_example() -> None:
    best = max_pain([21000, 21500, 22000], [50000, 40000, 30000], [20000, 30000, 40000])
    assert best is not None
    assert best.strike == 21500


def test_pcr_of_the_worked_example() -> None:
    assert pcr([50000, 40000], [41000, 40000]) == 0.9


def test_the_strike_at_the_money_of_the_worked_example() -> None:
    assert atm_strike([21000, 21500, 22000, 22500], 21537) == 21500


def test_between_two_strikes_the_lower_is_at_the_money() -> None:
    assert atm_strike([100, 200], 150) == 100
    assert atm_strike([0.1, 0.3], 0.2) == 0.1
    assert atm_strike([100, 200], 150.01) == 200


def test_spot_outside_all_strikes_takes_the_outermost() -> None:
    assert atm_strike([200, 100], 5) == 100
    assert atm_strike([200, 100], 500) == 200


def test_no_strikes_have_none_at_the_money() -> None:
    with pytest.raises(ValueError, match="no strikes"):
        atm_strike([], 100)


def test_a_plateau_is_resolved_to_the_strike_nearest_to_spot() -> None:
    columns = ([100, 110, 120, 130], [5, 0, 0, 0], [0, 0, 0, 5])
    assert max_pain(*columns, spot=118) == MaxPain(120, 150.0)
    assert max_pain(*columns, spot=115) == MaxPain(110, 150.0)
    assert max_pain(*columns) == MaxPain(100, 150.0)


def test_without_open_interest_there_is_no_max_pain() -> None:
    assert max_pain([100, 110], [0, None], [None, 0], 105) is None
    assert max_pain([], [], [], 105) is None


def test_open_interest_of_one_side_alone_pulls_to_its_end() -> None:
    assert max_pain([100, 110], [1, 1], [None, None], 105) == MaxPain(100, 0.0)
    assert max_pain([100, 110], [None, None], [1, 1], 105) == MaxPain(110, 0.0)


quarters = st.one_of(st.none(), st.just(0), st.integers(0, 4_000_000).map(lambda n: n / 4))
rows = st.lists(st.tuples(st.integers(0, 4000), quarters, quarters), min_size=1, max_size=25,
                unique_by=lambda row: row[0])  # fmt: skip


@given(rows, st.integers(0, 16_000).map(lambda n: n / 4))
def test_max_pain_is_what_trying_every_strike_exactly_finds(
    rows: list[tuple[int, float | None, float | None]], spot: float
) -> None:
    rows.sort()
    strikes = [row[0] for row in rows]
    found = max_pain(strikes, [row[1] for row in rows], [row[2] for row in rows], spot)
    if not any(row[1] or row[2] for row in rows):
        assert found is None
        return

    def paid_at(expiry: int) -> Fraction:
        calls = sum(Fraction(oi or 0) * max(0, expiry - strike) for strike, oi, _ in rows)
        puts = sum(Fraction(oi or 0) * max(0, strike - expiry) for strike, _, oi in rows)
        return Fraction(calls + puts)

    pains = {strike: paid_at(strike) for strike in strikes}
    limit = min(pains.values()) * (1 + Fraction(1, 10**9))
    tied = [strike for strike in strikes if pains[strike] <= limit]
    assert found is not None
    assert found.strike == min(tied, key=lambda strike: (abs(strike - spot), strike))
    assert found.pain == pytest.approx(float(pains[found.strike]), rel=1e-12)


def test_totals_are_exact_whole_where_whole_and_unknown_without_values() -> None:
    assert total([0.1] * 10) == 1.0
    assert type(total([1, 2, None])) is int
    assert total([None]) is None


def test_a_chain_is_analysed_whole() -> None:
    calls = [leg | {"last": 12.345, "volume": 10, "bid": 10, "ask": 12} for leg in CALLS]
    puts = [leg | {"last": 10, "volume": 5, "bid": 8, "ask": 9} for leg in PUTS]
    whole = chain(calls, puts)
    numbers = chain_numbers(whole)
    assert numbers.pcr_oi == 0.75
    assert numbers.pcr_volume == 0.5
    assert numbers.atm_strike == numbers.max_pain_strike == 21500
    assert numbers.atm_straddle_price == 22.345
    assert numbers.atm_straddle_mid == 19.5
    assert numbers.max_pain_distance_pct == pytest.approx(-10 / 21510 * 100, rel=1e-15)
    fields = chain_fields(whole, numbers, None, "")
    assert (fields["atm_straddle_price"], fields["max_pain_distance_pct"]) == (22.34, -0.05)
    assert (numbers.total_call_oi, numbers.total_put_oi) == (120000, 90000)
    assert (numbers.call_buildup_otm, numbers.put_buildup_otm) == (30000, 50000)
    assert numbers.flags == {}


def test_a_leg_on_the_spot_is_in_neither_out_of_the_money_sum() -> None:
    numbers = chain_numbers(chain(CALLS, PUTS, spot=21500))
    assert (numbers.call_buildup_otm, numbers.put_buildup_otm) == (30000, 20000)


def test_nothing_listed_beyond_spot_is_a_known_zero() -> None:
    numbers = chain_numbers(chain(CALLS, PUTS, spot=30000))
    assert numbers.call_buildup_otm == 0
    assert numbers.put_buildup_otm == 90000


def test_what_is_unknown_is_null_with_a_reason_and_never_zero() -> None:
    numbers = chain_numbers(chain([{"strike": 100}], [{"strike": 100, "last": 3}], spot=90))
    for field in ("pcr_oi", "pcr_volume", "atm_straddle_price", "atm_straddle_mid"):
        assert getattr(numbers, field) is None
        assert numbers.flags[field]
    for field in ("max_pain_strike", "total_call_oi", "total_put_oi", "call_buildup_otm"):
        assert getattr(numbers, field) is None
        assert numbers.flags[field]


def test_a_call_side_of_zero_has_no_ratio() -> None:
    numbers = chain_numbers(chain(legs(k100=0), legs(k100=5)))
    assert numbers.pcr_oi is None
    assert numbers.flags["pcr_oi"] == "the open interest of the calls is 0"
    assert numbers.total_call_oi == 0


def test_a_negative_leg_counts_as_unknown_and_is_flagged() -> None:
    numbers = chain_numbers(chain(legs(k100=-7, k200=10), legs(k100=5, k200=5)))
    assert (numbers.total_call_oi, numbers.pcr_oi) == (10, 1.0)
    assert numbers.flags["calls[0].open_interest"] == "negative"
    assert numbers.flags["total_call_oi"] == "unknown at 1 of 2 legs"


def test_a_missing_leg_contributes_nothing() -> None:
    numbers = chain_numbers(chain(legs(k100=10, k200=10), legs(k200=5)))
    assert (numbers.total_put_oi, numbers.pcr_oi) == (5, 0.25)
    assert numbers.flags["puts"] == "no leg at 100"


def test_a_crossed_or_one_sided_quote_has_no_middle() -> None:
    crossed = [{"strike": 100, "bid": 5, "ask": 4, "last": 1}]
    numbers = chain_numbers(chain(crossed, [{"strike": 100, "bid": 0, "ask": 4, "last": 1}], spot=100))
    assert numbers.atm_straddle_mid is None
    assert numbers.atm_straddle_price == 2


def test_walls_are_the_largest_from_spot_outwards_with_their_share() -> None:
    strikes, oi = [90, 100, 110, 120, 130], [50, 10, 20, 20, None]
    assert walls(strikes, oi, 100, "resistance") == (
        Wall(110, 20, 0.2),
        Wall(120, 20, 0.2),
        Wall(100, 10, 0.1),
    )
    assert walls(strikes, oi, 100, "support", count=1) == (Wall(90, 50, 0.5),)
    assert walls(strikes, [None] * 5, 100, "support") == ()


@pytest.mark.parametrize("name", ["change_in_oi", "oi_change", "changeinOpenInterest"])
def test_the_exchanges_change_gives_walls_and_a_ratio_under_any_name(name: str) -> None:
    calls = [{"strike": 100, name: 40}, {"strike": 110, name: -10}]
    puts = [{"strike": 100, name: 15}, {"strike": 110, name: None}]
    numbers = chain_numbers(chain(calls, puts, spot=100))
    assert numbers.pcr_oi_change == 0.5
    assert numbers.resistance_by_change == (Wall(100, 40, 1.0),)
    assert numbers.support_by_change == (Wall(100, 15, 1.0),)


def test_a_ratio_is_given_where_both_sides_are_known_and_the_calls_are_not_0() -> None:
    assert [ratio(5, 10), ratio(3, 0), ratio(1, None)] == [0.5, None, None]


def test_numbers_beyond_what_adds_up_do_not_break_the_analysis() -> None:
    numbers = chain_numbers(chain(legs(k100=10**400, k200=10**99), legs(k100=1e300, k200=1e99)))
    assert numbers.pcr_oi == 1.0
    assert numbers.flags["calls[0].open_interest"] == "not finite"


def test_a_pain_beyond_a_double_is_unknown() -> None:
    assert max_pain([0, 1e300], [1e100, 0], [1e100, 1e100], 5) is None


@pytest.mark.parametrize(("call", "put"), [(0, 5), (5, 0.0), (0, 0), (0, None)])
def test_a_last_price_of_zero_is_no_trade_and_so_no_straddle(call: float, put: float | None) -> None:
    numbers = chain_numbers(chain([{"strike": 100, "last": call}], [{"strike": 100, "last": put}], spot=100))
    assert numbers.atm_straddle_price is None
    assert "it was not traded" in numbers.flags["atm_straddle_price"]


def test_a_sum_of_whole_numbers_beyond_64_bits_is_a_float_that_can_be_stored() -> None:
    numbers = chain_numbers(chain(legs(k100=2**62, k200=2**62), legs(k100=2**62), spot=100))
    assert (numbers.total_call_oi, type(numbers.total_call_oi)) == (2.0**63, float)
    assert (numbers.total_put_oi, type(numbers.total_put_oi)) == (2**62, int)
    assert numbers.pcr_oi == 0.5


def test_a_distance_that_rounds_to_nothing_has_no_sign() -> None:
    near = chain(legs(k100=5), legs(k100=5), spot=100.001)
    assert str(chain_fields(near, chain_numbers(near), None, "")["max_pain_distance_pct"]) == "0.0"


def test_a_max_pain_that_knows_one_side_alone_says_so() -> None:
    numbers = chain_numbers(chain(legs(k100=5, k200=5), [{"strike": 100}], spot=150))
    assert numbers.max_pain_strike == 100
    assert numbers.flags["max_pain_strike"] == "by the calls alone: no known open interest of the puts"
    assert "max_pain_strike" not in chain_numbers(chain(legs(k100=5), legs(k100=0), spot=150)).flags


def test_the_range_lies_between_the_first_walls() -> None:
    support, resistance = (Wall(90, 300, 0.5), Wall(80, 200, 0.3)), (Wall(130, 100, 0.2),)
    assert trading_range(support, resistance, 100) == TradingRange(90, 130, 40.0, 0.25, 0.75)


def test_walls_of_both_sides_at_one_strike_leave_no_position() -> None:
    found = trading_range((Wall(100, 5, 1.0),), (Wall(100, 5, 1.0),), 100)
    assert found == TradingRange(100, 100, 0.0, None, 0.5)


def test_a_side_without_a_wall_leaves_no_range() -> None:
    assert trading_range((), (Wall(100, 5, 1.0),), 100) is None
    assert trading_range((Wall(100, 5, 1.0),), (), 100) is None
    assert trading_range((Wall(1, 5, 1.0),), (Wall(2, 5, 1.0),), 0) is None


def test_the_walls_that_fall_are_the_largest_losses_of_open_interest() -> None:
    strikes, changes = [90, 100, 110, 120], [-40, 5, -10, -30]
    assert losses(strikes, changes, 100, "resistance") == (Wall(120, 30, 0.375), Wall(110, 10, 0.125))
    assert losses(strikes, changes, 100, "support") == (Wall(90, 40, 0.5),)
    assert losses(strikes, [None, 5, 0, 2], 100, "support") == ()
