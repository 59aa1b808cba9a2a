"""Read the parameters of requests: our own options by their names, those of Triton, and those of NVIDIA's NIM."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, get_args

from bertstream.server.core.errors import invalid
from bertstream.server.core.kinds import TextKind, prompt_name
from bertstream.server.core.plans import default_pooling, pooled_width
from bertstream.server.core.tokenization import OffsetUnit, Side, Strategy, Truncation
from bertstream.server.protocols.inference.tensors import shown
from bertstream.workers.contract import BULK, INTERACTIVE, Pooling, PoolingMode, ScoreFunction, WireType
from bertstream.workers.programs.description import ModelDescription

Value = bool | int | float | str
T = TypeVar("T", bound=str)
V = TypeVar("V", bool, int, str)

MAX_PROMPT = 10_000  # characters; it is put before each of thousands of texts
# Those that every request may have.
COMMON = frozenset({"priority", "timeout", "triton_enable_empty_final_response"})
TRUNCATION = frozenset({"truncate", "truncation", "truncation_side", "max_length"})
PROMPT = frozenset({"prompt", "prompt_name", "input_type"})
_PRIORITIES = {"interactive": INTERACTIVE, "bulk": BULK}
_TRUNCATE: Mapping[str, tuple[bool, Side]] = {"NONE": (False, "right"), "END": (True, "right"), "START": (True, "left")}
# What NIM calls the type of an input.
_KINDS: Mapping[str, TextKind] = {"query": "query", "passage": "document"}
_OPEN_TYPES: Mapping[str, WireType] = {"float32": "float32", "float16": "float16", "bfloat16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Options:
    """Hold the parameters of a request, by their names."""

    given: Mapping[str, Value]

    def check_names(self, known: Collection[str]) -> None:
        """Raise INVALID_PARAMETER for one that is not among these."""
        for name in sorted(self.given.keys() - known):
            about = f"it means nothing for these outputs; what does: {', '.join(sorted(known))}"
            raise invalid(at(name), about, "INVALID_PARAMETER")

    def choice(self, name: str, choices: Sequence[T]) -> T | None:
        """Return the one of the choices that is named; None where none is. Raises INVALID_ENUM."""
        value = self._of(name, str, "a string")
        if value is None:
            return None
        for choice in choices:
            if choice == value:
                return choice
        raise invalid(at(name), f"{value[:80]!r} is none of {', '.join(choices)}", "INVALID_ENUM")

    def text(self, name: str) -> str | None:
        """Return a text; None where it is not given."""
        return self._of(name, str, "a string")

    def flag(self, name: str) -> bool | None:
        """Return a yes or no; None where it is not given."""
        return self._of(name, bool, "a bool")

    def number(self, name: str, least: int, most: int) -> int | None:
        """Return a whole number from `least` to `most`; None where it is not given. Raises INVALID_RANGE."""
        value = self._of(name, int, "an int64")
        if value is not None and not least <= value <= most:
            raise invalid(at(name), f"{value} is not between {least} and {most}", "INVALID_RANGE")
        return value

    def _of(self, name: str, kind: type[V], called: str) -> V | None:
        value = self.given.get(name)
        if value is None:
            return None
        if type(value) is not kind:  # a bool is an int, too
            raise invalid(at(name), f"it must be {called}", "INVALID_PARAMETER")
        return value


def at(name: str) -> str:
    """Return the path of a parameter."""
    return f"parameters[{shown(name)}]"


def read_options(parameters: Mapping[str, Any]) -> Options:
    """Return the parameters of a message. Raises INVALID_PARAMETER for one without a value."""
    given = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise invalid(at(name), "it has no value", "INVALID_PARAMETER")
        given[name] = getattr(parameter, kind)
    return Options(given)


def truncation_of(options: Options, description: ModelDescription, default: Strategy = "longest_first") -> Truncation:
    """Return how to cut texts: `truncate` as NIM or TEI has it, or our own options."""
    length = options.number("max_length", 1, description.max_tokens) or description.default_max_length
    own: Side = "left" if description.truncation_side == "left" else "right"
    side = options.choice("truncation_side", get_args(Side)) or own
    strategy: Strategy = options.choice("truncation", get_args(Strategy)) or default
    if "truncate" in options.given:
        for other in ("truncation", "truncation_side"):
            if other in options.given:
                raise invalid(at("truncate"), f"there is {other} too", "INVALID_COMBINATION")
        cuts, side = _truncate(options, own)
        strategy = default if cuts else "refuse"
    return Truncation(strategy, length, side)


def _truncate(options: Options, own: Side) -> tuple[bool, Side]:
    """Return whether `truncate` lets texts be cut, and at which end."""
    value = options.given["truncate"]
    if isinstance(value, bool):
        return value, own
    return _TRUNCATE[options.choice("truncate", list(_TRUNCATE)) or ""]


def prompt_of(options: Options, description: ModelDescription) -> tuple[str, bool]:
    """Return the prompt, and whether the caller has asked for one."""
    asked = [name for name in ("prompt", "prompt_name", "input_type") if name in options.given]
    if len(asked) > 1:
        raise invalid(at(asked[0]), f"there is {asked[1]} too", "INVALID_COMBINATION")
    prompts, own = description.prompts, description.prompts.get(description.default_prompt_name, "")
    if (prompt := options.text("prompt")) is not None:
        if len(prompt) > MAX_PROMPT:
            raise invalid(at("prompt"), f"{len(prompt)} characters; the limit is {MAX_PROMPT}", "REQUEST_TOO_LARGE")
        return prompt, True
    if (name := options.text("prompt_name")) is not None:
        if name not in prompts:
            there = ", ".join(prompts) or "none"
            raise invalid(at("prompt_name"), f"no prompt has this name; there: {there}", "INVALID_PROMPT_NAME")
        return prompts[name], True
    if (kind := kind_of(options)) is not None:
        return prompts.get(prompt_name(description, kind), own), True
    return own, False


def kind_of(options: Options) -> TextKind | None:
    """Return what the texts are for, if it is said."""
    kind = options.choice("input_type", list(_KINDS))
    return None if kind is None else _KINDS[kind]


def pooling_of(options: Options, description: ModelDescription) -> Pooling:
    """Return how token states become vectors: as the checkpoint says, unless the caller does."""
    own = default_pooling(description)
    mode: PoolingMode = options.choice("pooling", get_args(PoolingMode)) or "checkpoint"
    if mode == "pooler" and not description.has_pooler:
        raise invalid(at("pooling"), "this checkpoint has no pooler; choose another", "INVALID_COMBINATION")
    pooling = own if mode == "checkpoint" else Pooling(mode, own.layers, own.combination, own.normalize)
    normalize = options.flag("normalize")
    if normalize is not None:
        pooling = replace(pooling, normalize=normalize)
    dimensions = options.number("dimensions", 1, pooled_width(pooling, description))
    return pooling if dimensions is None else replace(pooling, dimensions=dimensions)


def wire_type_of(options: Options) -> WireType:
    """Return the type of vectors and states."""
    options.choice("embedding_type", ("float",))  # NIM's; it has others
    name = options.choice("data_type", list(_OPEN_TYPES))
    return _OPEN_TYPES[name] if name else "float32"


def function_of(options: Options, default: ScoreFunction) -> ScoreFunction:
    """Return the function that makes scores of logits."""
    return options.choice("function", get_args(ScoreFunction)) or default


def priority_of(options: Options, default: int) -> int:
    """Return the priority: "interactive" or "bulk", or a number as Triton has it; 1 is interactive, 0 the default."""
    value = options.given.get("priority")
    if isinstance(value, int) and not isinstance(value, bool):
        number = options.number("priority", 0, (1 << 64) - 1) or 0
        return default if not number else INTERACTIVE if number == 1 else BULK
    name = options.choice("priority", list(_PRIORITIES))
    return default if name is None else _PRIORITIES[name]


def timeout_of(options: Options) -> float:
    """Return the seconds that a request may take; infinity where nothing is said. The parameter is in microseconds."""
    microseconds = options.number("timeout", 0, (1 << 63) - 1)
    return microseconds / 1e6 if microseconds else math.inf


def offset_unit_of(options: Options) -> OffsetUnit:
    """Return the unit of offsets."""
    return options.choice("offset_unit", get_args(OffsetUnit)) or "code_points"
