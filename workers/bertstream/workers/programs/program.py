"""Run a compiled model by TorchScript, which nothing on the other side of the interface knows of."""

from __future__ import annotations

import io
import logging
import math
import mmap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from bertstream.workers import native
from bertstream.workers.contract import Pooling, PoolingMode
from bertstream.workers.native import cuda_library
from bertstream.workers.native.processor import ProcessorError
from bertstream.workers.programs import gpu_products, weights_file
from bertstream.workers.programs.description import ModelDescription
from bertstream.workers.programs.interface import AttentionOptions, Encoded, ForwardResult, with_sources
from bertstream.workers.trust.ownership import TrustError
from bertstream.workers.trust.seal import Sealed

log = logging.getLogger(__name__)

FILE_NAME = "program.pt"
GENERATING = ("causal_lm", "sequence_to_sequence")
OF_SPANS = ("zero_shot_entities",)


class ProgramError(Exception):
    """A compiled model cannot be loaded here; the message says what to do."""


class ScriptedProgram:
    """Run one model on one device: a program (interface.py) that can be recorded, and generates where its heads do.

    Not for several threads at once.
    """

    def __init__(self, description: ModelDescription, module: Any, device: torch.device) -> None:
        self.description = description
        self.device = device
        self._module = module

    @property
    def module(self) -> Any:
        """Return the scripted module, a Model as TorchScript has loaded it."""
        return self._module

    @classmethod
    def load(cls, directory: Path, device: str | torch.device, operators: Path | None = None) -> ScriptedProgram:
        """Load what compile_model wrote, after a check that it is unchanged, and that nobody else could write to it.

        operators: the library of C++ operators for this processor, which is checked likewise; not needed where this
        process has loaded it already, as one that compiles has. Raises ProgramError, DescriptionError.
        """
        device = torch.device(device)
        try:
            with Sealed.open(directory) as sealed:
                description = ModelDescription.parse(sealed)
                module = _load(sealed, description, device, operators)
        except TrustError as error:
            raise ProgramError(f"{error}; compile the model again") from error
        if device.type == "cuda" and (reason := gpu_products.use_epilogue(module, device)):
            log.info("GELU is a pass of its own on %s: %s", device, reason)
        return cls(description, module, device)

    @property
    def vocabulary_size(self) -> int:
        """Return the number of token ids."""
        return self.description.vocabulary_size

    @property
    def whole_text_heads(self) -> Mapping[str, PoolingMode]:
        """Return the heads that read all of a text's tokens, and how these are pooled.

        Pooling by "checkpoint" gives their logits; by "mean", what `logits` reads.
        """
        by_mean: dict[str, PoolingMode] = dict.fromkeys(self.description.mean_heads, "mean")
        return by_mean | ({"sequence_classification": "checkpoint"} if self.description.scores_by_modules else {})

    @property
    def poolings(self) -> tuple[Pooling, ...]:
        """Return the checkpoint's own pooling of the last layer, normalised and not, which most callers want."""
        own = self.description.default_pooling
        if own.mode == "pooler":
            return ()
        mode, last = cast("PoolingMode", own.mode), (self.description.layers,)
        return tuple(Pooling(mode, last, normalize=each, dimensions=own.dimensions) for each in (False, True))

    def encode(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        poolings: frozenset[Pooling],
    ) -> Encoded:
        """Return the states of `layers`, and of the layers that vectors by `poolings` are made of."""
        needed = with_sources(layers, poolings, self.description.layers)
        return Encoded(dict(zip(needed, self.hidden_states(ids, type_ids, lengths, needed), strict=True)))

    @torch.inference_mode()
    def hidden_states(
        self, ids: Tensor, type_ids: Tensor | None, lengths: list[int], layers: list[int]
    ) -> list[Tensor]:
        """Return the hidden states of texts laid end to end, [T, H] for each of `layers`, 0 being the embeddings.

        ids, type_ids: [T] int32 or int64, on the program's device; lengths: [n], each from 1 to max_tokens. Computes no
        layer above the highest asked for. Fastest when texts of equal length are neighbours.
        """
        states: list[Tensor] = self._module(ids, type_ids, lengths, layers)
        return states

    @torch.inference_mode()
    def last_states(self, ids: Tensor, type_ids: Tensor | None, cu_seqlens: Tensor, longest: int) -> Tensor:
        """Return the last layer's states [T, H] of texts that are laid out already, in a way that can be recorded.

        ids, type_ids: [T]; cu_seqlens: [n + 1] int32, from 0 to T, on the device; texts have at most `longest` tokens,
        or none. Raises RuntimeError where attention takes only texts of equal length.
        """
        states: Tensor = self._module.last_states(ids, type_ids, cu_seqlens, longest)
        return states

    @torch.inference_mode()
    def forward(
        self,
        ids: Tensor,
        type_ids: Tensor | None,
        lengths: list[int],
        layers: list[int],
        attention: AttentionOptions | None = None,
        attended: list[int] | None = None,
    ) -> ForwardResult:
        """Return hidden states and attention weights of one pass; `layers` may be empty where weights are asked for.

        attended: [n] how many of each text's first tokens are attended to, from 1 to all; None: all. The tokens behind
        them have states all the same, and weights are not those of such texts.
        """
        seen = lengths if attended is None else attended
        states, weights = self._module.forward_with_weights(ids, type_ids, lengths, seen, layers, *_lists(attention))
        return ForwardResult(states, weights)

    @torch.inference_mode()
    def embed(self, ids: Tensor, type_ids: Tensor | None, lengths: list[int]) -> Tensor:
        """Return layer 0, from which `advance` goes on.

        ids, type_ids: [T] -> [T, H].
        """
        states: Tensor = self._module.embed(ids, type_ids, lengths)
        return states

    @torch.inference_mode()
    def advance(
        self,
        states: Tensor,
        lengths: list[int],
        start: int,
        layers: list[int],
        attention: AttentionOptions | None = None,
    ) -> ForwardResult:
        """Go on from the states [T, H] of layer `start`, which are not changed.

        layers: from `start` on, in any order; attention.layers: above `start`. Computes no layer above the highest
        asked for, and of a layer that is asked for its weights alone only these. Raises ValueError for a layer below.
        """
        if min(layers, default=start) < start or (attention and min(attention.layers, default=start + 1) <= start):
            raise ValueError(f"earlier layers cannot be computed from the states of layer {start}")
        advanced, weights = self._module.advance(states, lengths, start, layers, *_lists(attention))
        return ForwardResult(advanced, weights)

    @torch.inference_mode()
    def pooler(self, first: Tensor) -> Tensor:
        """Apply the model's own pooler to first tokens. Raises ValueError where there is none.

        first: [n, H] -> [n, H].
        """
        self._check_pooler()
        pooled: Tensor = self._module.pooled_first(first)
        return pooled

    @torch.inference_mode()
    def pool(self, states: Tensor, lengths: list[int], mode: str, skipped: int = 0) -> Tensor:
        """Return one vector a text.

        states: [T, H] -> [n, H] float32, by "checkpoint" [n, D]; mode: one of contract.PoolingMode. By "checkpoint",
        all that sentence-transformers' modules do to a text, even if it is a span. skipped: the number of tokens of
        each text that come before the first one given.
        """
        if mode == "pooler":
            self._check_pooler()
        if mode == "checkpoint" and not self.description.has_sentence_modules:
            raise ValueError("this model has no sentence-transformers modules")
        pooled: Tensor = self._module.pool(states, lengths, mode, skipped)
        return pooled

    @torch.inference_mode()
    def pool_at(self, states: Tensor, cu_seqlens: Tensor, mode: str) -> Tensor:
        """Pool texts that are laid out already by any mode but "pooler", in a way that can be recorded.

        states: [T, H]; cu_seqlens: [n + 1] int32, from 0 to at most T, on the device -> [n, H] float32, by "checkpoint"
        [n, D]; 0 for a text of no tokens.
        """
        pooled: Tensor = self._module.pool_at(states, cu_seqlens, mode)
        return pooled

    @torch.inference_mode()
    def logits(self, head: str, states: Tensor) -> Tensor:
        """Return logits in the program's precision, of a head that neither generates nor reads spans.

        states: [rows, H], the last layer's of the tokens that the head reads -> [rows, outputs]: of masked tokens for
        "fill_mask", [M, V]; of texts' first tokens, or pooled as whole_text_heads says, for "next_sentence", [n, 2],
        that B follows A and that it does not, "sequence_classification", [n, labels], and "multiple_choice", [n, 1]; of
        all tokens for "token_classification", [T, labels], and "question_answering", [T, 2], that the answer starts and
        ends here. "multi_vector", [T, D], and "lexical_weights", [T, 1], are of any tokens, and float32. Raises
        ValueError where there is no such head.
        """
        self._check_head(head, tuple(name for name in self.description.heads if name not in (*GENERATING, *OF_SPANS)))
        if self.whole_text_heads.get(head) == "checkpoint":
            raise ValueError(f"this model's head {head!r} reads whole texts")
        logits: Tensor = self._module.logits(head, states)
        return logits

    @torch.inference_mode()
    def span_logits(self, head: str, states: Tensor, labels: int) -> Tensor:
        """Return logits of one text's spans of up to K words, by their first word and their length.

        states: [C + W, H], the last layer's of the `labels` and of the words, at least one each -> [W, K, C] float32;
        what goes beyond the last word means nothing. Raises ValueError where there is no such head.
        """
        self._check_head(head, OF_SPANS)
        logits: Tensor = self._module.span_logits(states, labels)
        return logits

    @torch.inference_mode()
    def weights_of(self, ids: Tensor) -> Tensor:
        """Return the weights that ids have in any query, [T] float32. Raises ValueError where there are none."""
        self._check_head("static_weights", self.description.heads)
        weights: Tensor = self._module.weights_of(ids)
        return weights

    @torch.inference_mode()
    def new_cache(self, rows: int) -> list[Tensor]:
        """Make a pool for the keys and values of `rows` tokens: [2, rows, H] of each decoder layer.

        It has the program's precision. Raises ValueError, as the methods below do, where the model has no head that
        generates in this way.
        """
        self._check_head("causal_lm" if "causal_lm" in self.description.heads else "sequence_to_sequence", GENERATING)
        if self.device.type != "cpu":
            cache: list[Tensor] = self._module.new_cache(rows)
            return cache
        # Zeros too, but in memory that the system hands out page by page, as rows are written to.
        return [_lazy_zeros(2, rows, each.size(2), dtype=each.dtype) for each in self._module.new_cache(0)]

    @torch.inference_mode()
    def prefill(
        self, cache: list[Tensor], ids: Tensor, type_ids: Tensor | None, lengths: list[int], rows: Tensor
    ) -> Tensor:
        """Compute whole prompts laid end to end for "causal_lm", and write their keys and values to the cache.

        ids, type_ids: [T]; lengths: [n]; rows: [T] int64, no row twice -> [n, V] float32, of each next token.
        """
        self._check_head("causal_lm", GENERATING)
        logits: Tensor = self._module.prefill(cache, ids, type_ids, lengths, rows)
        return logits

    @torch.inference_mode()
    def encode_source(
        self, cache: list[Tensor], ids: Tensor, type_ids: Tensor | None, lengths: list[int], rows: Tensor
    ) -> None:
        """Encode texts laid end to end for "sequence_to_sequence", and cache what the decoder attends to.

        ids, type_ids: [T]; lengths: [n]; rows: [T] int64, no row twice.
        """
        self._check_head("sequence_to_sequence", GENERATING)
        self._module.encode_source(cache, ids, type_ids, lengths, rows)

    @torch.inference_mode()
    def step(
        self,
        cache: list[Tensor],
        ids: Tensor,
        positions: Tensor,
        rows: Tensor,
        past: Tensor,
        past_lengths: Tensor,
        source: Tensor | None = None,
        source_lengths: Tensor | None = None,
        type_ids: Tensor | None = None,
    ) -> Tensor:
        """Compute one more token of each of B sequences, and write its keys and values to the cache.

        ids, positions (the tokens before this one), rows (where it is written, no row twice): [B]; past: [B, M] int64,
        the rows of the sequence's tokens in order, this one's included, padded with any row; past_lengths: [B]. source:
        [B, S] int64, padded in the same way, and source_lengths: [B], for "sequence_to_sequence" alone. type_ids: [B],
        for "causal_lm" alone; None is all 0. Returns [B, V] float32, of each next token.
        """
        self._check_head("causal_lm" if source is None else "sequence_to_sequence", GENERATING)
        own = (type_ids,) if source is None else (source, source_lengths)
        logits: Tensor = self._module.step(cache, ids, positions, rows, past, past_lengths, *own)
        return logits

    def _check_head(self, head: str, expected: tuple[str, ...]) -> None:
        if head not in expected or head not in self.description.heads:
            there = ", ".join(name for name in self.description.heads if name in expected) or "none"
            raise ValueError(f"this model has no head {head!r} of this kind; those there: {there}")

    def _check_pooler(self) -> None:
        if not self.description.has_pooler:
            raise ValueError("this model has no pooler")


def load_module(directory: Path, device: torch.device) -> Any:
    """Return a compiled directory's scripted module on any device, whichever it was compiled for.

    Its operators must be loaded already. Raises ProgramError, SealError.
    """
    with Sealed.open(directory) as sealed:
        return load_sealed_module(sealed, device)


def _lazy_zeros(*shape: int, dtype: torch.dtype) -> Tensor:
    size = math.prod(shape)
    if not size:
        return torch.zeros(shape, dtype=dtype)
    return torch.frombuffer(mmap.mmap(-1, size * dtype.itemsize), dtype=dtype, count=size).view(shape)


def _lists(options: AttentionOptions | None) -> tuple[list[int], list[int], list[int]]:
    """Return the options as TorchScript takes them."""
    return ([], [], []) if options is None else (list(options.layers), list(options.texts), list(options.heads))


def _check_device(description: ModelDescription, device: torch.device) -> None:
    if device.type != description.device:
        raise ProgramError(f"the model was compiled for {description.device}, not {device.type}; compile it again")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ProgramError("the model was compiled for cuda, and this process sees no CUDA device")
    if description.products == "fp8" and (reason := gpu_products.float8_problem(device)):
        raise ProgramError(f"{reason}; choose another precision, or another device")


def _load(sealed: Sealed, description: ModelDescription, device: torch.device, operators: Path | None) -> Any:
    _check_device(description, device)
    if description.native_operators:
        _load_operators(sealed, device, operators)
    if description.amx and not native.has_amx():
        raise ProgramError("the model was compiled for AMX, which is not there or switched off; compile it again")
    if description.bfloat16 and not native.has_bfloat16():
        raise ProgramError(
            "the model was compiled for products of bfloat16, which the processor lacks or which are switched off; "
            "compile it again"
        )
    # Otherwise the second call of a program would recompile it, for seconds, by what the first has shown.
    torch._C._jit_set_profiling_mode(False)
    return load_sealed_module(sealed, device)


def _load_operators(sealed: Sealed, device: torch.device, operators: Path | None) -> None:
    """Load the operators by their paths, since debuggers show the libraries' names; they are checked just before."""
    for library in sealed.names:
        if library.endswith(".so"):
            sealed.open_file(library).close()
    try:
        native.load_sealed(operators)
    except (native.NativeError, ProcessorError) as error:
        raise ProgramError(f"the model's C++ operators cannot be loaded: {error}; start the server again") from error
    if device.type == "cuda" and (reason := cuda_library.start(sealed.path, device)):
        log.warning("ATen's operators take the place of ours on %s, batches take longer: %s", device, reason)


def load_sealed_module(sealed: Sealed, device: torch.device) -> Any:
    """Return the scripted module of a sealed folder, with its weights. Raises ProgramError, SealError."""
    code = io.BytesIO(sealed.read(FILE_NAME))
    try:
        with warnings.catch_warnings():
            # Deprecated upstream without a date; docs/decisions says why we still use it.
            warnings.filterwarnings("ignore", message=r"`torch\.jit\.load` is deprecated", category=DeprecationWarning)
            module = torch.jit.load(code, map_location=device).eval()
        with sealed.open_file(weights_file.FILE_NAME, known=True) as file:
            weights_file.put_back(module, file, device)
    except weights_file.WeightsError as error:
        raise ProgramError(f"{error}; compile the model again") from error
    except (RuntimeError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
        raise ProgramError(f"{sealed.path / FILE_NAME} cannot be loaded ({reason}); compile the model again") from error
    return module
