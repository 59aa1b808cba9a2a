"""Serve models within a Python process: what `bertstream serve` does, without its ports."""

from bertstream.server.embedded.options import OPTIONS, embedded_config
from bertstream.server.embedded.server import EmbeddedServer, ServerFailed

__all__ = ["OPTIONS", "EmbeddedServer", "ServerFailed", "embedded_config"]
