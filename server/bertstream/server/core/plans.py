"""What requests ask for, every default filled in: protocols make these plans, and the code behind trusts them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import get_args

from bertstream.server.core.errors import invalid
from bertstream.server.core.kinds import TextKind
from bertstream.server.core.layout import AnswerSizes
from bertstream.server.core.tokenization import Column, Ids, Inputs, TokenizeOptions, Words
from bertstream.server.core.windows import WindowPooling
from bertstream.workers.contract import OutputOptions, Pooling, PoolingMode, WireType
from bertstream.workers.programs.description import ModelDescription

WEIGHT_COUNT_BYTES, WEIGHT_BYTES = 4, 8  # of sparse weights: their number, and an id and a weight each
WIRE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "int8": 1}  # of one number
_POOLING_MODES: tuple[PoolingMode, ...] = get_args(PoolingMode)


@dataclass(frozen=True, slots=True)
class TokenizationPlan:
    """The plan of a tokenization request."""

    options: TokenizeOptions
    type_ids: bool  # whether they are wanted in the answer
    add_special_tokens: bool | None  # None: depends on the kind of input

    def options_for(self, inputs: Inputs) -> TokenizeOptions:
        """Return the options for this kind of input."""
        return with_special_tokens(self.options, self.add_special_tokens, inputs)


@dataclass(frozen=True, slots=True)
class WindowPlan:
    """How the vectors of a long text's windows become one vector, and how that is sent."""

    pooling: WindowPooling
    normalize: bool
    wire_type: WireType


@dataclass(frozen=True, slots=True)
class EncodingPlan:
    """The plan of an encoding request."""

    output_options: OutputOptions
    tokenize: TokenizeOptions
    add_special_tokens: bool | None  # None: depends on the kind of input
    prompt: str
    prompt_asked: bool  # by the caller, rather than by the checkpoint
    priority: int
    sizes: AnswerSizes
    shown: frozenset[Column]  # columns of tokens wanted beside the outputs
    type_ids: bool  # whether these are among them
    kind: TextKind | None = field(default=None, kw_only=True)  # what the texts are for
    # How the windows of long texts become one; None where these are cut. `tokenize` has windows too then, and
    # `output_options` what the workers compute of each.
    windows: WindowPlan | None = field(default=None, kw_only=True)

    @property
    def shows_tokens(self) -> bool:
        """Whether any columns of the tokens are wanted beside the outputs."""
        return self.type_ids or bool(self.shown)

    def options_for(self, inputs: Inputs) -> TokenizeOptions:
        """Return the tokenizer's options for this kind of input."""
        return with_special_tokens(self.tokenize, self.add_special_tokens, inputs)

    def prompt_for(self, inputs: Inputs, path: str = "options.prompt") -> str:
        """Return the prompt for this kind of input, as the function of this name does."""
        return prompt_for(inputs, self.prompt, asked=self.prompt_asked, path=path)


def prompt_for(inputs: Inputs, prompt: str, *, asked: bool, path: str) -> str:
    """Return the prompt for this kind of input.

    Raises INVALID_ARGUMENT, naming the path, where the caller asked for one that cannot be.
    """
    if not isinstance(inputs, Ids | Words):
        return prompt
    if asked and prompt:
        raise invalid(path, "a prompt goes with texts and pairs only", "INVALID_COMBINATION")
    return ""


def with_special_tokens(options: TokenizeOptions, asked: bool | None, inputs: Inputs) -> TokenizeOptions:
    """Set whether special tokens are added: if the caller does not say, to everything but token ids."""
    add = not isinstance(inputs, Ids) if asked is None else asked
    return options if add == options.add_special_tokens else replace(options, add_special_tokens=add)


def default_pooling(description: ModelDescription) -> Pooling:
    """Return the pooling of a request that does not choose one."""
    own = description.default_pooling
    mode = next(mode for mode in _POOLING_MODES if mode == own.mode)
    return Pooling(mode, (description.layers,), "mean", own.normalize, own.dimensions)


def pooled_width(pooling: Pooling, description: ModelDescription) -> int:
    """Return how many dimensions a pooled vector has before it is cut to those asked for."""
    if pooling.mode == "checkpoint":
        return description.default_pooling.width
    copies = len(pooling.layers) if pooling.combination == "concatenate" else 1
    return description.hidden_size * copies


def output_sizes(output_options: OutputOptions, description: ModelDescription) -> AnswerSizes:
    """Return how many bytes the outputs have for each text, token, pair of tokens and span."""
    size, hidden = WIRE_BYTES[output_options.wire_type], description.hidden_size
    pooling = output_options.pooling
    vector = 0 if pooling is None else size * (pooling.dimensions or pooled_width(pooling, description))
    text = vector * ("pooled" in output_options.outputs) + size * hidden * ("pooler_output" in output_options.outputs)
    states = len(output_options.hidden_layers) + ("last_hidden_state" in output_options.outputs)
    weights = len(output_options.attention_layers) * len(output_options.attention_heads)
    token = size * hidden * states
    if "sparse_weights" in output_options.outputs:
        text, token = text + WEIGHT_COUNT_BYTES, token + WEIGHT_BYTES
    span = vector * ("pooled_spans" in output_options.outputs)
    if "token_vectors" in output_options.outputs and description.multi_vector is not None:
        span += size * description.multi_vector.width
    return AnswerSizes(text, token, size * weights, span)
