"""Classes of jobs for tests; what they did is written down in the Redis of the jobs."""
