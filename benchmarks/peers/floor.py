"""The encoder's matrix products alone, on the same tokens in the same batches: what no encoder can be faster than,
unless it multiplies faster or in another precision.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.peers import Choice, Settings, Vectors
from benchmarks.peers.engine import Ids, Rows, Tokens
from benchmarks.peers.torch_settings import DTYPES

Product = Callable[[Tensor], Tensor]  # [T, in] -> [T, out]


class Floor(Tokens):
    """Four products a layer: to queries, keys and values; back from attention; up; down."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        config = json.loads((Path(settings.directory) / "config.json").read_text(encoding="utf-8"))
        hidden, wide = config["hidden_size"], config["intermediate_size"]
        sizes = ((hidden, 3 * hidden), (hidden, hidden), (hidden, wide), (wide, hidden))
        make = int8_product if settings.precision == "int8" else float_product
        # A layer of its own each time: real weights do not all stay in the caches either.
        self.products = [
            (width, make(width, out, settings)) for _ in range(config["num_hidden_layers"]) for width, out in sizes
        ]
        self._made: dict[int, Tensor] = {}
        self.dtype = torch.uint8 if settings.precision == "int8" else DTYPES[settings.precision]

    @torch.inference_mode()
    def multiply(self, tokens: int) -> None:
        """For a batch of so many tokens."""
        states = self._random(tokens) if self.settings.device == "cuda" else self._ones(tokens)
        for width, product in self.products:
            product(states[width])
        if self.settings.device == "cuda":
            torch.cuda.synchronize()

    def _ones(self, tokens: int) -> dict[int, Tensor]:
        """By width. [T, width]"""
        widths = {width for width, _ in self.products}
        return {width: torch.ones(tokens, width, dtype=self.dtype) for width in widths}

    def _random(self, tokens: int) -> dict[int, Tensor]:
        """By width, made once: a GPU multiplies equal numbers faster than others, by the power that it saves."""
        most = max(tokens, self.batch_tokens)
        for width, _ in self.products:
            if width not in self._made or self._made[width].size(0) < most:
                self._made[width] = torch.randn(most, width, dtype=self.dtype, device="cuda")
        return {width: made[:tokens] for width, made in self._made.items()}

    def encode(self, rows: Rows, choice: Choice) -> Vectors:
        """No vectors come of it. -> [0, 0]"""
        for part in self.planned(rows.ids):
            self.multiply(sum(len(rows.ids[row]) for row in part))
        return np.zeros((0, 0), np.float32)

    def encode_one(self, rows: list[Ids]) -> Vectors:
        """One text. -> [0, 0]"""
        self.multiply(len(rows[0]))
        return np.zeros((0, 0), np.float32)


def float_product(width: int, out: int, settings: Settings) -> Product:
    """As torch multiplies."""
    weight = torch.randn(out, width).to(settings.device, DTYPES[settings.precision])
    return lambda states: functional.linear(states, weight)


def int8_product(width: int, out: int, settings: Settings) -> Product:
    """As oneDNN multiplies: activations with one scale, weights with a scale a row, to float32."""
    weight = torch.randint(-127, 128, (out, width), dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    scales, zeros = torch.full((out,), 0.01), torch.zeros(out, dtype=torch.int64)

    def multiply(states: Tensor) -> Tensor:
        given = (states, 0.01, 128, packed, scales, zeros, None)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(*given, 1.0, 0, torch.float32, "none", [], "")
        return product

    return multiply


def load(settings: Settings) -> Floor:
    """The adapter."""
    return Floor(settings)
