"""Those that are measured, one small adapter each.

A module here has `load(settings) -> Peer` and runs in a process of its own (host.py), with whatever Python has the
packages that it needs. So nothing here may import bertstream, but for the adapters of bertstream itself.
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
    """What an adapter is told; made of JSON."""

    adapter: str  # the module's name
    directory: str  # the checkpoint
    work: str  # a folder for converted models, kept between runs
    precision: str  # "float32", "int8", …
    device: str  # "cpu" or "cuda"
    threads: int  # that it may use
    max_length: int  # tokens
    calibration: str  # a JSON file with texts, for those that choose their scales by them
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Choice:
    """How a peer is fed: texts in a batch, and how many batches at once, each with its share of the threads."""

    batch_size: int = 32
    streams: int = 1


class Peer:
    """A loaded model that makes unit vectors of texts."""

    concurrent = False  # whether encode_one may be called by several threads at once

    def versions(self) -> dict[str, str]:
        """Of the packages that do the work."""
        raise NotImplementedError

    def choices(self) -> Sequence[Choice]:
        """The ways to feed it that are worth a try; the first for one text at a time."""
        return (Choice(),)

    def settle(self, choices: Sequence[Choice]) -> None:
        """No choices but these are used from now on."""

    def ready(self, texts: list[str]) -> Any:
        """What `encode` takes, made once: the texts, unless the adapter is to be timed without its tokenizer."""
        return texts

    def encode(self, texts: Any, choice: Choice) -> Vectors:
        """As fast as it can, in the order given. -> [n, d]"""
        raise NotImplementedError

    def encode_one(self, text: Any) -> Vectors:
        """As soon as it can. One item of what `ready` made, in a list. -> [1, d]"""
        raise NotImplementedError

    def close(self) -> None:
        """End what was started."""


class Left(Exception):
    """This cannot be measured here; the message says why."""
