"""The commands of events: list, show, post, retry, delete and graph."""
