"""sentence-transformers: its own `encode`, which sorts by length."""

from __future__ import annotations

import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer

from benchmarks.peers import Choice, Peer, Settings, Vectors
from benchmarks.peers.torch_settings import DTYPES, set_threads


class SentenceTransformers(Peer):
    """The model, and the batch sizes worth a try."""

    def __init__(self, settings: Settings) -> None:
        set_threads(settings)
        self.batch_sizes = (128, 32, 512) if settings.device == "cuda" else (32, 8, 128)
        self.model = SentenceTransformer(
            settings.directory, device=settings.device, model_kwargs={"dtype": DTYPES[settings.precision]}
        )
        self.model.max_seq_length = settings.max_length

    def versions(self) -> dict[str, str]:
        """Of what computes."""
        return {
            "sentence-transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        }

    def choices(self) -> list[Choice]:
        """32 is its default."""
        return [Choice(size) for size in self.batch_sizes]

    def encode(self, texts: list[str], choice: Choice) -> Vectors:
        """All texts. -> [n, d]"""
        vectors: Vectors = self.model.encode(
            texts, batch_size=choice.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    def encode_one(self, texts: list[str]) -> Vectors:
        """One text. -> [1, d]"""
        return self.encode(texts, Choice(1))


def load(settings: Settings) -> SentenceTransformers:
    """The adapter."""
    return SentenceTransformers(settings)
