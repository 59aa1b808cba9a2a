"""The encoder as a module that other runtimes can convert."""

from __future__ import annotations

from typing import Any

import torch
from transformers import AutoModel

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OUTPUT = "last_hidden_state"


class States(torch.nn.Module):
    """The model of transformers with its last hidden states as the only output."""

    def __init__(self, directory: str, attention: str) -> None:
        super().__init__()
        model = AutoModel.from_pretrained(directory, dtype=torch.float32, attn_implementation=attention)
        self.model = model.eval()
        self.config = model.config

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, token_type_ids: torch.Tensor) -> Any:
        """Return the last hidden states: three inputs [b, s] -> [b, s, H]."""
        found = self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        return found.last_hidden_state


def example() -> dict[str, torch.Tensor]:
    """Return inputs for tracing."""
    ones = torch.ones(2, 16, dtype=torch.long)
    return {"input_ids": ones, "attention_mask": ones, "token_type_ids": torch.zeros_like(ones)}
