"""Background jobs of enricher and of other frameworks, side by side (``python -m benchmarks jobs``)."""
