"""The market's screens: products, candles, option chain, open interest, volatility, and the feed."""
