"""The result of parsing a task's options."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from bertstream.server.core.tasks.base import HeadModel, Task

AnyTask = TypeVar("AnyTask", bound=Task[Any])
Options = TypeVar("Options", bound=Message)


@dataclass(frozen=True, slots=True)
class Asked(Generic[AnyTask, Options]):
    """A task, and the options in effect, which the response repeats."""

    task: AnyTask
    effective: Options  # with every default filled in


# Takes a task's options, a model, the default priority and the path of the options. Raises RequestError:
# INVALID_ARGUMENT with a path below that path, or HEAD_NOT_AVAILABLE.
Parse = Callable[[Any, HeadModel, int, str], Asked[Any, Any]]
