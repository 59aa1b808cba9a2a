"""The model of transformers with scaled_dot_product_attention, fed with batches sorted by length."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import transformers
from transformers import AutoModel

from benchmarks.peers import Settings, Vectors
from benchmarks.peers.feeding import Feeder, Padded
from benchmarks.peers.torch_settings import DTYPES, set_threads


class Transformers(Feeder):
    """An adapter for the model in eager torch."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        set_threads(settings)
        if settings.device == "cuda":
            self.batch_sizes = (128, 32, 512)
        dtype = DTYPES[settings.precision]
        model = AutoModel.from_pretrained(settings.directory, dtype=dtype, attn_implementation="sdpa")
        self.model = model.eval().to(settings.device)

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that compute."""
        return {"transformers": transformers.__version__, "torch": torch.__version__}

    def stream_counts(self) -> Sequence[int]:
        """Return only one stream, since torch has its own threads."""
        return (1,)

    def pooled(self, batch: Padded, streams: int) -> Vectors:
        """Return unit vectors [b, H], pooled on the device of the states."""
        with torch.inference_mode():
            inputs = {name: torch.from_numpy(each).to(self.settings.device) for name, each in batch.inputs.items()}
            states = self.model(**inputs).last_hidden_state.float()
            weights = inputs["attention_mask"][:, None, :].float()
            pooled = torch.nn.functional.normalize(torch.bmm(weights, states)[:, 0], dim=1)
            vectors: Vectors = pooled.cpu().numpy()
        return vectors


def load(settings: Settings) -> Transformers:
    """Return the adapter."""
    return Transformers(settings)
