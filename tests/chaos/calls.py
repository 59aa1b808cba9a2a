"""What callers ask of the server under faults: calls of every kind, whose answers are arrays that can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bertstream.client import Client, GenerationDone, Layer

Answer = list[NDArray[Any]]
TOLERANCE = 1e-5  # of floats: which texts share a batch moves the last bits
VARIANTS = 4  # of each kind

_WORDS = ("the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "while", "it", "rains", "nobody", "sees")
ENCODER, FAULTY, CLASSIFIER, DECODER = "all-MiniLM-L6-v2", "faulty", "classifier", "decoder"


@dataclass(frozen=True, slots=True)
class Kind:
    """One way of asking. `ask` takes the number of a variant, and gives the same answer whenever it is asked."""

    name: str
    ask: Callable[[Client, int], Answer]


def texts(count: int, seed: int) -> list[str]:
    """Return texts of 2 to 30 words, the same for a seed."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(_WORDS, random.integers(2, 30))) for _ in range(count)]


def ids(count: int, seed: int) -> list[list[int]]:
    """Return texts as token ids, without those that do harm to the faulty model."""
    random = np.random.default_rng(seed)
    return [random.integers(50, 90, random.integers(2, 40)).tolist() for _ in range(count)]


def _encode(client: Client, variant: int) -> Answer:
    return [client.encode(texts(1 + 3 * variant, variant), model=ENCODER)]


def _stream(client: Client, variant: int) -> Answer:
    batches = list(client.encode_stream(texts(60, 10 + variant), model=ENCODER, batch_size=8))
    return [np.concatenate([batch.ids for batch in batches]), np.concatenate([batch.vectors for batch in batches])]


def _neighbours(client: Client, variant: int) -> Answer:
    return [client.encode(ids(4, 20 + variant), model=FAULTY)]


def _layers(client: Client, variant: int) -> Answer:
    events = client.stream_layers(ids(2, 30 + variant), model=FAULTY)
    return [event.array for event in events if isinstance(event, Layer)]


def _classify(client: Client, variant: int) -> Answer:
    labels = client.classify(texts(3, 40 + variant), model=CLASSIFIER)
    return [np.array([label.score for each in labels for label in each])]


def _options(variant: int) -> dict[str, Any]:
    return {"model": DECODER, "max_new_tokens": 60, "do_sample": variant % 2 == 1, "seed": variant}


def _pieces(client: Client, variant: int) -> Answer:
    *pieces, done = client.stream_generate(texts(1, 50 + variant), **_options(variant))
    assert isinstance(done, GenerationDone)
    tokens = [token for piece in pieces for token in piece.token_ids]
    return [np.array(tokens), _characters(piece.text for piece in pieces), np.array(done.outputs[0].token_ids)]


def _generate(client: Client, variant: int) -> Answer:
    batches = list(client.generate_stream(texts(4, 60 + variant), **_options(variant)))
    return [np.array(answer.token_ids) for batch in batches for answer in batch.results]


def _characters(parts: Iterable[str]) -> NDArray[Any]:
    return np.array([ord(character) for part in parts for character in part], np.int64)


KINDS: tuple[Kind, ...] = (
    Kind("encode", _encode),
    Kind("encode_stream", _stream),
    Kind("encode beside faults", _neighbours),
    Kind("stream_layers", _layers),
    Kind("classify", _classify),
    Kind("stream_generate", _pieces),
    Kind("generate_stream", _generate),
)


def right(found: Sequence[NDArray[Any]], expected: Sequence[NDArray[Any]]) -> bool:
    """Return whether an answer is the expected one: of integers each equal, of floats within TOLERANCE."""
    return len(found) == len(expected) and all(map(_equal, found, expected))


def _equal(found: NDArray[Any], expected: NDArray[Any]) -> bool:
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return False
    return bool(np.allclose(found, expected, rtol=0, atol=TOLERANCE if found.dtype.kind == "f" else 0))


def ask_all(client: Client) -> dict[str, list[Answer]]:
    """Return the answers to all variants of all kinds, by the kinds' names."""
    return {kind.name: [kind.ask(client, variant) for variant in range(VARIANTS)] for kind in KINDS}


def save(answers: dict[str, list[Answer]], file: Path) -> None:
    """Write answers, for other processes."""
    arrays = {
        f"{name}/{variant}/{index}": array
        for name, each in answers.items()
        for variant, answer in enumerate(each)
        for index, array in enumerate(answer)
    }
    np.savez(file, **arrays)  # type: ignore[arg-type]


def load(file: Path) -> dict[str, list[Answer]]:
    """Read what `save` has written."""
    answers: dict[str, list[Answer]] = {}
    with np.load(file) as arrays:
        for key in arrays.files:
            name, variant, _ = key.rsplit("/", 2)
            mine = answers.setdefault(name, [[] for _ in range(VARIANTS)])
            mine[int(variant)].append(arrays[key])
    return answers
