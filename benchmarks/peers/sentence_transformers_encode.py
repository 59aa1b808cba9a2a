"""sentence-transformers, with its own `encode`, which sorts by length."""

from __future__ import annotations

import sentence_transformers
import torch
import transformers
from sentence_transformers import SentenceTransformer

from benchmarks.peers import Choice, Peer, Settings, Vectors
from benchmarks.peers.torch_settings import DTYPES, set_threads


class SentenceTransformers(Peer):
    """An adapter for `SentenceTransformer.encode`."""

    def __init__(self, settings: Settings) -> None:
        set_threads(settings)
        self.batch_sizes = (128, 32, 512) if settings.device == "cuda" else (32, 8, 128)
        self.model = SentenceTransformer(
            settings.directory, device=settings.device, model_kwargs={"dtype": DTYPES[settings.precision]}
        )
        self.model.max_seq_length = settings.max_length

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that compute."""
        return {
            "sentence-transformers": sentence_transformers.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        }

    def choices(self) -> list[Choice]:
        """Return the batch sizes that are worth trying; the default of `encode` is 32."""
        return [Choice(size) for size in self.batch_sizes]

    def encode(self, texts: list[str], choice: Choice) -> Vectors:
        """Return the vectors [n, d] of all texts."""
        vectors: Vectors = self.model.encode(
            texts, batch_size=choice.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    def encode_one(self, texts: list[str]) -> Vectors:
        """Return the vector [1, d] of one text."""
        return self.encode(texts, Choice(1))


def load(settings: Settings) -> SentenceTransformers:
    """Return the adapter."""
    return SentenceTransformers(settings)
