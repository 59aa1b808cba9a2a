"""Compare a compiled program's heads with transformers' own class for the same checkpoint."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers import AutoTokenizer

from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.pairs import packed, sizes

Text = str | tuple[str, str]

# All others read every token; for "fill_mask" only the masked ones are asked for.
FIRST_TOKEN = ("next_sentence", "sequence_classification", "multiple_choice")
# The names of the logits of the two heads of BertForPreTraining and ALBERT's; all other classes have one head.
_LOGITS = {"fill_mask": ("prediction_logits",), "next_sentence": ("seq_relationship_logits", "sop_logits")}


class HeadPair:
    """Hold a program, and transformers' model of the same checkpoint in float32."""

    def __init__(self, directory: Path, cache: Path, architecture: str = "", **options: Any) -> None:
        self.program = ScriptedProgram.load(compile_model(directory, cache=cache, **options), "cpu")
        self.heads = self.program.description.heads
        self.model, self.tokenizer = _theirs(directory, architecture or self.program.description.architecture)

    def encode(self, text: Text) -> dict[str, list[int]]:
        parts = text if isinstance(text, tuple) else (text,)
        return dict(self.tokenizer(*parts, truncation=True, max_length=512))

    def logits(self, head: str, texts: tuple[Text, ...]) -> list[Tensor]:
        """Return the program's logits of each text, all packed: [tokens, outputs], or [outputs] for heads of texts."""
        encoded = [self.encode(text) for text in texts]
        ids = [text["input_ids"] for text in encoded]
        types = [text.get("token_type_ids", [0] * len(text["input_ids"])) for text in encoded]
        lengths = sizes(ids)
        layers = [self.program.description.layers]
        (states,) = self.program.hidden_states(packed(ids), packed(types), lengths, layers)
        if head in self.program.description.mean_heads:
            pooled = self.program.pool(states, lengths, "mean").to(states.dtype)
            return list(self.program.logits(head, pooled))
        if head in FIRST_TOKEN:
            starts = torch.tensor([0, *lengths[:-1]]).cumsum(0)
            return list(self.program.logits(head, states[starts]))
        return list(self.program.logits(head, states).split(lengths))

    @torch.no_grad()
    def expected(self, head: str, text: Text) -> Tensor:
        """Return the logits of transformers for this text alone, of the same shape."""
        inputs = {name: torch.tensor([values]) for name, values in self.encode(text).items()}
        if head == "multiple_choice":
            inputs = {name: values[None] for name, values in inputs.items()}  # a question with one choice
        found = self.model(**inputs)
        if head == "question_answering":
            return torch.stack([found.start_logits[0], found.end_logits[0]], 1)
        (name,) = [name for name in _LOGITS.get(head, ()) if name in found] or ["logits"]
        logits: Tensor = found[name]
        return logits[0]


@functools.cache
def _theirs(directory: Path, architecture: str) -> tuple[Any, Any]:
    """Return transformers' model and tokenizer, which programs of all precisions are compared with."""
    kind = getattr(transformers, architecture)
    model = kind.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    return model, AutoTokenizer.from_pretrained(directory)
