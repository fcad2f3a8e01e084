"""Option mathematics without a server: prices, volatilities, Greeks, open interest, smiles, chains, bars.

    from enricher.analytics import analyse, implied_volatility

What is listed here is promised; `docs/analytics.md` shows it, with units, signs and errors, and
`docs/formulas` has the formulas and their sources. Nothing here reads a setting or asks a server.
"""

from typing import TYPE_CHECKING

from enricher.lazy_exports import at_first_use

if TYPE_CHECKING:
    from enricher.analytics.american_pricing import (
        american_greeks,
        american_implied_volatility,
        american_price,
    )
    from enricher.analytics.black76 import Greeks
    from enricher.analytics.by_strike import (
        Walls,
        arbitrage,
        atm,
        expected_move,
        forward,
        gamma_exposure,
        india_variance_swap,
        max_pain,
        pcr,
        smile,
        straddle,
        svi,
        variance_swap,
        walls,
        zero_gamma,
    )
    from enricher.analytics.chain_analysis import ChainAnalysis, analyse, buildup
    from enricher.analytics.chain_numbers import MaxPain
    from enricher.analytics.contracts import Contract
    from enricher.analytics.exposure import Exposure, GammaExposure
    from enricher.analytics.forward_price import ExpectedMove, Forward
    from enricher.analytics.gamma_flip import ZeroGamma
    from enricher.analytics.india_vix import IndiaStrip
    from enricher.analytics.oi_walls import TradingRange, Wall
    from enricher.analytics.option_pricing import (
        ImpliedVolatility,
        SecondOrderGreeks,
        greeks,
        implied_volatility,
        price,
        second_order_greeks,
    )
    from enricher.analytics.position_buildup import Buildup
    from enricher.analytics.price_analysis import PricedSide
    from enricher.analytics.price_bars import Bar, ohlc
    from enricher.analytics.quote_arbitrage import Finding, Findings
    from enricher.analytics.raw_svi import Svi, SviFit
    from enricher.analytics.second_order import SecondOrderAnalysis, StrikeExposure
    from enricher.analytics.trading_time import TradingTime
    from enricher.analytics.variance import ConstantMaturity, Strip, constant_maturity
    from enricher.analytics.volatility_smile import Smile, SmileMeasures, smile_measures
else:
    __getattr__, __dir__ = at_first_use(
        __name__,
        {
            "enricher.analytics.american_pricing": (
                "american_greeks american_implied_volatility american_price"
            ),
            "enricher.analytics.black76": "Greeks",
            "enricher.analytics.by_strike": (
                "Walls arbitrage atm expected_move forward gamma_exposure india_variance_swap max_pain pcr"
                " smile straddle svi variance_swap walls zero_gamma"
            ),
            "enricher.analytics.chain_analysis": "ChainAnalysis analyse buildup",
            "enricher.analytics.chain_numbers": "MaxPain",
            "enricher.analytics.contracts": "Contract",
            "enricher.analytics.exposure": "Exposure GammaExposure",
            "enricher.analytics.forward_price": "ExpectedMove Forward",
            "enricher.analytics.gamma_flip": "ZeroGamma",
            "enricher.analytics.india_vix": "IndiaStrip",
            "enricher.analytics.oi_walls": "TradingRange Wall",
            "enricher.analytics.option_pricing": (
                "ImpliedVolatility SecondOrderGreeks greeks implied_volatility price second_order_greeks"
            ),
            "enricher.analytics.position_buildup": "Buildup",
            "enricher.analytics.price_analysis": "PricedSide",
            "enricher.analytics.price_bars": "Bar ohlc",
            "enricher.analytics.quote_arbitrage": "Finding Findings",
            "enricher.analytics.raw_svi": "Svi SviFit",
            "enricher.analytics.second_order": "SecondOrderAnalysis StrikeExposure",
            "enricher.analytics.trading_time": "TradingTime",
            "enricher.analytics.variance": "ConstantMaturity Strip constant_maturity",
            "enricher.analytics.volatility_smile": "Smile SmileMeasures smile_measures",
        },
    )

__all__ = [
    "Bar", "Buildup", "ChainAnalysis", "ConstantMaturity", "Contract", "ExpectedMove", "Exposure",
    "Finding", "Findings", "Forward", "GammaExposure", "Greeks", "ImpliedVolatility", "IndiaStrip",
    "MaxPain", "PricedSide", "SecondOrderAnalysis", "SecondOrderGreeks", "Smile", "SmileMeasures",
    "StrikeExposure", "Strip", "Svi", "SviFit", "TradingRange", "TradingTime", "Wall", "Walls",
    "ZeroGamma", "american_greeks", "american_implied_volatility", "american_price", "analyse",
    "arbitrage", "atm", "buildup", "constant_maturity", "expected_move", "forward", "gamma_exposure",
    "greeks", "implied_volatility", "india_variance_swap", "max_pain", "ohlc", "pcr", "price",
    "second_order_greeks", "smile", "smile_measures", "straddle", "svi", "variance_swap", "walls",
    "zero_gamma",
]  # fmt: skip
