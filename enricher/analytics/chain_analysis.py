"""Everything a chain says, in one call: `analyse`, and what was built up between two of them."""

from __future__ import annotations

from collections.abc import Collection
from datetime import date, datetime

from enricher.analytics import position_buildup
from enricher.analytics.arguments import AMOUNT, number, zone_of
from enricher.analytics.by_strike import Walls
from enricher.analytics.chain_doubts import chain_doubts
from enricher.analytics.chain_input import ChainLike, read_chain
from enricher.analytics.chain_numbers import MaxPain, chain_numbers
from enricher.analytics.chain_prices import chain_prices
from enricher.analytics.columns import columns
from enricher.analytics.contracts import Contract
from enricher.analytics.oi_walls import Wall, losses, trading_range
from enricher.analytics.position_buildup import Buildup, snapshot
from enricher.analytics.price_analysis import Extra, PriceAnalysis, analyse_prices
from enricher.analytics.prices import MAX_AGE
from enricher.analytics.staleness import fresh, leg_ages, reader
from enricher.clock import to_date
from enricher.messages.models import Chain, Number


class ChainAnalysis(PriceAnalysis, frozen=True, kw_only=True):
    """All that one expiry says, unrounded. What is not known is None; ``flags`` and reasons say why.

    ``calls`` and ``puts`` are columns beside ``strikes``: price, iv, delta, gamma, vega, theta, rho, and in
    ``sent`` bid, ask, last, oi and volume. ``pcr`` is puts over calls by open interest. ``spot`` is None
    where it is 0 or contradicts the options, and with it what lies around it. ``atm`` is the strike nearest
    to spot, ``atm_forward_strike`` the one nearest to the forward; ``straddle`` costs call and put at
    ``atm``, by mid, ``straddle_last`` by last prices. ``call_oi_otm``, ``put_oi_otm``: the open interest out
    of the money. ``walls_by_change`` are walls of the exchange's change of open interest on the day,
    ``walls_lost`` of what it lost. Prices are in currency. The other attributes are what the functions of
    their names return; see also `PriceAnalysis`.
    """

    product: str
    expiry: str
    at: datetime
    contract: Contract
    chain: Chain
    spot: Number | None
    strikes: list[Number]
    pcr: float | None
    pcr_volume: float | None
    pcr_oi_change: float | None
    total_call_oi: Number | None
    total_put_oi: Number | None
    total_call_volume: Number | None
    total_put_volume: Number | None
    call_oi_otm: Number | None
    put_oi_otm: Number | None
    max_pain: MaxPain | None
    max_pain_distance_pct: float | None
    atm: Number | None
    straddle_last: float | None
    walls: Walls
    walls_by_change: Walls
    walls_lost: Walls
    flags: dict[str, str]

    @property
    def straddle(self) -> float | None:
        """Call plus put at the strike nearest to spot, by mid; None without two two-sided quotes."""
        return self.expected_move.straddle

    @property
    def atm_iv(self) -> float | None:
        """The volatility at the money, where the strike is the forward; a decimal a year."""
        return self.smile_measures.atm_iv

    @property
    def risk_reversal(self) -> float | None:
        """Volatility of the call of 25 delta less that of the put: negative where puts are dearer."""
        return self.smile_measures.risk_reversal

    @property
    def skew(self) -> float | None:
        """Volatility at 90 % of the forward less that at 110 %: positive where puts are dearer."""
        return self.smile_measures.skew


def analyse(
    chain: ChainLike,
    *,
    contract: Contract | None = None,
    at: datetime | str | None = None,
    spot: float | None = None,
    expiry: date | str | None = None,
    future: float | None = None,
    max_age: float = MAX_AGE,
    zone: str | None = None,
    extras: Collection[Extra] = (),
) -> ChainAnalysis:
    """Everything one chain says: the numbers of its open interest, of its prices, and of its smile.

    ``chain`` is a message of the feed (bytes, text, a mapping) or plain legs: mappings, objects or a data
    frame, with ``strike``, ``kind`` (``call``, ``put``, ``CE``, ``PE``), ``bid``, ``ask``, ``last``,
    ``open_interest``, and perhaps ``volume``, ``iv``, ``change_in_oi``. Legs need ``spot``, ``expiry`` and
    ``at``; with a message these replace what it says. ``contract`` has the terms (default: expiry at the end
    of the day in UTC, rate 0, lot 1); times without an offset are read in its zone, or in ``zone``.
    ``future`` is the price of the future of this expiry, which is the forward then. Where legs carry times of
    their own, quotes and trades older than ``max_age`` seconds at ``at`` do not count. ``extras`` come
    besides: "second_order" for vanna, charm and volga.

    ValueError for what is no chain.
    """
    if contract is not None and not isinstance(contract, Contract):
        raise ValueError(f"contract is {contract!r}: expected a Contract, such as Contract(name='NIFTY')")
    where = zone_of("zone", zone or (contract.zone if contract else "UTC"))
    decoded = read_chain(chain, contract, at, spot, expiry, future, zone=where)
    max_age = number("max_age", max_age, AMOUNT)
    contract = contract or Contract(name=decoded.product, assumed=True)
    contract = contract.as_of(decoded.event_us).in_units(decoded.oi_unit, decoded.price_unit)
    cells = fresh(columns(decoded), leg_ages(decoded, reader(where)), max_age)
    try:
        priced = chain_prices(decoded, cells, contract)
        numbers = chain_numbers(decoded, cells, priced.no_spot)
        prices = analyse_prices(decoded, priced, contract, extras=extras)
    except ArithmeticError as error:
        raise ValueError("no option chain: numbers beyond what doubles hold") from error
    last, strike, pain = numbers.atm_straddle_price, numbers.max_pain_strike, numbers.max_pain_value
    return ChainAnalysis(
        **{name: getattr(prices, name) for name in PriceAnalysis.__struct_fields__},
        product=decoded.product,
        expiry=decoded.expiry,
        at=to_date(decoded.event_us),
        contract=contract,
        chain=decoded,
        spot=priced.spot,
        strikes=cells.strikes,
        pcr=numbers.pcr_oi,
        pcr_volume=numbers.pcr_volume,
        pcr_oi_change=numbers.pcr_oi_change,
        total_call_oi=numbers.total_call_oi,
        total_put_oi=numbers.total_put_oi,
        total_call_volume=numbers.total_call_volume,
        total_put_volume=numbers.total_put_volume,
        call_oi_otm=numbers.call_buildup_otm,
        put_oi_otm=numbers.put_buildup_otm,
        max_pain=None if strike is None or pain is None else MaxPain(strike, pain),
        max_pain_distance_pct=numbers.max_pain_distance_pct,
        atm=numbers.atm_strike,
        straddle_last=None if last is None or priced.scale is None else last * priced.scale,
        walls=_walls(numbers.resistance, numbers.support, priced.spot),
        walls_by_change=_walls(numbers.resistance_by_change, numbers.support_by_change, priced.spot),
        walls_lost=_walls(
            losses(cells.strikes, cells.calls.oi_change, priced.spot, "resistance"),
            losses(cells.strikes, cells.puts.oi_change, priced.spot, "support"),
            priced.spot,
        ),
        flags=numbers.flags | chain_doubts(decoded, cells, contract) | priced.flags,
    )


def buildup(now: ChainAnalysis, before: ChainAnalysis) -> Buildup:
    """What was built up at every strike between two analyses of one expiry, by last price and open interest.

    Price and open interest up is ``long_buildup``, price down and interest up ``short_buildup``, price up and
    interest down ``short_covering``, both down ``long_unwinding``; a move of less than half a tick is
    ``neutral``. ValueError unless ``before`` is earlier and of the same expiry.
    """
    if (now.product, now.expiry) != (before.product, before.expiry):
        expected = f"{now.product} {now.expiry}"
        raise ValueError(f"before is of {before.product} {before.expiry}: expected {expected}")
    if not before.at < now.at:
        raise ValueError(f"before is of {before.at}, which is not before {now.at}")
    return position_buildup.buildup(snapshot(now.chain), snapshot(before.chain), now.contract.tick_size / 2)


def _walls(resistance: tuple[Wall, ...], support: tuple[Wall, ...], spot: Number | None) -> Walls:
    return Walls(resistance, support, trading_range(support, resistance, spot))
