"""A number per product is a fold: `Fold`, and what is given to it. See docs/folds.md."""

from enricher.market.folds.fold import ChainChange, Fold, QuoteChange, TickChange

__all__ = ["ChainChange", "Fold", "QuoteChange", "TickChange"]
