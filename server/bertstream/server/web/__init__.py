"""Serve HTTP by uvicorn: what the admin port and the frontends' port have in common."""
