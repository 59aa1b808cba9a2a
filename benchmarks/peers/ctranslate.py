"""CTranslate2's encoder, with its own converter for BERT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
from ctranslate2.converters import TransformersConverter

from benchmarks.peers import NotMeasurable, Settings, Vectors
from benchmarks.peers.caching import cached_folder
from benchmarks.peers.feeding import Feeder, Padded


class CTranslate(Feeder):
    """An adapter whose streams are inter_threads, and the threads of each stream intra_threads."""

    def __init__(self, settings: Settings) -> None:
        if settings.device != "cpu":
            raise NotMeasurable("measured on the CPU only")
        super().__init__(settings)
        folder = Path(settings.work) / f"ctranslate2-{ctranslate2.__version__}-{settings.precision}"
        self.path = cached_folder(folder, lambda folder: convert(settings, folder))

    def versions(self) -> dict[str, str]:
        """Return the version of CTranslate2."""
        return {"ctranslate2": ctranslate2.__version__}

    def build(self, streams: int) -> Any:
        """Return an encoder for this number of streams."""
        return ctranslate2.Encoder(
            str(self.path),
            compute_type=self.settings.precision,
            inter_threads=streams,
            intra_threads=max(1, self.settings.threads // streams),
        )

    def states(self, batch: Padded, streams: int) -> Vectors:
        """Return the last hidden states [b, s, H]."""
        ids = ctranslate2.StorageView.from_array(batch.ids.astype(np.int32))
        lengths = ctranslate2.StorageView.from_array(batch.mask.sum(axis=1).astype(np.int32))
        states: Vectors = np.array(self.built(streams).forward_batch(ids, lengths).last_hidden_state)
        return states


def convert(settings: Settings, folder: Path) -> None:
    """Convert the checkpoint into an empty folder."""
    TransformersConverter(settings.directory).convert(str(folder), quantization=settings.precision, force=True)


def load(settings: Settings) -> CTranslate:
    """Return the adapter."""
    return CTranslate(settings)
