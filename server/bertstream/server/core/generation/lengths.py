"""The arithmetic of how many tokens may be generated for an input."""

from __future__ import annotations

from dataclasses import dataclass, replace

_ROOM_FOR_NEW = 20  # new tokens that a long prompt leaves room for where the caller does not ask for a number


@dataclass(frozen=True, slots=True)
class Lengths:
    """The lengths that a request, the checkpoint and the decoder's positions allow.

    `before` is how many tokens stand in the decoder before the first new one: those of the prompt, or the one that an
    encoder-decoder's sequences start with. As in transformers, it counts among max_length and min_length.
    """

    causal: bool
    max_tokens: int  # of a sequence, what stands before included
    max_new_tokens: int | None  # the caller's, or the checkpoint's; None: max_length decides
    asked: bool  # whether max_new_tokens is the caller's: then it is not lowered, and prompts make room for it
    max_length: int  # the checkpoint's
    min_new_tokens: int | None  # None: min_length decides
    min_length: int

    def at_least(self, count: int) -> Lengths:
        """Return the same lengths with at least `count` new tokens."""
        return replace(self, min_new_tokens=count)

    def max_new(self, before: int) -> int:
        """Return the maximum number of new tokens, at least 1."""
        wanted = self.max_length - before if self.max_new_tokens is None else self.max_new_tokens
        return max(1, min(wanted, self.max_tokens - before))

    def min_new(self, before: int) -> int:
        """Return the minimum number of new tokens."""
        wanted = self.min_length - before if self.min_new_tokens is None else self.min_new_tokens
        return min(max(0, wanted), self.max_new(before))

    @property
    def max_prompt(self) -> int:
        """The maximum number of tokens of a decoder's prompt."""
        if self.asked:
            return self.max_tokens - self.max_new(1)
        return self.max_tokens - min(self.max_new(1), _ROOM_FOR_NEW, self.max_tokens // 2)
