"""Keyword arguments that all calls, and all streams, have in common, for type checkers."""

from __future__ import annotations

from typing import TypedDict

from bertstream.client._calls.progress import ProgressOption
from bertstream.client._calls.requests import OnError
from bertstream.client._reports import ReportOption


class CallOptions(TypedDict, total=False):
    """Keyword arguments of all methods."""

    report: ReportOption
    timeout: float | None


class StreamOptions(CallOptions, total=False):
    """Keyword arguments of all bulk streams."""

    ordered: bool
    on_error: OnError
    batch_size: int
    progress: ProgressOption
