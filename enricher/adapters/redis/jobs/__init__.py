"""Jobs in Redis: calls, the source of a worker's runs, the sink that ends them, leases."""
