"""What requests ask for, every default filled in: protocols make these plans, and the code behind trusts them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from bertstream.server.core.errors import invalid
from bertstream.server.core.layout import AnswerSizes
from bertstream.server.core.tokenization import Column, Ids, Inputs, TokenizeOptions, Words
from bertstream.workers.contract import OutputOptions


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

    @property
    def shows_tokens(self) -> bool:
        """Whether any columns of the tokens are wanted beside the outputs."""
        return self.type_ids or bool(self.shown)

    def options_for(self, inputs: Inputs) -> TokenizeOptions:
        """Return the tokenizer's options for this kind of input."""
        return with_special_tokens(self.tokenize, self.add_special_tokens, inputs)

    def prompt_for(self, inputs: Inputs, path: str = "options") -> str:
        """Return the prompt for this kind of input.

        Raises INVALID_ARGUMENT where the caller asked for one that cannot be.
        """
        if not isinstance(inputs, Ids | Words):
            return self.prompt
        if self.prompt_asked and self.prompt:
            raise invalid(f"{path}.prompt", "a prompt goes with texts and pairs only", "INVALID_COMBINATION")
        return ""


def with_special_tokens(options: TokenizeOptions, asked: bool | None, inputs: Inputs) -> TokenizeOptions:
    """Set whether special tokens are added: if the caller does not say, to everything but token ids."""
    add = not isinstance(inputs, Ids) if asked is None else asked
    return options if add == options.add_special_tokens else replace(options, add_special_tokens=add)
