"""The web app: what systems show and take in over HTTP, in the loop of the engine."""
