"""Keyword arguments of calls and of streams, whatever they ask for, as type checkers see them."""

from __future__ import annotations

from typing import TypedDict

from bertstream.client._calls.progress import ProgressOption
from bertstream.client._calls.requests import OnError
from bertstream.client._reports import ReportOption


class CallOptions(TypedDict, total=False):
    """Of all methods."""

    report: ReportOption
    timeout: float | None


class StreamOptions(CallOptions, total=False):
    """Of all bulk streams."""

    ordered: bool
    on_error: OnError
    batch_size: int
    progress: ProgressOption
