"""Parses EncodingOptions into the options of the tokenizer and the workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from bertstream.server.core.errors import invalid, not_available
from bertstream.server.core.kinds import TextKind, expansion_of, for_kind
from bertstream.server.core.models import ServedModel
from bertstream.server.core.plans import EncodingPlan, WindowPlan, default_pooling, output_sizes, pooled_width
from bertstream.server.core.tasks.sparse import LEXICAL, lexical_options
from bertstream.server.core.tokenization import Column, TokenizeOptions
from bertstream.server.core.windows import Windowing
from bertstream.server.protocols.bertstream_v1.validation.names import (
    COLUMNS,
    LAYER_COMBINATIONS,
    OFFSET_UNITS,
    OUTPUTS,
    POOLING_MODES,
    PRIORITIES,
    TEXT_KINDS,
    WIRE_TYPES,
)
from bertstream.server.protocols.bertstream_v1.validation.prompts import parse_prompt
from bertstream.server.protocols.bertstream_v1.validation.tokenization import (
    effective_truncation,
    parse_truncation,
)
from bertstream.server.protocols.bertstream_v1.validation.windows import parse_windows, write_windows
from bertstream.server.protocols.enums import name_of, names_of, value_of
from bertstream.v1 import encoding_pb2, types_pb2
from bertstream.workers.contract import INTERACTIVE, Output, OutputOptions, Pooling, PoolingMode
from bertstream.workers.programs.description import ModelDescription

_REMEMBERED_BYTES = 1024  # of options; a prompt may be long


@dataclass(frozen=True, slots=True)
class AskedEncoding(EncodingPlan):
    """A plan, and the options in effect, which the response repeats."""

    effective: encoding_pb2.EncodingOptions


def parse_encoding(
    options: encoding_pb2.EncodingOptions,
    name: str,
    description: ModelDescription,
    default_priority: int,
    path: str = "options",
    default_output: Output = "pooled",
) -> AskedEncoding:
    """Parse the options.

    Raises INVALID_ARGUMENT with the field's path, or FAILED_PRECONDITION for an output that the model lacks.
    """
    output_options = _output_options(options, description, path, default_output)
    kind = name_of(TEXT_KINDS, options.text_kind, f"{path}.text_kind")
    _refuse_beside_expansion(output_options.outputs, description, kind, path)
    truncation = parse_truncation(options.truncation, for_kind(description, kind), f"{path}.truncation")
    prompt = parse_prompt(options, description, path, kind)
    unset = options.priority == types_pb2.PRIORITY_UNSPECIFIED
    priority = default_priority if unset else name_of(PRIORITIES, options.priority, f"{path}.priority")
    effective = encoding_pb2.EncodingOptions(
        model=name,
        outputs=[value_of(OUTPUTS, output) for output in output_options.outputs],
        pooling=effective_pooling(output_options.pooling) if output_options.pooling else None,
        data_type=value_of(WIRE_TYPES, output_options.wire_type),
        truncation=effective_truncation(truncation),
        prompt=prompt,
        priority=value_of(PRIORITIES, priority),
        hidden_state_layers=output_options.hidden_layers,
        attention_layers=output_options.attention_layers,
        attention_heads=output_options.attention_heads,
        token_outputs=options.token_outputs,
        text_kind=value_of(TEXT_KINDS, kind),
        offset_unit=value_of(OFFSET_UNITS, name_of(OFFSET_UNITS, options.offset_unit, f"{path}.offset_unit")),
    )
    special = options.add_special_tokens if options.HasField("add_special_tokens") else None
    if special is not None:
        effective.add_special_tokens = special
    windows = parse_windows(options, truncation.max_length, path, may_be_apart=True)
    plan, computed = None, output_options
    if windows is not None:
        _refuse_beside_windows(options, output_options, description, prompt, path)
        write_windows(windows, effective)
        plan, computed = _window_plan(windows, output_options)
    asked = options.WhichOneof("prefix") is not None
    shown = names_of(COLUMNS, options.token_outputs, f"{path}.token_outputs")
    columns: frozenset[Column] = frozenset(column for column in shown if column)
    for_spans: frozenset[Column] = frozenset(
        {"offsets", "word_ids"} if "pooled_spans" in output_options.outputs else ()
    )
    unit = name_of(OFFSET_UNITS, options.offset_unit, f"{path}.offset_unit")
    tokenize = TokenizeOptions(truncation, columns=columns | for_spans, offset_unit=unit)
    if windows is not None:
        tokenize = replace(tokenize, windows=True, stride=windows.stride)
    sizes = output_sizes(output_options, description)
    return AskedEncoding(
        *(computed, tokenize, special, prompt, asked, priority, sizes, columns, None in shown, effective),
        kind=kind,
        windows=plan,
    )


def _window_plan(windows: Windowing, output_options: OutputOptions) -> tuple[WindowPlan, OutputOptions]:
    """Return how windows become one vector, and what the workers compute: what is still to be pooled in float32."""
    assert output_options.pooling is not None
    plan = WindowPlan(windows.pooling, output_options.pooling.normalize, output_options.wire_type)
    return plan, output_options if windows.pooling == "none" else replace(output_options, wire_type="float32")


def _refuse_beside_windows(
    options: encoding_pb2.EncodingOptions,
    output_options: OutputOptions,
    description: ModelDescription,
    prompt: str,
    path: str,
) -> None:
    """Raise INVALID_COMBINATION for what does not go with windows."""
    leaves_out = output_options.pooling is not None and output_options.pooling.mode == "checkpoint"
    for is_asked, field, why in (
        (output_options.outputs != ("pooled",), "outputs", "windows go with POOLED alone"),
        (bool(options.token_outputs), "token_outputs", "windows have no columns of tokens; TokenizeTexts gives them"),
        (
            bool(prompt) and leaves_out and not description.default_pooling.include_prompt,
            "windows",
            "this checkpoint leaves the prompt out of the pooling, and windows behind the first have none",
        ),
    ):
        if is_asked:
            raise invalid(f"{path}.{field}", why, "INVALID_COMBINATION")


def plan_of(options: encoding_pb2.EncodingOptions, model: ServedModel) -> AskedEncoding:
    """Return the plan of a unary call, as `parse_encoding` does; it is remembered, and so must not be changed."""

    def make() -> AskedEncoding:
        return parse_encoding(options, model.name, model.description, INTERACTIVE)

    if options.ByteSize() > _REMEMBERED_BYTES:
        return make()
    plan: AskedEncoding = model.plans.get((parse_encoding, options.SerializeToString(deterministic=True)), make)
    return plan


def effective_pooling(pooling: Pooling) -> encoding_pb2.PoolingOptions:
    """Return the pooling in effect, as a response repeats it."""
    return encoding_pb2.PoolingOptions(
        mode=value_of(POOLING_MODES, pooling.mode),
        layers=pooling.layers,
        layer_combination=value_of(LAYER_COMBINATIONS, pooling.combination),
        normalize=pooling.normalize,
        dimensions=pooling.dimensions,
    )


def available_outputs(description: ModelDescription) -> tuple[Output, ...]:
    """Return the outputs that the model has."""
    lacking: dict[Output, bool] = {
        "pooler_output": not description.has_pooler,
        "token_vectors": description.multi_vector is None,
        "sparse_weights": LEXICAL not in description.heads,
    }
    return tuple(output for output in OUTPUTS.values() if not lacking.get(output))


def _output_options(
    options: encoding_pb2.EncodingOptions, description: ModelDescription, path: str, default_output: Output
) -> OutputOptions:
    outputs: tuple[Output, ...] = tuple(names_of(OUTPUTS, options.outputs, f"{path}.outputs")) or (default_output,)
    available = available_outputs(description)
    if missing := [output for output in outputs if output not in available]:
        raise not_available(f"this checkpoint has no {missing[0]}; it has {', '.join(available)}")
    _refuse_unused(options, outputs, path)
    pools = {"pooled", "pooled_spans"} & set(outputs)
    pooling = _pooling(options.pooling, description, f"{path}.pooling") if pools else None
    if "pooled_spans" in outputs and pooling and pooling.mode == "pooler":
        raise invalid(f"{path}.pooling.mode", "the model's own pooler reads a whole text", "INVALID_COMBINATION")
    states, weights = "hidden_states" in outputs, "attentions" in outputs
    last, heads = description.layers, description.attention_heads
    return OutputOptions(
        outputs,
        pooling,
        name_of(WIRE_TYPES, options.data_type, f"{path}.data_type"),
        tuple(sorted(_numbers(options.hidden_state_layers, 0, last, f"{path}.hidden_state_layers"))) if states else (),
        tuple(sorted(_numbers(options.attention_layers, 1, last, f"{path}.attention_layers"))) if weights else (),
        _numbers(options.attention_heads, 0, heads - 1, f"{path}.attention_heads") if weights else (),
        lexical_options(description) if "sparse_weights" in outputs else None,
    )


def _refuse_beside_expansion(
    outputs: Sequence[Output], description: ModelDescription, kind: TextKind | None, path: str
) -> None:
    """Raise INVALID_COMBINATION for outputs that would be of other tokens than the text's own."""
    if "token_vectors" not in outputs:
        return
    if expansion_of(description, kind) is not None and len(outputs) > 1:
        about = "this checkpoint expands queries for TOKEN_VECTORS; ask for other outputs in a call of their own"
        raise invalid(f"{path}.outputs", about, "INVALID_COMBINATION")
    if "pooled_spans" in outputs:
        raise invalid(f"{path}.outputs", "TOKEN_VECTORS and POOLED_SPANS exclude each other", "INVALID_COMBINATION")


def _refuse_unused(options: encoding_pb2.EncodingOptions, outputs: Sequence[Output], path: str) -> None:
    """Raise INVALID_COMBINATION for an option that none of the requested outputs uses."""
    for used, field, needs in (
        (options.HasField("pooling"), "pooling", ("pooled", "pooled_spans")),
        (bool(options.hidden_state_layers), "hidden_state_layers", ("hidden_states",)),
        (bool(options.attention_layers), "attention_layers", ("attentions",)),
        (bool(options.attention_heads), "attention_heads", ("attentions",)),
    ):
        if used and not set(needs) & set(outputs):
            named = " or ".join(need.upper() for need in needs)
            raise invalid(
                f"{path}.{field}", f"it means something only with {named} among the outputs", "INVALID_COMBINATION"
            )


def _numbers(values: Sequence[int], first: int, last: int, path: str) -> tuple[int, ...]:
    """Return layers or heads from `first` to `last`, negative ones counted from the end; all where none is given."""
    least = first - last - 1
    there = f"between {first} and {last}, or {least} and -1" if first else f"between {least} and {last}"
    for i, value in enumerate(values[: last + 2]):  # a longer list must name one twice
        if not (first <= value <= last or least <= value < 0):
            raise invalid(f"{path}[{i}]", f"{value} is not {there}", "INVALID_RANGE")
    numbers = [value if value >= 0 else last + 1 + value for value in values[: last + 2]]
    if len(set(numbers)) < len(numbers):
        raise invalid(path, "a number is named twice", "INVALID_COMBINATION")
    return tuple(numbers) or tuple(range(first, last + 1))


def _pooling(options: encoding_pb2.PoolingOptions, description: ModelDescription, path: str) -> Pooling:
    own = default_pooling(description)
    unset = options.mode in (encoding_pb2.POOLING_MODE_UNSPECIFIED, encoding_pb2.POOLING_MODE_CHECKPOINT)
    mode = own.mode if unset else name_of(POOLING_MODES, options.mode, f"{path}.mode")
    layers = _layers(options, mode, description, path)
    combination = name_of(LAYER_COMBINATIONS, options.layer_combination, f"{path}.layer_combination")
    normalize = options.normalize if options.HasField("normalize") else own.normalize
    pooling = Pooling(mode, layers, combination, normalize, options.dimensions or (own.dimensions if unset else 0))
    width = pooled_width(pooling, description)
    if not 0 <= options.dimensions <= width:
        raise invalid(f"{path}.dimensions", f"{options.dimensions} is not between 0 and {width}", "INVALID_RANGE")
    return pooling


def _layers(
    options: encoding_pb2.PoolingOptions, mode: PoolingMode, description: ModelDescription, path: str
) -> tuple[int, ...]:
    last = description.layers
    for i, layer in enumerate(options.layers[: last + 2]):  # a longer list must name one twice
        if not -last - 1 <= layer <= last:
            raise invalid(f"{path}.layers[{i}]", f"{layer} is not between {-last - 1} and {last}", "INVALID_RANGE")
    layers = tuple(layer % (last + 1) for layer in options.layers[: last + 2]) or (last,)
    if len(set(layers)) < len(layers):
        raise invalid(f"{path}.layers", "a layer is named twice", "INVALID_COMBINATION")
    if mode == "pooler":
        if not description.has_pooler:
            raise not_available("this checkpoint has no pooler; choose another pooling mode")
        if layers != (last,):
            raise invalid(f"{path}.layers", "the model's own pooler reads the last layer only", "INVALID_COMBINATION")
    if mode == "checkpoint" and layers != (last,):
        why = "the checkpoint's own pooling reads the last layer only; choose a pooling mode for others"
        raise invalid(f"{path}.layers", why, "INVALID_COMBINATION")
    return layers
