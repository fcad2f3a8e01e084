"""The market's views: what is answered where, and the screens of it."""

from __future__ import annotations

from collections.abc import Mapping

from enricher.market.settings import MarketSettings
from enricher.market.web.candles import CandleViews, OfCandles, OfChart
from enricher.market.web.chains import Chains, OfExpiry
from enricher.market.web.feed import FeedViews, OfFeed
from enricher.market.web.intraday import IntradayViews
from enricher.market.web.products import OfProducts, ProductViews
from enricher.market.web.rates import Rates
from enricher.market.web.reading import Reading
from enricher.market.web.volatility import VolatilityViews
from enricher.system import Host
from enricher.web.views import View

_HERE = "enricher.market.web:"
_MENU = "Market"


def views(section: MarketSettings, host: Host, rates: Rates, troubles: Mapping[str, str]) -> list[View]:
    """The views, those of a product after the longer paths that begin alike."""
    rates.watched = True
    reading = Reading(section, host)
    chains = Chains(reading)
    candles, intraday = CandleViews(reading, chains), IntradayViews(reading)
    return [
        View(
            "market",
            ProductViews(reading).products,
            "The products: last price, change and figures of the whole.",
            OfProducts,
            template=f"{_HERE}products.html",
            menu=_MENU,
        ),
        View(
            "feed",
            FeedViews(reading, section.channels, rates, troubles).feed,
            "What came of every channel, and what is doubtful about the ticks of every product.",
            OfFeed,
            template=f"{_HERE}feed.html",
            menu="Feed",
        ),
        View(
            "market/{product:path}/candles",
            candles.candles,
            "Bars of a product, stored ones and those that still move.",
            OfCandles,
        ),
        View(
            "market/{product:path}/intraday",
            intraday.intraday,
            "What the chains of an expiry said over the day.",
            OfExpiry,
        ),
        View(
            "market/{product:path}/chain",
            chains.chain,
            "The option chain of an expiry, strike by strike.",
            OfExpiry,
            template=f"{_HERE}chain.html",
            within=_MENU,
        ),
        View(
            "market/{product:path}/interest",
            chains.chain,
            "Open interest and gamma exposure by strike.",
            OfExpiry,
            template=f"{_HERE}interest.html",
            within=_MENU,
        ),
        View(
            "market/{product:path}/volatility",
            VolatilityViews(reading, chains).volatility,
            "Smiles with their curves, the surface and percentiles.",
            OfExpiry,
            template=f"{_HERE}volatility.html",
            within=_MENU,
        ),
        View(
            "market/{product:path}",
            candles.chart,
            "A product: its figures and its candles.",
            OfChart,
            template=f"{_HERE}product.html",
            within=_MENU,
        ),
    ]
