"""Serve models behind Ray Serve's gRPC proxy: the same services, for the same clients."""

from bertstream.ray.serve.application import application

__all__ = ["application"]
