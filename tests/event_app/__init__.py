"""Pipelines of events for tests."""
