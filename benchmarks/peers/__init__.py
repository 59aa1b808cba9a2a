"""A small adapter for each contender.

An adapter is a module with `load(settings) -> Peer`, which runs in its own process (host.py), in an environment that
has the packages that it needs. So only the adapters of bertstream itself may import bertstream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Vectors: TypeAlias = NDArray[np.floating[Any]]  # [n, d]


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an adapter, which are sent as JSON."""

    adapter: str  # the module's name
    directory: str  # the checkpoint
    work: str  # a folder for converted models, kept between runs
    precision: str  # "float32", "int8", …
    device: str  # "cpu" or "cuda"
    threads: int  # how many it may use
    max_length: int  # tokens
    calibration: str  # a JSON file with texts, from which quantizers may choose their scales
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """A way to feed a peer: texts per batch, and how many batches at once, each with its share of the threads."""

    batch_size: int = 32
    streams: int = 1


class Peer:
    """A loaded model that encodes texts as unit vectors."""

    concurrent = False  # whether encode_one may be called by several threads at once

    def versions(self) -> dict[str, str]:
        """Return the versions of the packages that compute."""
        raise NotImplementedError

    def choices(self) -> Sequence[Choice]:
        """Return the ways to feed it that are worth trying; the first one is also used for single texts."""
        return (Choice(),)

    def settle(self, choices: Sequence[Choice]) -> None:
        """Prepare for the use of only these choices from now on."""

    def ready(self, texts: list[str]) -> Any:
        """Return what `encode` takes for these texts, made once before timing: usually the texts themselves."""
        return texts

    def encode(self, texts: Any, choice: Choice) -> Vectors:
        """Return the vectors [n, d] in the order of the texts, as fast as possible."""
        raise NotImplementedError

    def encode_one(self, text: Any) -> Vectors:
        """Return the vector [1, d] of one item that `ready` made, given in a list, as soon as possible."""
        raise NotImplementedError

    def close(self) -> None:
        """End everything that was started."""


class NotMeasurable(Exception):
    """The contender cannot be measured here; the message says why."""
