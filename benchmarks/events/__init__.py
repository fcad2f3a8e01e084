"""Events over HTTP: what a POST costs here, and with FastAPI and Celery."""
