"""Keyword arguments of generation, as type checkers see them: options, and those of the call or the stream."""

from __future__ import annotations

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._generation.options import GenerateOptions, SummarizeOptions


class GenerateCall(CallOptions, GenerateOptions, total=False):
    """Of `generate`."""


class SummarizeCall(CallOptions, SummarizeOptions, total=False):
    """Of `summarize`."""


class GenerateStream(StreamOptions, GenerateOptions, total=False):
    """Of `generate_stream`."""
