"""Batches sorted by length, and vectors pooled from states: what an expert would write around a runtime."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.peers import Choice, Peer, Settings, Vectors

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Padded:
    """A batch of b texts, padded to the longest."""

    texts: Ints  # [b], their indexes
    ids: Ints  # [b, s]
    mask: Ints  # [b, s]

    @property
    def inputs(self) -> dict[str, Ints]:
        """The arrays by the names of the inputs of BERT's exported graphs."""
        return {"input_ids": self.ids, "attention_mask": self.mask, "token_type_ids": np.zeros_like(self.ids)}


class Feeder(Peer):
    """Tokenizes in batches, sorts by length, pads each batch to its own longest text, pools and normalises.

    Subclasses implement `states`, the last hidden states of a batch. If their runtime has to know how many batches run
    at once, they implement `build` as well, and get what it made from `built`.
    """

    batch_sizes: Sequence[int] = (32, 8, 128)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tokenizer = tokenizer(settings)
        self._built: dict[int, Any] = {}
        self._building = threading.Lock()

    def stream_counts(self) -> Sequence[int]:
        """Return the numbers of batches at once that are worth trying."""
        return (1, self.settings.threads) if self.settings.threads > 1 else (1,)

    def choices(self) -> Sequence[Choice]:
        """Return all batch sizes with each number of streams; the best guess first, since only a few may be tried."""
        return [Choice(size, streams) for size in self.batch_sizes for streams in self.stream_counts()]

    def build(self, streams: int) -> Any:
        """Return the runtime's model for `streams` batches at once, each with its share of the threads."""
        raise NotImplementedError

    def built(self, streams: int) -> Any:
        """Return the runtime's model for `streams` batches at once, which is made when it is first needed."""
        with self._building:
            if streams not in self._built:
                self._built[streams] = self.build(streams)
            return self._built[streams]

    def settle(self, choices: Sequence[Choice]) -> None:
        """Drop the models that no choice needs."""
        used = {choice.streams for choice in choices} | {1}
        self._built = {streams: model for streams, model in self._built.items() if streams in used}

    def states(self, batch: Padded, streams: int) -> Vectors:
        """Return the last hidden states [b, s, H]. Called by `streams` threads at once."""
        raise NotImplementedError

    def pooled(self, batch: Padded, streams: int) -> Vectors:
        """Return unit vectors [b, H]."""
        return mean_pooled(self.states(batch, streams), batch.mask)

    def encode(self, texts: list[str], choice: Choice) -> Vectors:
        """Return the vectors [n, H] of all texts."""
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        made = list(batches(rows, choice))
        pooled = np.concatenate(in_streams(lambda batch: self.pooled(batch, choice.streams), made, choice.streams))
        vectors = np.empty(pooled.shape, np.float32)
        vectors[np.concatenate([batch.texts for batch in made])] = pooled
        return vectors

    def encode_one(self, texts: list[str]) -> Vectors:
        """Return the vector [1, H] of one text, computed by all threads."""
        ids = np.array([self.tokenizer.encode(texts[0]).ids])
        return self.pooled(Padded(np.zeros(1, np.int64), ids, np.ones_like(ids)), 1)


def tokenizer(settings: Settings) -> Tokenizer:
    """Return the checkpoint's tokenizer, which cuts at the settings' maximum length."""
    made = Tokenizer.from_file(str(Path(settings.directory) / "tokenizer.json"))
    made.no_padding()
    made.enable_truncation(settings.max_length)
    return made


def calibration(settings: Settings) -> list[dict[str, Ints]]:
    """Return the inputs of the calibration texts, one text per batch."""
    texts = json.loads(Path(settings.calibration).read_text(encoding="utf-8"))
    return [
        padded(np.zeros(1, np.int64), [encoding.ids]).inputs for encoding in tokenizer(settings).encode_batch(texts)
    ]


def batches(rows: Sequence[Sequence[int]], choice: Choice) -> Iterator[Padded]:
    """Yield padded batches, the longest texts first, so that no thread is left with them at the end."""
    order = np.argsort([-len(row) for row in rows], kind="stable")
    for start in range(0, len(order), choice.batch_size):
        texts = order[start : start + choice.batch_size]
        yield padded(texts, [rows[text] for text in texts])


def padded(texts: Ints, rows: Sequence[Sequence[int]]) -> Padded:
    """Return one batch of texts, padded to its longest."""
    lengths = np.array([len(row) for row in rows])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.zeros_like(mask)
    ids[mask == 1] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return Padded(texts, ids, mask)


def in_streams(call: Callable[[Padded], Vectors], made: Sequence[Padded], streams: int) -> list[Vectors]:
    """Return the call's results for all batches, by `streams` threads; one stream is this thread itself."""
    if streams == 1:
        return [call(batch) for batch in made]
    with ThreadPoolExecutor(streams) as pool:
        return list(pool.map(call, made))


def mean_pooled(states: Vectors, mask: Ints) -> Vectors:
    """Return the normalised means of the states: [b, s, H], mask [b, s] -> [b, H]."""
    weights = mask[:, :, None].astype(states.dtype)
    summed = np.matmul(weights.transpose(0, 2, 1), states)[:, 0]
    pooled = summed / weights.sum(axis=1)
    normalised: Vectors = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    return normalised
