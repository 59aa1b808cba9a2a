"""Provide a model whose worker generates what the test has scripted, as the tests of gRPC have it."""

from __future__ import annotations

from tests.server.protocols.bertstream_v1.services.generation.conftest import serve

__all__ = ["serve"]
