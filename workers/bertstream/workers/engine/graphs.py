"""Replay small batches as CUDA graphs, since their kernels take less time than launching them.

A graph has fixed shapes, so there is one for each of several numbers of tokens. A batch takes the smallest that it
fits. The tokens that it leaves over become further texts, whose states nobody reads, and the texts that it leaves over
have no tokens. Beside the states, a graph writes each text's vector as most callers want it, which takes many small
kernels too.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bertstream.workers.contract import Pooling, PoolingMode
from bertstream.workers.engine.copies import to_device
from bertstream.workers.engine.outputs import finish
from bertstream.workers.programs.interface import (
    AttentionOptions,
    Encoded,
    ForwardResult,
    Program,
    RecordableProgram,
    with_sources,
)

log = logging.getLogger(__name__)

SWITCH = "BERTSTREAM_GRAPHS"
# Above about 8,000 tokens, the kernels take longer than their launches.
TOKENS = (128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192)
LONGEST = 512  # tokens of a text: attention's grid is as large as the longest could need, for every text
_FEWEST_TEXTS, _MOST_TEXTS = 16, 256  # the texts that a graph takes, for the same reason
_MEAN_TOKENS = 16
# How far 1 - cosine of states or vectors may be from 0: another number of rows may be computed by another kernel.
NEAR = {torch.float32: 1e-5, torch.float16: 1e-3, torch.bfloat16: 1e-2}
NEAR_FLOAT8 = 5e-2  # fp8's coarse steps amplify other rounding; two correct ways are 1e-2 apart on the CPU

Recorded = tuple[Callable[[], None], list[Tensor]]  # what replays it, and the tensors that a replay writes to
Recorder = Callable[[Callable[[], list[Tensor]]], Recorded]


class GraphError(Exception):
    """A graph does not give the numbers of its program."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Hold what the model can be given."""

    vocabulary: int
    types: int  # 0 for none
    max_tokens: int
    last_layer: int
    float8: bool = False  # whether its products are of fp8


@dataclass(frozen=True, slots=True, order=True)
class Bucket:
    """Describe the shape of a graph: exactly this many tokens in exactly this many texts, some without a token."""

    tokens: int
    texts: int
    longest: int

    def cu_seqlens(self, lengths: Sequence[int]) -> NDArray[np.int32] | None:
        """Return where texts of these lengths start, then those that fill the rest, to the end: [texts + 1].

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
    """Return the graphs to record for batches of up to this many tokens, the smallest first."""
    longest = min(LONGEST, max_tokens)
    useful = [tokens for place, tokens in enumerate(TOKENS) if place == 0 or TOKENS[place - 1] < batch_tokens]
    return [Bucket(tokens, _texts_of(tokens, longest), longest) for tokens in useful]


def _texts_of(tokens: int, longest: int) -> int:
    """Return the likely number of texts in this many tokens, at least twice what fills up a graph with one text."""
    return max(min(max(tokens // _MEAN_TOKENS, _FEWEST_TEXTS), _MOST_TEXTS), 2 * (tokens // longest + 1))


class Graph:
    """Hold one recording.

    What is read from it are copies, since the next replay writes to the same memory.
    """

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
        """Replay the graph for a batch.

        ids, type_ids: [T], on the device. cu_seqlens: as the bucket makes them.
        """
        tokens = ids.size(0)
        # The tokens after these are left from other batches: valid ids of texts that nobody asks for.
        self._ids[:tokens].copy_(ids, non_blocking=True)
        if type_ids is None:
            self._type_ids.zero_()
        else:
            self._type_ids[:tokens].copy_(type_ids, non_blocking=True)
        layout = torch.from_numpy(_layout(cu_seqlens, tokens))
        self._layout.copy_(to_device(layout, self._layout.device), non_blocking=True)
        self._replay()

    def states(self, tokens: int) -> Tensor:
        """Return a copy of the last replay's states, [T, H]."""
        return self._states[:tokens].clone()

    def vectors(self, pooling: Pooling, texts: int) -> Tensor:
        """Return a copy of the last replay's vectors, [n, d]."""
        return self._vectors[pooling][:texts].clone()


def _layout(cu_seqlens: NDArray[np.int32], tokens: int) -> NDArray[np.int32]:
    """Return two layouts, [2, n + 1]: for attention, and for pooling.

    In that for pooling, the texts that fill up the graph have no tokens, since pooling them would take longest.
    """
    return np.stack([cu_seqlens, np.minimum(cu_seqlens, tokens)])


class RecordedProgram:
    """Replay the small batches of a program, and leave all others to the plain program.

    Not for several threads at once.
    """

    def __init__(
        self,
        plain: RecordableProgram,
        shapes: Sequence[Bucket],
        record: Recorder,
        device: torch.device,
        limits: Limits,
    ) -> None:
        """Record and check the graphs. Raises the error of whatever fails."""
        self.recorded = frozenset(plain.poolings)
        self._plain = plain
        self._last_layer = limits.last_layer
        # The largest first, so that the others find room in the memory that it has reserved.
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
        """Encode by a graph where one gives all of it, with the vectors that it has."""
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
        """Return states [T, H] of the last layer, or none, and vectors [n, d] by poolings that are recorded.

        None where anything else, or nothing, is asked for, or no graph takes the batch.
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
        attended: list[int] | None = None,
    ) -> ForwardResult:
        return self._plain.forward(ids, type_ids, lengths, layers, attention, attended)

    def embed(self, ids: Tensor, type_ids: Tensor | None, lengths: list[int]) -> Tensor:
        return self._plain.embed(ids, type_ids, lengths)

    def advance(
        self,
        states: Tensor,
        lengths: list[int],
        start: int,
        layers: list[int],
        attention: AttentionOptions | None = None,
    ) -> ForwardResult:
        return self._plain.advance(states, lengths, start, layers, attention)

    def pooler(self, first: Tensor) -> Tensor:
        return self._plain.pooler(first)

    def pool(self, states: Tensor, lengths: list[int], mode: str, skipped: int = 0) -> Tensor:
        return self._plain.pool(states, lengths, mode, skipped)

    @property
    def whole_text_heads(self) -> Mapping[str, PoolingMode]:
        return self._plain.whole_text_heads

    @property
    def vocabulary_size(self) -> int:
        return self._plain.vocabulary_size

    def span_logits(self, head: str, states: Tensor, labels: int) -> Tensor:
        return self._plain.span_logits(head, states, labels)

    def weights_of(self, ids: Tensor) -> Tensor:
        return self._plain.weights_of(ids)

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
    """Return different lengths of texts, the longest first, that leave tokens and texts of the bucket over."""
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
    if not off**2 / 2 <= near:  # this is 1 - cosine for rows of equal length, which these should be
        raise GraphError(f"the graph of {bucket.tokens} tokens gives other numbers (off by {off:.2%})")


class CudaRecorder:
    """Record on a GPU.

    All graphs share their memory, since only one runs at a time.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pool = torch.cuda.graph_pool_handle()
        self._stream = torch.cuda.Stream(device)  # a single one, since libraries keep memory for each stream

    def __call__(self, run: Callable[[], list[Tensor]]) -> Recorded:
        with torch.cuda.device(self._device):
            self._stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self._stream):
                for _ in range(2):  # libraries initialise themselves in their first calls, which cannot be recorded
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
    """Return the program with its small batches recorded.

    Where they cannot be, it returns the program itself, and logs why.
    """
    if os.environ.get(SWITCH, "1") == "0":
        log.info("CUDA graphs are switched off by %s=0", SWITCH)
        return program
    started = time.monotonic()
    shapes = buckets(batch_tokens, limits.max_tokens)
    try:
        recorded = RecordedProgram(program, shapes, (recorder or CudaRecorder)(device), device, limits)
    except Exception as error:  # whatever the error is, all that is lost is speed
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        log.warning("CUDA graphs are not used, small batches take longer: %s", reason)
        return program
    seconds = time.monotonic() - started
    log.info("%d CUDA graphs for batches of up to %d tokens in %.1f s", len(shapes), shapes[-1].tokens, seconds)
    return recorded
