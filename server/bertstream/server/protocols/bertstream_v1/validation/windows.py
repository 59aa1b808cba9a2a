"""Parses how long texts are read in windows, which several requests have in the same fields."""

from __future__ import annotations

from bertstream.server.core.errors import invalid
from bertstream.server.core.windows import Windowing, WindowPooling
from bertstream.server.protocols.bertstream_v1.validation.names import WINDOW_POOLINGS
from bertstream.server.protocols.bertstream_v1.validation.tasks import parse_stride
from bertstream.server.protocols.enums import name_of, value_of
from bertstream.v1 import encoding_pb2, tasks_pb2, types_pb2

WindowedOptions = encoding_pb2.EncodingOptions | tasks_pb2.ClassifyTextOptions | tasks_pb2.RerankOptions


def write_windows(windows: Windowing | None, effective: WindowedOptions) -> None:
    """Write the windows in effect into the options that a response repeats."""
    if windows is not None:
        effective.windows, effective.stride = True, windows.stride
        effective.window_pooling = value_of(WINDOW_POOLINGS, windows.pooling)


def parse_windows(
    options: WindowedOptions, max_length: int, path: str, default: WindowPooling = "mean", *, may_be_apart: bool = False
) -> Windowing | None:
    """Return how to read windows, None where texts are cut. Raises INVALID_ARGUMENT with the field's path.

    may_be_apart: whether there may be an answer for each window.
    """
    unset = options.window_pooling == types_pb2.WINDOW_POOLING_UNSPECIFIED
    if not options.windows:
        for field, is_set in (("stride", options.HasField("stride")), ("window_pooling", not unset)):
            if is_set:
                raise invalid(f"{path}.{field}", "it means something only with windows", "INVALID_COMBINATION")
        return None
    asked = options.stride if options.HasField("stride") else None
    stride = parse_stride(asked, max_length // 4, max_length - 1, f"{path}.stride")
    pooling = default if unset else name_of(WINDOW_POOLINGS, options.window_pooling, f"{path}.window_pooling")
    if pooling == "none" and not may_be_apart:
        raise invalid(
            f"{path}.window_pooling", "scores of windows are pooled: MEAN, MAX, WEIGHTED", "INVALID_COMBINATION"
        )
    return Windowing(stride, pooling)
