"""The screens of events: what came in, and what each node made of it."""
