"""Make the outputs of each work, in the wire's types, from a batch's states and attention weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bertstream.workers.contract import HeadName, Output, OutputOptions, Pooling, WireType, Work
from bertstream.workers.engine.batch import Prepared
from bertstream.workers.engine.copies import to_device, to_host
from bertstream.workers.programs.interface import AttentionOptions, Encoded, Program
from bertstream.workers.ragged import Ints, pieces_of, rows_of, starts_of

Named = dict[str, Tensor]
MULTI_VECTOR: HeadName = "multi_vector"
SPAN_ROWS = 8192  # states gathered at once: spans overlap, so their states may be hundreds of times the text's


@dataclass(frozen=True, slots=True)
class SharedRows:
    """Hold a work's rows of a tensor that all works of a batch share, which may still be on its way to the CPU."""

    values: Tensor  # [n, d] or [n]
    place: Ints

    def collect(self) -> Tensor:
        """Return the rows as a copy, which keeps no other work's rows alive."""
        return _rows(self.values, self.place)


Pending = Mapping[str, Tensor | SharedRows]


def collect(outputs: Pending) -> Named:
    """Return the tensors, once all of them have arrived."""
    return {name: each.collect() if isinstance(each, SharedRows) else each for name, each in outputs.items()}


@dataclass(frozen=True, slots=True)
class Attentions:
    """Hold the attention weights of a batch."""

    options: AttentionOptions
    weights: list[list[Tensor]]  # for each layer and text asked for: [heads, n, n] float32


class Outputs:
    """Derive outputs from the layers' states; what several works share is made once a batch."""

    def __init__(
        self, program: Program, batch: Prepared, encoded: Encoded, attentions: Attentions | None = None
    ) -> None:
        self._program = program
        self._batch = batch
        self._states = encoded.states
        self._vectors = encoded.vectors
        self._weights = attentions
        self._pooled: dict[tuple[object, ...], Tensor] = {}
        self._sent: dict[tuple[object, ...], Named] = {}
        self._pooler: Tensor | None = None

    def of(self, work: Work, place: Ints) -> dict[str, Tensor | SharedRows]:
        """Return the outputs, other than those of heads, of the texts at these places of the batch."""
        found = dict[str, Tensor | SharedRows]()
        for output in work.output_options.outputs:
            if output in STATE_OUTPUTS:
                found |= STATE_OUTPUTS[output](self, work, place)
        return found

    def _pooled_vectors(self, work: Work, place: Ints) -> Pending:
        return {name: SharedRows(each, place) for name, each in self._send(work.output_options, "pooled").items()}

    def _pooler_vectors(self, work: Work, place: Ints) -> Pending:
        return {
            name: SharedRows(each, place) for name, each in self._send(work.output_options, "pooler_output").items()
        }

    def _span_vectors(self, work: Work, place: Ints) -> Pending:
        return to_wire("pooled_spans", self._pool_spans(work, place), work.output_options.wire_type)

    def _send(self, output_options: OutputOptions, output: Output) -> Named:
        """Return one vector a text of the whole batch, in one copy for all works with the same options."""
        pooling = _pooling_of(output_options) if output == "pooled" else None
        key = (pooling, output_options.wire_type)
        if key not in self._sent:
            values = self._pooler_output() if pooling is None else self._finished(pooling)
            self._sent[key] = {
                name: to_host(each) for name, each in encoded(output, values, output_options.wire_type).items()
            }
        return self._sent[key]

    def _last_states(self, work: Work, place: Ints) -> Pending:
        rows = rows_of(self._batch.starts[place], work.batch.lengths)
        states = _rows(self._states[self._batch.last_layer], rows)
        return to_wire("last_hidden_state", states, work.output_options.wire_type)

    def _token_vectors(self, work: Work, place: Ints) -> Pending:
        spans = work.batch.spans
        assert spans is not None
        rows = np.repeat(self._batch.starts[place], spans.counts) + spans.starts
        vectors = self._program.logits(MULTI_VECTOR, _rows(self._states[self._batch.last_layer], rows))
        return to_wire("token_vectors", vectors, work.output_options.wire_type)

    def _layers_states(self, work: Work, place: Ints) -> Pending:
        rows, found = rows_of(self._batch.starts[place], work.batch.lengths), Named()
        for layer in work.output_options.hidden_layers:
            found |= to_wire(f"hidden_states.{layer}", _rows(self._states[layer], rows), work.output_options.wire_type)
        return found

    def _attentions(self, work: Work, place: Ints) -> Pending:
        assert self._weights is not None
        computed, output_options, found = self._weights.options, work.output_options, Named()
        texts = [computed.texts.index(text) for text in place.tolist()]
        heads = torch.tensor([computed.heads.index(head) for head in output_options.attention_heads])
        for layer in output_options.attention_layers:
            weights = self._weights.weights[computed.layers.index(layer)]
            chosen = [weights[text].index_select(0, heads.to(weights[text].device)) for text in texts]
            found |= flat_to_wire(f"attentions.{layer}", chosen, output_options.wire_type)
        return found

    def _finished(self, pooling: Pooling) -> Tensor:
        """Return the finished vectors [n, d] of all texts of the batch."""
        ready = self._vectors.get(pooling)
        return finish(pooling, self._pool(pooling)) if ready is None else ready

    def _pool(self, pooling: Pooling) -> Tensor:
        """Return vectors [n, d] of all texts of the batch, before they are cut and normalised."""
        if pooling.mode == "pooler":
            return self._pooler_output()
        key = (pooling.mode, pooling.layers, pooling.combination, pooling.skipped)
        if key not in self._pooled:
            states, mode = self._mixed(pooling), pooling.mode
            rows, lengths = self._without_first(pooling.skipped)
            self._pooled[key] = self._pool_rows(states, mode, rows, lengths, pooling.skipped)
        return self._pooled[key]

    def _without_first(self, skipped: int) -> tuple[Ints | None, list[int]]:
        """Return the rows (None: all) and lengths of the batch's texts without their first tokens.

        A text with no more tokens than these keeps its last one: it belongs to another work, which skips none.
        """
        if not skipped:
            return None, self._batch.lengths
        before = np.array(self._batch.lengths)
        lengths = np.maximum(before - skipped, 1)
        return rows_of(starts_of(before) + before - lengths, lengths), lengths.tolist()

    def _pool_spans(self, work: Work, place: Ints) -> Tensor:
        """Return the vectors of a work's spans in their order, [S, d]."""
        spans, pooling = work.batch.spans, _pooling_of(work.output_options)
        assert spans is not None
        starts, lengths = np.repeat(self._batch.starts[place], spans.counts) + spans.starts, spans.lengths
        states = self._mixed(pooling)
        pooled = [
            self._pool_rows(states, pooling.mode, rows_of(starts[some], lengths[some]), lengths[some].tolist())
            for some in (slice(*piece) for piece in pieces_of(lengths, SPAN_ROWS))
        ]
        if not pooled:  # the width does not depend on the token
            pooled = [self._pool_rows(states, pooling.mode, np.zeros(1, np.int64), [1])[:0]]
        return finish(pooling, torch.cat(pooled))

    def _mixed(self, pooling: Pooling) -> list[Tensor]:
        """Return the states to pool, [T, H]: each layer's, whose vectors are then concatenated, or a mix of all."""
        states = [self._states[layer] for layer in pooling.layers]
        if pooling.combination == "concatenate" or len(states) == 1:
            return states
        total = states[0].float()
        for each in states[1:]:
            total = total + each.float()
        return [total / len(states) if pooling.combination == "mean" else total]

    def _pool_rows(
        self, states: list[Tensor], mode: str, rows: Ints | None, lengths: list[int], skipped: int = 0
    ) -> Tensor:
        """Pool groups of consecutive rows, `lengths` of them at a time; None: all rows of the batch."""
        chosen = (each if rows is None else _rows(each, rows) for each in states)
        return torch.cat([self._program.pool(each.float(), lengths, mode, skipped) for each in chosen], dim=1)

    def _pooler_output(self) -> Tensor:
        if self._pooler is None:
            first = _rows(self._states[self._batch.last_layer], starts_of(np.array(self._batch.lengths)))
            self._pooler = self._program.pooler(first).float()
        return self._pooler


# What makes each output, other than those of heads, of the texts at these places of the batch.
STATE_OUTPUTS: Mapping[Output, Callable[[Outputs, Work, Ints], Pending]] = {
    "pooled": Outputs._pooled_vectors,
    "pooler_output": Outputs._pooler_vectors,
    "pooled_spans": Outputs._span_vectors,
    "attentions": Outputs._attentions,
    "last_hidden_state": Outputs._last_states,
    "hidden_states": Outputs._layers_states,
    "token_vectors": Outputs._token_vectors,
}


def finish(pooling: Pooling, pooled: Tensor) -> Tensor:
    """Cut vectors to their first dimensions and normalise them, as asked: [n, d] -> [n, d']."""
    if pooling.dimensions:
        pooled = pooled[:, : pooling.dimensions]
    return torch.nn.functional.normalize(pooled, dim=1) if pooling.normalize else pooled


def to_wire(name: str, values: Tensor, wire_type: WireType) -> Named:
    """Return values [n, d] in the wire's type, on the CPU."""
    return {key: each.cpu() for key, each in encoded(name, values, wire_type).items()}


def encoded(name: str, values: Tensor, wire_type: WireType) -> Named:
    """Return values [n, d] in the wire's type.

    int8 is symmetric, with a scale for each row: "NAME.scales" float32 [n].
    """
    if wire_type == "int8":
        values = values.float()
        # At least the smallest normal number, so that a row of zeros, or of almost nothing, has a scale to divide by.
        scales = (values.abs().amax(dim=1) / 127.0).clamp(min=torch.finfo(torch.float32).tiny)
        quantised = (values / scales.unsqueeze(1)).round()
        return {name: quantised.clamp(-127, 127).to(torch.int8), f"{name}.scales": scales}
    if wire_type == "bfloat16":
        return {name: values.to(torch.bfloat16).contiguous().view(torch.int16)}
    return {name: values.to(torch.float16 if wire_type == "float16" else torch.float32).contiguous()}


def flat_to_wire(name: str, matrices: list[Tensor], wire_type: WireType) -> Named:
    """Return matrices [heads, n, n] of different n end to end, in one dimension.

    A row is one token's weights in one head.
    """
    parts = [encoded(name, matrix.reshape(-1, matrix.shape[-1]), wire_type) for matrix in matrices]
    return {key: torch.cat([part[key].reshape(-1) for part in parts]).cpu() for key in parts[0]}


def _rows(values: Tensor, rows: Ints) -> Tensor:
    return values.index_select(0, to_device(torch.from_numpy(rows), values.device))


def _pooling_of(output_options: OutputOptions) -> Pooling:
    assert output_options.pooling is not None
    return output_options.pooling
