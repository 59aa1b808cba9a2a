"""Give vectors, states and attention weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from bertstream.server.core.encoding import Encoded, encode, window_costs
from bertstream.server.core.errors import invalid
from bertstream.server.core.kinds import expansion_of, for_kind
from bertstream.server.core.plans import EncodingPlan, default_pooling, output_sizes, pooled_width
from bertstream.server.core.preparation import Prepared, prepare
from bertstream.server.core.tokenization import Ids, TokenizeOptions
from bertstream.server.protocols.inference.options import (
    PROMPT,
    TRUNCATION,
    at,
    kind_of,
    offset_unit_of,
    pooling_of,
    priority_of,
    prompt_of,
    truncation_of,
    wire_type_of,
)
from bertstream.server.protocols.inference.tasks import tokens
from bertstream.server.protocols.inference.tasks.base import (
    AskedTensors,
    ComputedTensors,
    InferTurn,
    Work,
    check_size,
    window_cost,
)
from bertstream.server.protocols.inference.tensors import Array, Spec, pad, pad_squares
from bertstream.workers.contract import Output, OutputOptions, WireType
from bertstream.workers.programs.description import ModelDescription

EMBEDDINGS, VECTOR_COUNT = "embeddings", "vector_count"
# Outputs that have another name in the core, or come of one that it has.
_OWN: dict[str, Output] = {EMBEDDINGS: "pooled", VECTOR_COUNT: "token_vectors"}
_AS_IN_CORE: tuple[Output, ...] = ("pooler_output", "last_hidden_state", "token_vectors", "hidden_states", "attentions")
_DATATYPES = {"float32": "FP32", "float16": "FP16", "bfloat16": "BF16"}
_LAYERED: tuple[Output, ...] = ("hidden_states", "attentions")


class Encoding:
    """Give what every encoder has: vectors of texts, and all that is inside it."""

    parameters = (
        TRUNCATION
        | PROMPT
        | {
            *("pooling", "normalize", "dimensions", "embedding_type"),
            *("data_type", "add_special_tokens", "offset_unit"),
        }
    )

    def reads_pairs(self, description: ModelDescription) -> bool:
        """Return False."""
        return False

    def outputs(self, description: ModelDescription) -> Sequence[Spec]:
        """Return all outputs of an encoder; of hidden states and attention weights one for each layer."""
        return list(_specs(description))

    def defaults(self, description: ModelDescription) -> Sequence[str]:
        """Return the vector, and how many tokens it is of."""
        return (EMBEDDINGS, tokens.COUNT)

    async def prepare(self, asked: AskedTensors, turn: InferTurn) -> Work:
        """Tokenize the texts."""
        plan, model, given = _plan(asked, turn), turn.model, asked.given
        prepared = await prepare(model, plan, given.sent)
        prepared.refuse_failed()
        width = max(given.width or 0, int(prepared.batch.lengths.max()))
        specs = [_as_sent(spec, plan.output_options.wire_type) for spec in asked.outputs]
        check_size(specs, turn, int(prepared.batch.lengths.size), width)

        async def compute() -> ComputedTensors:
            made = tokens.token_arrays(prepared.tokens, width, asked.names)
            if not plan.output_options.outputs:
                return ComputedTensors(made, ())
            encoded = await encode(model, plan, prepared, turn, waits=turn.waits)
            return ComputedTensors({**made, **_arrays(encoded, prepared, width)}, encoded.outcomes)

        texts = int(prepared.batch.lengths.size)
        cost = window_cost(specs, turn, texts, width, int(window_costs(plan, prepared, model).sum()))
        return Work(texts, cost, prepared.tokenize_seconds, compute)


def _specs(description: ModelDescription) -> Iterator[Spec]:
    hidden, heads = description.hidden_size, description.attention_heads
    own = default_pooling(description)
    yield Spec(EMBEDDINGS, "FP32", (-1, own.dimensions or pooled_width(own, description)))
    yield from tokens.SPECS
    if description.has_pooler:
        yield Spec("pooler_output", "FP32", (-1, hidden))
    if description.multi_vector is not None:
        yield Spec("token_vectors", "FP32", (-1, -1, description.multi_vector.width))
        yield Spec(VECTOR_COUNT, "INT32", (-1, 1))
    yield Spec("last_hidden_state", "FP32", (-1, -1, hidden))
    for layer in range(description.layers + 1):
        yield Spec(f"hidden_states.{layer}", "FP32", (-1, -1, hidden))
    for layer in range(1, description.layers + 1):
        yield Spec(f"attentions.{layer}", "FP32", (-1, heads, -1, -1))


def _as_sent(spec: Spec, wire_type: WireType) -> Spec:
    """Return the output with the type that its numbers have in the response."""
    return replace(spec, datatype=_DATATYPES[wire_type]) if spec.datatype == "FP32" else spec


def _plan(asked: AskedTensors, turn: InferTurn) -> EncodingPlan:
    options, description = asked.options, turn.model.description
    wanted, kind = _output_options(asked, description), kind_of(options)
    if "token_vectors" in wanted.outputs and expansion_of(description, kind) is not None and len(wanted.outputs) > 1:
        about = "this checkpoint expands queries for token_vectors: ask for other outputs in a request of their own"
        raise invalid("outputs", about, "INVALID_COMBINATION")
    prompt, prompt_asked = prompt_of(options, description)
    if prompt and prompt_asked and isinstance(asked.given.sent.inputs, Ids):
        (name,) = PROMPT & options.given.keys()
        raise invalid(at(name), "a prompt goes with texts and pairs only", "INVALID_COMBINATION")
    columns, cut = tokens.columns_for(asked.names), truncation_of(options, for_kind(description, kind))
    return EncodingPlan(
        wanted,
        TokenizeOptions(cut, columns=columns, offset_unit=offset_unit_of(options)),
        add_special_tokens=options.flag("add_special_tokens"),
        prompt=prompt,
        prompt_asked=prompt_asked,
        priority=priority_of(options, turn.priority),
        sizes=output_sizes(wanted, description),
        shown=frozenset(),
        type_ids=False,
        kind=kind,
    )


def _output_options(asked: AskedTensors, description: ModelDescription) -> OutputOptions:
    """Return what the workers are to compute."""
    layers: dict[Output, list[int]] = {kind: [] for kind in _LAYERED}
    outputs: list[Output] = []
    for name in asked.names:
        kind, _, layer = name.partition(".")
        output = next((each for each in _AS_IN_CORE if each == kind), _OWN.get(name))
        if output is not None:
            outputs.append(output)
        if output in layers:
            layers[output].append(int(layer))
    pooling = pooling_of(asked.options, description)
    heads = tuple(range(description.attention_heads))
    return OutputOptions(
        tuple(dict.fromkeys(outputs)),
        pooling if "pooled" in outputs else None,
        wire_type_of(asked.options),
        tuple(sorted(layers["hidden_states"])),
        tuple(sorted(layers["attentions"])),
        heads if layers["attentions"] else (),
    )


def _arrays(encoded: Encoded, prepared: Prepared, width: int) -> dict[str, Array]:
    """Return what was computed, under the names of the outputs and padded to `width`."""
    lengths, heads = prepared.batch.lengths, len(prepared.output_options.attention_heads)
    names: dict[str, str] = {own: name for name, own in _OWN.items()}
    made: dict[str, Array] = {}
    for name, values in encoded.tensors.items():
        if name.startswith("attentions"):
            made[name] = pad_squares(values, lengths, heads, width)
        elif name == "token_vectors":
            counts = prepared.layout.counts(name)
            made |= {name: pad(values, counts, width), VECTOR_COUNT: counts[:, None].astype("<i4")}
        elif "hidden_state" in name:
            made[name] = pad(values, lengths, width)
        else:
            made[names.get(name, name)] = values
    return made
