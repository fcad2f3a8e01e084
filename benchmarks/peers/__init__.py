"""The same jobs done with other frameworks, each a small program that ``python -m benchmarks peers`` runs."""
