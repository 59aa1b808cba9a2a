"""Compare a compiled program with transformers' model of the same checkpoint."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModel, AutoTokenizer

from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.interface import AttentionOptions, ForwardResult
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import TEXTS

EXACT = 1e-5


class Pair:
    """Hold a program, and transformers' model of the same checkpoint in float32."""

    def __init__(self, directory: Path, cache: Path, program: ScriptedProgram | None = None, **options: Any) -> None:
        self.program = program or ScriptedProgram.load(compile_model(directory, cache=cache, **options), "cpu")
        self.model, self.tokenizer = _theirs(directory)
        self.layers = self.program.description.layers
        self.heads = self.program.description.attention_heads

    def encode(self, texts: tuple[Any, ...] = TEXTS) -> tuple[list[list[int]], list[list[int]]]:
        """Return each text's ids, and its type ids, zeros where the family has none; a tuple is a pair."""
        ids, types = [], []
        for text in texts:
            parts = text if isinstance(text, tuple) else (text,)
            found = self.tokenizer(*parts, truncation=True, max_length=512)
            ids.append(found["input_ids"])
            types.append(found.get("token_type_ids", [0] * len(found["input_ids"])))
        return ids, types

    @torch.no_grad()
    def output(self, ids: list[int], types: list[int] | None = None) -> Any:
        """Return transformers' output for one text as a batch of one, with all hidden states and attentions."""
        has_types = types is not None and self.program.description.type_vocabulary_size > 0
        inputs = {"token_type_ids": torch.tensor([types])} if has_types else {}
        mask = torch.ones(1, len(ids), dtype=torch.long)
        wanted = {"output_hidden_states": True, "output_attentions": True}
        return self.model(torch.tensor([ids]), attention_mask=mask, **inputs, **wanted)

    def expected(self, ids: list[int], types: list[int] | None = None) -> list[Tensor]:
        """Return every hidden state of one text alone, [tokens, H] each."""
        return [state[0] for state in self.output(ids, types).hidden_states]

    def run(self, ids: list[list[int]], types: list[list[int]] | None, layers: list[int]) -> list[Tensor]:
        return self.program.hidden_states(packed(ids), None if types is None else packed(types), sizes(ids), layers)

    def forward(
        self,
        ids: list[list[int]],
        types: list[list[int]] | None,
        layers: list[int],
        options: AttentionOptions | None = None,
    ) -> ForwardResult:
        return self.program.forward(packed(ids), None if types is None else packed(types), sizes(ids), layers, options)

    def everything(self, texts: int) -> AttentionOptions:
        """Ask for the attention weights of every layer, text and head."""
        return AttentionOptions(tuple(range(1, self.layers + 1)), tuple(range(texts)), tuple(range(self.heads)))


@functools.cache
def _theirs(directory: Path) -> tuple[Any, Any]:
    """Return transformers' model and tokenizer, which programs of all precisions are compared with."""
    model = AutoModel.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()
    return model, AutoTokenizer.from_pretrained(directory)


def sizes(rows: list[list[int]]) -> list[int]:
    return [len(row) for row in rows]


def packed(rows: list[list[int]]) -> Tensor:
    return torch.tensor([value for row in rows for value in row], dtype=torch.int32)


def difference(got: Tensor, want: Tensor) -> float:
    assert got.shape == want.shape
    return float((got.double() - want.double()).abs().max()) if got.numel() else 0.0
