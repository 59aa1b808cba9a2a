"""Parses the options that several tasks share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bertstream.server.core.errors import invalid, not_suitable
from bertstream.server.core.tasks.base import require_head
from bertstream.server.core.tokenization import Strategy, Truncation
from bertstream.server.protocols.bertstream_v1.validation.names import PRIORITIES, STRATEGIES
from bertstream.server.protocols.bertstream_v1.validation.tokenization import parse_truncation
from bertstream.server.protocols.enums import name_of, names_in, value_of
from bertstream.v1 import tasks_pb2, types_pb2
from bertstream.workers.contract import ScoreFunction
from bertstream.workers.programs.description import ModelDescription

SCORE_FUNCTIONS: Mapping[int, ScoreFunction] = names_in(tasks_pb2.ScoreFunction, ScoreFunction)


def require_mask(description: ModelDescription) -> tuple[str, int]:
    """Return the mask token and its id.

    Raises HEAD_NOT_AVAILABLE, or HEAD_NOT_SUITABLE where the tokenizer has none.
    """
    require_head(description, "fill_mask")
    if "mask" not in description.special_tokens:
        raise not_suitable("this checkpoint's tokenizer has no mask token")
    return description.special_tokens["mask"]


def parse_priority(value: int, default: int, path: str) -> int:
    """Return the priority, `default` where it is not set. Raises INVALID_ENUM."""
    return default if value == types_pb2.PRIORITY_UNSPECIFIED else name_of(PRIORITIES, value, path)


def effective_priority(priority: int) -> types_pb2.Priority.ValueType:
    """Return the priority in effect, as a response repeats it."""
    value: types_pb2.Priority.ValueType = value_of(PRIORITIES, priority)
    return value


def parse_task_truncation(
    options: types_pb2.TruncationOptions, description: ModelDescription, path: str, default: Strategy = "longest_first"
) -> Truncation:
    """Return how to truncate texts, as parse_truncation does, with a default strategy of the task's own."""
    if options.strategy == types_pb2.TRUNCATION_STRATEGY_UNSPECIFIED:
        filled = types_pb2.TruncationOptions()
        filled.CopyFrom(options)
        filled.strategy = value_of(STRATEGIES, default)
        options = filled
    return parse_truncation(options, description, path)


def parse_function(value: int, default: ScoreFunction, path: str) -> ScoreFunction:
    """Return the function of scores, `default` where it is not set. Raises INVALID_ENUM."""
    unset = value == tasks_pb2.SCORE_FUNCTION_UNSPECIFIED
    return default if unset else name_of(SCORE_FUNCTIONS, value, path)


def effective_function(function: ScoreFunction) -> tasks_pb2.ScoreFunction.ValueType:
    """Return the function in effect, as a response repeats it."""
    value: tasks_pb2.ScoreFunction.ValueType = value_of(SCORE_FUNCTIONS, function)
    return value


def parse_count(value: int, default: int, most: int, path: str) -> int:
    """Return a number of 1 to `most`, such as `top_k`; 0 stands for the default. Raises INVALID_RANGE."""
    if not 0 <= value <= most:
        raise invalid(path, f"{value} is not between 0 and {most}", "INVALID_RANGE")
    return value or default


def parse_stride(value: int | None, default: int, most: int, path: str) -> int:
    """Return how many tokens windows share, 0 to `most`; None stands for the default. Raises INVALID_RANGE."""
    if value is None:
        return default
    if not 0 <= value <= most:
        raise invalid(path, f"{value} is not between 0 and {most}", "INVALID_RANGE")
    return value


def refuse_texts(texts: Sequence[str], path: str, reason: str) -> None:
    """Raise INVALID_ARGUMENT if one of the texts is empty or occurs twice."""
    seen: set[str] = set()
    for i, text in enumerate(texts):
        if not text.strip():
            raise invalid(f"{path}[{i}]", "it is empty", reason)
        if text in seen:
            raise invalid(f"{path}[{i}]", "it is there twice", reason)
        seen.add(text)
