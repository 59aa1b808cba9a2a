"""Define task heads, which turn the last layer's states into logits.

H hidden size, E embedding size, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from bertstream.workers.models.activations import Activation
from bertstream.workers.models.linear import Linear
from bertstream.workers.models.sentence import new_step
from bertstream.workers.models.shape import EncoderShape, HeadShape, Operators
from bertstream.workers.models.spans import SpanHead


class VocabularyHead(nn.Module):
    """Give a logit for every token of the vocabulary."""

    __constants__ = ("packs", "reads_pooler", "tied")

    def __init__(self, shape: EncoderShape, head: HeadShape, operators: Operators) -> None:
        super().__init__()
        self.reads_pooler = head.reads_pooler
        self.dense = Linear(shape.hidden_size, shape.embedding_size, operators.beside_layers)
        self.packs = self.dense.packs
        self.activation = activation(head.activation, invariant=self.packs)
        self.norm = nn.LayerNorm(shape.embedding_size, eps=shape.layer_norm_eps)
        self.tied = head.tied
        if not self.tied:
            self.matrix = nn.Parameter(torch.zeros(shape.vocabulary_size, shape.embedding_size))
        self.bias = nn.Parameter(torch.zeros(shape.vocabulary_size))

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        """Return logits.

        states: [M, H]; words: [V, E], the matrix of the word embeddings, used where they are tied -> [M, V].
        """
        x = self.norm(self.activation(self.dense(states)))  # [M, E]
        matrix = words
        if not self.tied:
            matrix = self.matrix
        if self.packs:  # laid out while it is multiplied: embeddings are looked up in the same
            return torch.ops.bertstream.linear(x, matrix, None, None, self.bias)
        return functional.linear(x, matrix, self.bias)


class LinearHead(nn.Module):
    """Give logits for whole texts, or for each token, by one linear layer or two, with a norm between them or not."""

    __constants__ = ("reads_pooler",)

    def __init__(self, shape: EncoderShape, head: HeadShape, operators: Operators) -> None:
        super().__init__()
        self.reads_pooler = head.reads_pooler
        hidden, own = shape.hidden_size, operators.beside_layers
        self.dense = Linear(hidden, hidden, own) if head.has_dense else nn.Identity()
        self.output = Linear(hidden, head.outputs, own)
        self.activation = activation(head.activation, invariant=self.output.packs)
        self.norm = nn.LayerNorm(hidden, eps=shape.layer_norm_eps) if head.has_norm else nn.Identity()

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        """Return logits; `words` is not used here.

        states: [M, H] -> [M, outputs].
        """
        return self.output(self.norm(self.activation(self.dense(states))))


class StepsHead(nn.Module):
    """Turn each token's state into a vector, or a weight, by sentence-transformers' modules, in float32."""

    __constants__ = ("reads_pooler",)

    def __init__(self, shape: EncoderShape, head: HeadShape, operators: Operators) -> None:
        super().__init__()
        self.reads_pooler = head.reads_pooler
        self.steps = nn.ModuleList([new_step(each, operators) for each in head.steps])

    def forward(self, states: Tensor, words: Tensor) -> Tensor:
        """Return vectors; `words` is not used here.

        states: [M, H] -> [M, outputs] float32.
        """
        x = states.to(torch.float32)
        for step in self.steps:
            x = step(x)
        return x


def activation(name: str, *, invariant: bool) -> nn.Module:
    """Return the module for an activation of this name, invariant to the batch or not; "" is the identity."""
    return Activation(name, invariant=invariant) if name else nn.Identity()


SPANS = "spans"
# A head of another kind is a class that is made from the two shapes and the operators, has `reads_pooler`, and is
# called as these are; but one of spans reads the words and labels of a text together.
KINDS: Mapping[str, Callable[[EncoderShape, HeadShape, Operators], nn.Module]] = {
    "vocabulary": VocabularyHead,
    "linear": LinearHead,
    "steps": StepsHead,
    SPANS: SpanHead,
}
# Those of these kinds keep their weights in float32, whatever the precision of the model.
FLOAT32_KINDS = ("steps", SPANS)


def new_head(shape: EncoderShape, head: HeadShape, operators: Operators) -> nn.Module:
    """Make the head that a shape describes, with weights that are yet to be loaded."""
    return KINDS[head.kind](shape, head, operators)


def state_name(head: HeadShape, weight: str) -> str:
    """Return a Model's name for this weight of a head."""
    return f"span_heads.0.{weight}" if head.kind == SPANS else f"heads.{head.name}.{weight}"


def weight_shapes(shape: EncoderShape, head: HeadShape) -> dict[str, torch.Size]:
    """Return the shapes of the head's weights, by their names within it."""
    with torch.device("meta"):
        module = new_head(shape, head, Operators())
    return {name: weight.shape for name, weight in module.state_dict().items()}
