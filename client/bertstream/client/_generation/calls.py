"""Keyword arguments of the methods of generation, for type checkers: their options, and those of calls or streams."""

from __future__ import annotations

from bertstream.client._calls.keywords import CallOptions, StreamOptions
from bertstream.client._generation.options import GenerateOptions, SummarizeOptions


class GenerateCall(CallOptions, GenerateOptions, total=False):
    """Keyword arguments of `generate`."""


class SummarizeCall(CallOptions, SummarizeOptions, total=False):
    """Keyword arguments of `summarize`."""


class GenerateStream(StreamOptions, GenerateOptions, total=False):
    """Keyword arguments of `generate_stream`."""
