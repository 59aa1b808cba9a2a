"""CUDA graphs: a small batch is replayed as it was recorded, since its kernels take less time than launching them.

A graph has fixed shapes, so there is one for each of some numbers of tokens. A batch takes the smallest that it fits:
what it leaves of the tokens are more texts, whose states nobody reads, and what it leaves of the texts have no tokens.
Beside the states it writes each text's vector as most callers want it, which takes one kernel after the other, too.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertstream.workers.contract import Pooling
from bertstream.workers.engine.copies import to_device
from bertstream.workers.engine.outputs import finish
from bertstream.workers.programs.interface import (
    Advanced,
    AttentionOptions,
    Encoded,
    Program,
    RecordableProgram,
    with_sources,
)

log = logging.getLogger(__name__)

SWITCH = "BERTSTREAM_GRAPHS"
# Above about 8,000 tokens the kernels take longer than their launches.
TOKENS = (128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
LONGEST = 512  # of one text: attention's grid is as large as the longest could need, for every text
_FEWEST_TEXTS, _MOST_TEXTS = 16, 256  # that a graph takes, for the same reason
_MEAN_TOKENS = 16
# How far 1 - cosine of states or vectors may be from 0: another number of rows may take another kernel.
NEAR = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}
NEAR_FLOAT8 = 5e-2  # whose steps make more of another rounding; on the CPU two right ways are 1e-2 apart

Recorded = tuple[Callable[[], None], list[Tensor]]  # does it again, and what that writes to
Recorder = Callable[[Callable[[], list[Tensor]]], Recorded]


class GraphError(Exception):
    """A graph does not give what the program gives."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the model can be given."""

    vocabulary: int
    types: int  # 0 for none
    max_tokens: int
    last_layer: int
    float8: bool = False  # whether its products are of fp8


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """The shape of a graph: exactly so many tokens in exactly so many texts, some without a token."""

    tokens: int
    texts: int
    longest: int

    def cu_seqlens(self, lengths: Sequence[int]) -> NDArray[np.int32] | None:
        """Where texts of these lengths start, then those that fill the rest, to the end: [texts + 1].

        None where they do not fit.
        """
        used = sum(lengths)
        rest = range(used, self.tokens, self.longest)
        if used > self.tokens or max(lengths) > self.longest or len(lengths) + len(rest) > self.texts:
            return None
        starts = np.full(self.texts + 1, self.tokens, np.int32)
        starts[0] = 0
        starts[1 : len(lengths) + 1] = np.cumsum(lengths)
        starts[len(lengths) : len(lengths) + len(rest)] = rest
        return starts


def buckets(batch_tokens: int, max_tokens: int) -> list[Bucket]:
    """Return the graphs to record for batches of at most so many tokens, the smallest first."""
    longest = min(LONGEST, max_tokens)
    useful = [tokens for place, tokens in enumerate(TOKENS) if place == 0 or TOKENS[place - 1] < batch_tokens]
    return [Bucket(tokens, _texts_of(tokens, longest), longest) for tokens in useful]


def _texts_of(tokens: int, longest: int) -> int:
    """As many as are likely in so many tokens, and at least twice what fills a graph that holds one text."""
    return max(min(max(tokens // _MEAN_TOKENS, _FEWEST_TEXTS), _MOST_TEXTS), 2 * (tokens // longest + 1))


class Graph:
    """One recording. What is read of it are copies, since the next replay writes to the same memory."""

    def __init__(self, program: RecordableProgram, bucket: Bucket, record: Recorder, device: torch.device) -> None:
        self.bucket = bucket
        self._ids = torch.zeros(bucket.tokens, dtype=torch.int32, device=device)
        self._type_ids = torch.zeros_like(self._ids)
        starts = bucket.cu_seqlens([1])
        assert starts is not None
        self._layout = torch.from_numpy(_layout(starts, 1)).to(device)
        self._replay, (self._states, *vectors) = record(lambda: self._compute(program))
        self._vectors = dict(zip(program.poolings, vectors, strict=True))

    def _compute(self, program: RecordableProgram) -> list[Tensor]:
        states = program.last_states(self._ids, self._type_ids, self._layout[0], self.bucket.longest)
        modes = {each.mode for each in program.poolings}
        pooled = {mode: program.pool_at(states, self._layout[1], mode) for mode in modes}
        return [states, *(finish(each, pooled[each.mode]) for each in program.poolings)]

    def replay(self, ids: Tensor, type_ids: Tensor | None, cu_seqlens: NDArray[np.int32]) -> None:
        """ids, type_ids: [T], on the device; cu_seqlens: the bucket's."""
        tokens = ids.size(0)
        # What is after them is left from other batches: valid ids of texts that nobody asks for.
        self._ids[:tokens].copy_(ids, non_blocking=True)
        if type_ids is None:
            self._type_ids.zero_()
        else:
            self._type_ids[:tokens].copy_(type_ids, non_blocking=True)
        layout = torch.from_numpy(_layout(cu_seqlens, tokens))
        self._layout.copy_(to_device(layout, self._layout.device), non_blocking=True)
        self._replay()

    def states(self, tokens: int) -> Tensor:
        """[T, H] of what was replayed last, the caller's own, as vectors are."""
        return self._states[:tokens].clone()

    def vectors(self, pooling: Pooling, texts: int) -> Tensor:
        """[n, d]"""
        return self._vectors[pooling][:texts].clone()


def _layout(cu_seqlens: NDArray[np.int32], tokens: int) -> NDArray[np.int32]:
    """For attention, and for pooling, where what fills the rest has no tokens: it would take longest. [2, n + 1]"""
    return np.stack([cu_seqlens, np.minimum(cu_seqlens, tokens)])


class RecordedProgram:
    """A program whose small batches are replayed; all else is the plain program's. Not for several threads at once."""

    def __init__(
        self,
        plain: RecordableProgram,
        shapes: Sequence[Bucket],
        record: Recorder,
        device: torch.device,
        limits: Limits,
    ) -> None:
        """Record and check the graphs. Raises whatever stands in the way."""
        self.recorded = frozenset(plain.poolings)
        self._plain = plain
        self._last_layer = limits.last_layer
        # The largest first, so that the others find room in the memory that it has left.
        largest_first = sorted(shapes, reverse=True)
        with torch.inference_mode():
            self._graphs = [Graph(plain, bucket, record, device) for bucket in largest_first][::-1]
            for graph in self._graphs:
                check(graph, plain, device, limits)

    def encode(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        poolings: frozenset[Pooling],
    ) -> Encoded:
        """By a graph where one gives all of it, and its vectors where it has them."""
        ready = self.recorded & poolings
        others = with_sources(layers, poolings - ready, self._last_layer)
        replayed = self.replay(ids, type_ids, lengths, others, ready)
        if replayed is not None:
            return replayed
        return self._plain.encode(ids, type_ids, lengths, layers, poolings)

    @torch.inference_mode()
    def replay(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        poolings: frozenset[Pooling] = frozenset(),
    ) -> Encoded | None:
        """States [T, H] of `layers`, the last or none, and vectors [n, d] by `poolings`, which are among `recorded`.

        None where anything else is asked for, or nothing, or no graph takes the batch.
        """
        if layers not in ([self._last_layer], []) or not poolings <= self.recorded or not (layers or poolings):
            return None
        tokens = sum(lengths)
        for graph in self._graphs:
            if tokens <= graph.bucket.tokens and (starts := graph.bucket.cu_seqlens(lengths)) is not None:
                graph.replay(ids, type_ids, starts)
                vectors = {each: graph.vectors(each, len(lengths)) for each in poolings}
                return Encoded({layer: graph.states(tokens) for layer in layers}, vectors)
        return None

    def forward(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        attention: AttentionOptions | None = None,
    ) -> Advanced:
        return self._plain.forward(ids, type_ids, lengths, layers, attention)

    def embed(self, ids: Tensor, type_ids: Tensor | None, lengths: list[int]) -> Tensor:
        return self._plain.embed(ids, type_ids, lengths)

    def advance(
        self,
        states: Tensor,
        lengths: list[int],
        start: int,
        layers: list[int],
        attention: AttentionOptions | None = None,
    ) -> Advanced:
        return self._plain.advance(states, lengths, start, layers, attention)

    def pooler(self, first: Tensor) -> Tensor:
        return self._plain.pooler(first)

    def pool(self, states: Tensor, lengths: list[int], mode: str, skipped: int = 0) -> Tensor:
        return self._plain.pool(states, lengths, mode, skipped)

    @property
    def whole_text_heads(self) -> frozenset[str]:
        return self._plain.whole_text_heads

    @property
    def vocabulary_size(self) -> int:
        return self._plain.vocabulary_size

    def logits(self, head: str, states: Tensor) -> Tensor:
        return self._plain.logits(head, states)


def check(graph: Graph, program: RecordableProgram, device: torch.device, limits: Limits) -> None:
    """Compare a made-up batch with what the program gives for it. Raises GraphError."""
    generator = torch.Generator().manual_seed(graph.bucket.tokens)
    lengths = made_up_lengths(graph.bucket)
    ids = torch.randint(limits.vocabulary, (sum(lengths),), generator=generator, dtype=torch.int32).to(device)
    types = torch.randint(max(limits.types, 1), (sum(lengths),), generator=generator, dtype=torch.int32).to(device)
    starts = graph.bucket.cu_seqlens(lengths)
    assert starts is not None
    for type_ids in (types, None):
        encoded = program.encode(ids, type_ids, lengths, [limits.last_layer], frozenset())
        want = encoded.states[limits.last_layer]
        near = NEAR_FLOAT8 if limits.float8 else NEAR[want.dtype]
        graph.replay(ids, type_ids, starts)
        _compare(graph.states(sum(lengths)), want, near, graph.bucket)
        for pooling in program.poolings:
            vectors = finish(pooling, program.pool(want.float(), lengths, pooling.mode))
            _compare(graph.vectors(pooling, len(lengths)), vectors, near, graph.bucket)


def made_up_lengths(bucket: Bucket) -> list[int]:
    """Return some texts of different lengths, the longest first, that leave tokens and texts over."""
    left, length, lengths = bucket.tokens - bucket.tokens // 8, min(bucket.longest, bucket.tokens // 2), list[int]()
    while left and len(lengths) < bucket.texts // 2:
        lengths.append(max(1, min(length, left)))
        left -= lengths[-1]
        length = length * 3 // 4
    return lengths


def _compare(got: Tensor, want: Tensor, near: float, bucket: Bucket) -> None:
    if not bool(got.isfinite().all()):
        raise GraphError(f"the graph of {bucket.tokens} tokens gives numbers that are not finite")
    off = float(((got.double() - want.double()).norm(dim=1) / want.double().norm(dim=1)).max())
    if not off**2 / 2 <= near:  # that is 1 - cosine of rows that are equally long, as these should be
        raise GraphError(f"the graph of {bucket.tokens} tokens gives other numbers (off by {off:.2%})")


class CudaRecorder:
    """Records on a GPU. All graphs share their memory, since only one runs at a time."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # one, since libraries keep memory for each

    def __call__(self, run: Callable[[], list[Tensor]]) -> Recorded:
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(2):  # libraries set themselves up in their first calls, which cannot be recorded
                    run()
            torch.cuda.current_stream().wait_stream(self._stream)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
                written = run()
        return graph.replay, written


def record(
    program: RecordableProgram,
    device: torch.device,
    batch_tokens: int,
    limits: Limits,
    recorder: Callable[[torch.device], Recorder] | None = None,
) -> Program:
    """The program with its small batches recorded; as it is, and a line that says why, where there can be none."""
    if os.environ.get(SWITCH, "1") == "0":
        log.info("CUDA graphs are switched off by %s=0", SWITCH)
        return program
    started = time.monotonic()
    shapes = buckets(batch_tokens, limits.max_tokens)
    try:
        recorded = RecordedProgram(program, shapes, (recorder or CudaRecorder)(device), device, limits)
    except Exception as error:  # whatever it is: all that is lost is speed
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        log.warning("CUDA graphs are not used, small batches take longer: %s", reason)
        return program
    seconds = time.monotonic() - started
    log.info("%d CUDA graphs for batches of up to %d tokens in %.1f s", len(shapes), shapes[-1].tokens, seconds)
    return recorded
