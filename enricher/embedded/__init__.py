"""Valkey and a MongoDB-compatible server as child processes: a whole installation in a wheel."""

from enricher.embedded.endpoints import Endpoints, read_endpoints, running_servers
from enricher.embedded.servers import EmbeddedOptions, EmbeddedServers

__all__ = ["EmbeddedOptions", "EmbeddedServers", "Endpoints", "read_endpoints", "running_servers"]
