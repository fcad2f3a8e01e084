"""The range between the walls, and what becomes of them."""

from __future__ import annotations

from enricher.analytics.chain_numbers import Wall
from enricher.analytics.oi_walls import TradingRange, losses, trading_range


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
