"""Compute with transformers and sentence-transformers, for the same checkpoint and input, one text at a time."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

Array = NDArray[Any]


class Reference:
    """Run a checkpoint with transformers, in float32."""

    def __init__(self, directory: Path) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(directory)
        # The explicit attention, since the others cannot give their weights.
        self.model = AutoModel.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager").eval()

    def tokens(self, text: Any, **options: Any) -> Any:
        """Return the tokenizer's output for a text, a pair (tuple), or words (list of str), as a batch of one."""
        options = {"truncation": True, "max_length": 512, **options}
        # As a batch of one: for a pair alone, transformers ignores an empty second text.
        if isinstance(text, tuple):
            return self.tokenizer([text[0]], [text[1]], **options)
        return self.tokenizer([text], is_split_into_words=isinstance(text, list), **options)

    def forward(self, ids: Any, type_ids: Any = None) -> Any:
        """Return the model's output for one text without padding, as a batch of one, all hidden states included."""
        inputs = {"input_ids": torch.tensor([list(ids)])}
        if type_ids is not None:
            inputs["token_type_ids"] = torch.tensor([list(type_ids)])
        with torch.inference_mode():
            return self.model(**inputs, output_hidden_states=True, output_attentions=True)

    def encode(self, text: Any, **options: Any) -> Any:
        """Return the model's output for a text, a pair or words."""
        tokens = self.tokens(text, **options)
        return self.forward(tokens["input_ids"][0], tokens["token_type_ids"][0] if "token_type_ids" in tokens else None)


@functools.cache
def reference(directory: Path) -> Reference:
    """Return the reference, which is loaded once."""
    return Reference(directory)


def sentence_vectors(directory: Path, texts: list[str]) -> Array:
    """Return normalised vectors of sentence-transformers, [n, d]."""
    model = SentenceTransformer(str(directory), device="cpu")
    vectors: Array = model.encode(texts, normalize_embeddings=True, convert_to_numpy=True)
    return vectors


def worst(ours: Array | None, theirs: torch.Tensor) -> float:
    """Return the largest absolute difference; shapes must agree."""
    assert ours is not None
    expected = theirs.detach().numpy()
    assert ours.shape == expected.shape
    return float(np.abs(ours - expected).max()) if ours.size else 0.0


def close(ours: Array | None, others: Array | None, tolerance: float = 1e-5) -> None:
    """Assert that both are there, and equal within the tolerance.

    Sums in another batch are rounded differently, and more so on other CPUs.
    """
    assert ours is not None
    assert others is not None
    np.testing.assert_allclose(ours, others, atol=tolerance)
