"""Batches sorted by length, and vectors out of states: what someone who knows would write around a runtime."""

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

    texts: Ints  # [b], which ones
    ids: Ints  # [b, s]
    mask: Ints  # [b, s]

    @property
    def inputs(self) -> dict[str, Ints]:
        """By the names that BERT's exported graphs have."""
        return {"input_ids": self.ids, "attention_mask": self.mask, "token_type_ids": np.zeros_like(self.ids)}


class Feeder(Peer):
    """Tokenizes by the Rust tokenizer's batches, sorts, pads each batch to its own longest text, pools and normalises.

    Subclasses have `states`: the last hidden states of a batch. Those whose runtime has to know how many batches there
    are at once have `build`, too, and get what it made by `built`.
    """

    batch_sizes: Sequence[int] = (32, 8, 128)

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tokenizer = tokenizer(settings)
        self._built: dict[int, Any] = {}
        self._building = threading.Lock()

    def stream_counts(self) -> Sequence[int]:
        """How many batches at once are worth a try."""
        return (1, self.settings.threads) if self.settings.threads > 1 else (1,)

    def choices(self) -> Sequence[Choice]:
        """Batch sizes, with each number of streams; the likeliest first, for who tries only a few."""
        return [Choice(size, streams) for size in self.batch_sizes for streams in self.stream_counts()]

    def build(self, streams: int) -> Any:
        """The runtime's model for so many batches at once, each with its share of the threads."""
        raise NotImplementedError

    def built(self, streams: int) -> Any:
        """The same, made when it is needed."""
        with self._building:
            if streams not in self._built:
                self._built[streams] = self.build(streams)
            return self._built[streams]

    def settle(self, choices: Sequence[Choice]) -> None:
        """Drops the models that nobody chose."""
        used = {choice.streams for choice in choices} | {1}
        self._built = {streams: model for streams, model in self._built.items() if streams in used}

    def states(self, batch: Padded, streams: int) -> Vectors:
        """-> [b, s, H]; called by so many threads at once."""
        raise NotImplementedError

    def pooled(self, batch: Padded, streams: int) -> Vectors:
        """-> [b, H], unit vectors."""
        return mean_pooled(self.states(batch, streams), batch.mask)

    def encode(self, texts: list[str], choice: Choice) -> Vectors:
        """All texts. -> [n, H]"""
        rows = [encoding.ids for encoding in self.tokenizer.encode_batch(texts)]
        made = list(batches(rows, choice))
        pooled = np.concatenate(in_streams(lambda batch: self.pooled(batch, choice.streams), made, choice.streams))
        vectors = np.empty(pooled.shape, np.float32)
        vectors[np.concatenate([batch.texts for batch in made])] = pooled
        return vectors

    def encode_one(self, texts: list[str]) -> Vectors:
        """One text, with all threads. -> [1, H]"""
        ids = np.array([self.tokenizer.encode(texts[0]).ids])
        return self.pooled(Padded(np.zeros(1, np.int64), ids, np.ones_like(ids)), 1)


def tokenizer(settings: Settings) -> Tokenizer:
    """The checkpoint's, cutting at the length that all are cut to."""
    made = Tokenizer.from_file(str(Path(settings.directory) / "tokenizer.json"))
    made.no_padding()
    made.enable_truncation(settings.max_length)
    return made


def calibration(settings: Settings) -> list[dict[str, Ints]]:
    """Inputs of the calibration texts, one a batch."""
    texts = json.loads(Path(settings.calibration).read_text(encoding="utf-8"))
    return [
        padded(np.zeros(1, np.int64), [encoding.ids]).inputs for encoding in tokenizer(settings).encode_batch(texts)
    ]


def batches(rows: Sequence[Sequence[int]], choice: Choice) -> Iterator[Padded]:
    """The longest texts first, so that no thread is left with them at the end."""
    order = np.argsort([-len(row) for row in rows], kind="stable")
    for start in range(0, len(order), choice.batch_size):
        texts = order[start : start + choice.batch_size]
        yield padded(texts, [rows[text] for text in texts])


def padded(texts: Ints, rows: Sequence[Sequence[int]]) -> Padded:
    """One batch."""
    lengths = np.array([len(row) for row in rows])
    mask = (np.arange(lengths.max()) < lengths[:, None]).astype(np.int64)
    ids = np.zeros_like(mask)
    ids[mask == 1] = np.concatenate([np.asarray(row, np.int64) for row in rows])
    return Padded(texts, ids, mask)


def in_streams(call: Callable[[Padded], Vectors], made: Sequence[Padded], streams: int) -> list[Vectors]:
    """The call's answers, by so many threads; one stream is this thread, which has a runtime's own threads already."""
    if streams == 1:
        return [call(batch) for batch in made]
    with ThreadPoolExecutor(streams) as pool:
        return list(pool.map(call, made))


def mean_pooled(states: Vectors, mask: Ints) -> Vectors:
    """[b, s, H], [b, s] -> [b, H], unit vectors."""
    weights = mask[:, :, None].astype(states.dtype)
    summed = np.matmul(weights.transpose(0, 2, 1), states)[:, 0]
    pooled = summed / weights.sum(axis=1)
    normalised: Vectors = pooled / np.maximum(np.linalg.norm(pooled, axis=1, keepdims=True), 1e-12)
    return normalised
