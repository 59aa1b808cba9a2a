"""bertstream on Ray: whole corpora with Ray Data (`bertstream.ray.data`), and servers with Ray Serve."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bertstream.ray.data import (
        FilesReport,
        JobFailed,
        Progress,
        RowFailed,
        encode_dataset,
        encode_files,
        predict_dataset,
        predict_files,
    )

__all__ = [
    "FilesReport",
    "JobFailed",
    "Progress",
    "RowFailed",
    "encode_dataset",
    "encode_files",
    "predict_dataset",
    "predict_files",
]


def __getattr__(name: str) -> Any:
    """Load Ray Data's part when something of it is used, as a server needs none of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from bertstream.ray import data

    return getattr(data, name)
