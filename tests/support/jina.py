"""Make tiny Jina BERTs, and compute them plainly, by their paper (arXiv 2310.19923), a text at a time.

transformers has no such class: the checkpoints bring code of their own, which is never run.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from transformers import BertTokenizer

from tests.support.checkpoints import tiny_bert, write_json

HIDDEN, LAYERS, INTERMEDIATE, EPS = 36, 3, 70, 1e-12
CODE = "jinaai/jina-bert-implementation--modeling_bert"


def tiny_jina(
    directory: Path, *, feed_forward: str = "geglu", heads: int = 3, architecture: str = "JinaBertModel", **config: Any
) -> Path:
    """Make a Jina BERT of 3 layers x 36 with BERT's tokenizer; of two classes it has the heads."""
    bert = tiny_bert(directory / "bert", architecture="BertModel", num_hidden_layers=1)
    tokenizer = BertTokenizer.from_pretrained(bert)
    vocabulary = len(tokenizer) + 3
    write_json(
        directory / "config.json",
        {
            "model_type": "bert",
            "architectures": [architecture],
            "auto_map": {"AutoModel": f"{CODE}.JinaBertModel", "AutoModelForMaskedLM": f"{CODE}.JinaBertForMaskedLM"},
            "position_embedding_type": "alibi",
            "feed_forward_type": feed_forward,
            "hidden_size": HIDDEN,
            "num_hidden_layers": LAYERS,
            "num_attention_heads": heads,
            "intermediate_size": INTERMEDIATE,
            "max_position_embeddings": 2048,
            "vocab_size": vocabulary,
            "layer_norm_eps": EPS,
            **config,
        },
    )
    tokenizer.model_max_length = 600
    tokenizer.save_pretrained(directory)
    weights = {name: _noise(name, shape) for name, shape in _shapes(vocabulary, feed_forward, architecture)}
    save_file(weights, directory / "model.safetensors")
    return directory


def _shapes(vocabulary: int, feed_forward: str, architecture: str) -> list[tuple[str, tuple[int, ...]]]:
    square, norm = (HIDDEN, HIDDEN), ("LayerNorm", HIDDEN)

    def linear(name: str, *size: int) -> list[tuple[str, tuple[int, ...]]]:
        return [(f"{name}.weight", size), (f"{name}.bias", size[:1])]

    found: list[tuple[str, tuple[int, ...]]] = [("embeddings.word_embeddings.weight", (vocabulary, HIDDEN))]
    found += [("embeddings.token_type_embeddings.weight", (2, HIDDEN)), *linear("embeddings.LayerNorm", HIDDEN)]
    for layer in (f"encoder.layer.{i}" for i in range(LAYERS)):
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            found += linear(f"{layer}.attention.{part}", *square)
        found += linear(f"{layer}.attention.output.{norm[0]}", HIDDEN)
        if feed_forward == "original":
            found += linear(f"{layer}.intermediate.dense", INTERMEDIATE, HIDDEN)
            found += [
                *linear(f"{layer}.output.dense", HIDDEN, INTERMEDIATE),
                *linear(f"{layer}.output.LayerNorm", HIDDEN),
            ]
        else:
            found += [(f"{layer}.mlp.gated_layers.weight", (2 * INTERMEDIATE, HIDDEN))]
            found += [*linear(f"{layer}.mlp.wo", HIDDEN, INTERMEDIATE), *linear(f"{layer}.mlp.layernorm", HIDDEN)]
    found += linear("pooler.dense", *square)
    if architecture == "JinaBertModel":
        return found
    found = [(f"bert.{name}", size) for name, size in found]
    if architecture == "JinaBertForSequenceClassification":
        return [*found, *linear("classifier", 2, HIDDEN)]
    found += [
        *linear("cls.predictions.transform.dense", *square),
        *linear("cls.predictions.transform.LayerNorm", HIDDEN),
    ]
    return [*found, ("cls.predictions.bias", (vocabulary,))]


def _noise(name: str, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(sum(map(ord, name)))
    noise = torch.randn(shape, generator=generator) * 0.15
    return noise + 1.0 if name.lower().endswith("layernorm.weight") else noise


@dataclass
class Output:
    """Hold what is computed of one text of n tokens."""

    hidden_states: list[Tensor]  # [n, H] each
    attentions: list[Tensor]  # [heads, n, n] each
    pooler_output: Tensor  # [1, H]


class PlainJina:
    """Compute one text at a time, in float32."""

    def __init__(self, directory: Path, *, feed_forward: str = "geglu", heads: int = 3) -> None:
        weights = load_file(directory / "model.safetensors")
        self.weights = {name.removeprefix("bert."): weight for name, weight in weights.items()}
        self.feed_forward, self.heads = feed_forward, heads

    def output(self, ids: list[int], types: list[int]) -> Output:
        """Compute everything of a text."""
        words, kinds = (self.weights[f"embeddings.{name}_embeddings.weight"] for name in ("word", "token_type"))
        x = self.norm("embeddings.LayerNorm", words[ids] + kinds[types])
        states, attentions = [x], []
        for i in range(LAYERS):
            x, weights = self.layer(f"encoder.layer.{i}", x)
            states.append(x)
            attentions.append(weights)
        return Output(states, attentions, torch.tanh(self.linear("pooler.dense", x[:1])))

    def layer(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        context, weights = self.attention(f"{name}.attention.self", x)
        x = self.norm(f"{name}.attention.output.LayerNorm", self.linear(f"{name}.attention.output.dense", context) + x)
        if self.feed_forward == "original":
            made = self.linear(f"{name}.output.dense", functional.gelu(self.linear(f"{name}.intermediate.dense", x)))
            return self.norm(f"{name}.output.LayerNorm", made + x), weights
        gate, other = functional.linear(x, self.weights[f"{name}.mlp.gated_layers.weight"]).chunk(2, -1)
        activation: Callable[[Tensor], Tensor] = functional.gelu if self.feed_forward == "geglu" else functional.relu
        return self.norm(f"{name}.mlp.layernorm", self.linear(f"{name}.mlp.wo", activation(gate) * other) + x), weights

    def attention(self, name: str, x: Tensor) -> tuple[Tensor, Tensor]:
        size = HIDDEN // self.heads
        q, k, v = (
            self.linear(f"{name}.{part}", x).view(len(x), self.heads, size).transpose(0, 1)
            for part in ("query", "key", "value")
        )
        places = torch.arange(len(x))
        distances = (places - places.unsqueeze(1)).abs()
        bias = -torch.tensor(slopes(self.heads)).view(-1, 1, 1) * distances
        weights = torch.softmax(q @ k.transpose(1, 2) / math.sqrt(size) + bias, -1)
        return (weights @ v).transpose(0, 1).reshape(len(x), HIDDEN), weights

    def linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.weights[f"{name}.weight"], self.weights[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.weights[f"{name}.weight"], self.weights[f"{name}.bias"], EPS)


def slopes(heads: int) -> list[float]:
    """Return ALiBi's slopes, as its paper's authors wrote them out for 8 and 16 heads, and extended them for others."""
    eight, sixteen = [2.0**-i for i in range(1, 9)], [2.0 ** (-i / 2) for i in range(1, 17)]
    two, four = [2.0**-4, 2.0**-8], [2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8]
    known = {1: [2.0**-8], 2: two, 3: [*two, 2.0**-2], 4: four, 6: [*four, 2.0**-1, 2.0**-3], 8: eight, 16: sixteen}
    return {**known, 12: [*eight, *sixteen[:8:2]]}[heads]
