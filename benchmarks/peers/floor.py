"""The encoder's matrix products alone, on the same tokens in the same batches.

No encoder can be faster, unless it multiplies faster or in another precision.
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
from benchmarks.peers.engine import Ids, TokenizedTexts, TokenPeer
from benchmarks.peers.torch_settings import DTYPES

Product = Callable[[Tensor], Tensor]  # [T, in] -> [T, out]


class Floor(TokenPeer):
    """Four products per layer: to queries, keys and values; the output of attention; up; down."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        config = json.loads((Path(settings.directory) / "config.json").read_text(encoding="utf-8"))
        hidden, wide = config["hidden_size"], config["intermediate_size"]
        sizes = ((hidden, 3 * hidden), (hidden, hidden), (hidden, wide), (wide, hidden))
        make = int8_product if settings.precision == "int8" else float_product
        # Each layer has its own weights, since real weights do not all stay in the caches either.
        self.products = [
            (width, make(width, out, settings)) for _ in range(config["num_hidden_layers"]) for width, out in sizes
        ]
        self._made: dict[int, Tensor] = {}
        self.dtype = torch.uint8 if settings.precision == "int8" else DTYPES[settings.precision]

    @torch.inference_mode()
    def multiply(self, tokens: int) -> None:
        """Compute the products for a batch with this number of tokens."""
        states = self._random(tokens) if self.settings.device == "cuda" else self._ones(tokens)
        for width, product in self.products:
            product(states[width])
        if self.settings.device == "cuda":
            torch.cuda.synchronize()

    def _ones(self, tokens: int) -> dict[int, Tensor]:
        """Return ones [T, width] for each width."""
        widths = {width for width, _ in self.products}
        return {width: torch.ones(tokens, width, dtype=self.dtype) for width in widths}

    def _random(self, tokens: int) -> dict[int, Tensor]:
        """Return random numbers [T, width] for each width, since a GPU saves power and time with equal numbers."""
        most = max(tokens, self.batch_tokens)
        for width, _ in self.products:
            if width not in self._made or self._made[width].size(0) < most:
                self._made[width] = torch.randn(most, width, dtype=self.dtype, device="cuda")
        return {width: made[:tokens] for width, made in self._made.items()}

    def encode(self, rows: TokenizedTexts, choice: Choice) -> Vectors:
        """Compute the products for all texts, and return an empty array [0, 0] in place of vectors."""
        for part in self.planned(rows.ids):
            self.multiply(sum(len(rows.ids[row]) for row in part))
        return np.zeros((0, 0), np.float32)

    def encode_one(self, rows: list[Ids]) -> Vectors:
        """Compute the products for one text, and return an empty array [0, 0] in place of a vector."""
        self.multiply(len(rows[0]))
        return np.zeros((0, 0), np.float32)


def float_product(width: int, out: int, settings: Settings) -> Product:
    """Return torch's product with a random weight."""
    weight = torch.randn(out, width).to(settings.device, DTYPES[settings.precision])
    return lambda states: functional.linear(states, weight)


def int8_product(width: int, out: int, settings: Settings) -> Product:
    """Return oneDNN's product with a random weight: one scale for activations, one per row of weights, to float32."""
    weight = torch.randint(-127, 128, (out, width), dtype=torch.int8)
    packed = torch.ops.onednn.qlinear_prepack(weight, None)
    scales, zeros = torch.full((out,), 0.01), torch.zeros(out, dtype=torch.int64)

    def multiply(states: Tensor) -> Tensor:
        given = (states, 0.01, 128, packed, scales, zeros, None)
        product: Tensor = torch.ops.onednn.qlinear_pointwise(*given, 1.0, 0, torch.float32, "none", [], "")
        return product

    return multiply


def load(settings: Settings) -> Floor:
    """Return the adapter."""
    return Floor(settings)
