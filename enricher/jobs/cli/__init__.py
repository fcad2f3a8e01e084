"""The commands of background jobs: ``jobs``, ``queues``, ``workers``, and the options of ``run``."""
