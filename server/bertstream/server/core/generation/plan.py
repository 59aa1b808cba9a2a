"""The plan of a request for generation."""

from __future__ import annotations

from dataclasses import dataclass

from bertstream.server.core.errors import head_not_available
from bertstream.server.core.generation.lengths import Lengths
from bertstream.server.core.tokenization import Truncation
from bertstream.workers.contract import GenerationOptions
from bertstream.workers.programs.description import GenerationDescription, ModelDescription


@dataclass(frozen=True, slots=True)
class GenerationPlan:
    """The options of a request for generation, every default filled in."""

    options: GenerationOptions  # without lengths, seed and bad words, which are filled in later
    lengths: Lengths
    truncation: Truncation
    add_special_tokens: bool | None  # None: depends on the kind of input
    seed: int | None  # None: a random one for each input
    bad_words: tuple[str, ...]
    stop_strings: tuple[str, ...]
    keep_special_tokens: bool
    token_scores: bool
    priority: int

    @property
    def copies(self) -> int:
        """The number of sequences that are generated for one input at once."""
        return max(self.options.num_beams, self.options.num_return_sequences)


def generation_of(description: ModelDescription) -> GenerationDescription:
    """Return the description of how the model generates; raise HEAD_NOT_AVAILABLE where it does not."""
    if description.generation is None:
        raise head_not_available("causal_lm or sequence_to_sequence", description.heads)
    return description.generation
