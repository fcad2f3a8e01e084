"""enricher."""
