"""Score spans of words by labels that are part of the text: the head of GLiNER.

A text has C labels and W words; K is the most words of a span, and D the head's width. All is float32, whatever the
states are. Source: Zaratiana and others 2023, https://arxiv.org/abs/2311.08526.
"""

from __future__ import annotations

# TorchScript reads these annotations, and knows only the old spellings.
from typing import List  # noqa: UP035

import torch
from torch import Tensor, nn

from bertstream.workers.models.linear import Linear
from bertstream.workers.models.shape import EncoderShape, HeadShape, Operators

_WIDER = 4  # how many times D the inner layers have


class Perceptron(nn.Module):
    """Apply two linear layers with ReLU between them."""

    def __init__(self, width: int, operators: Operators) -> None:
        super().__init__()
        self.inner = Linear(width, _WIDER * width, operators)
        self.output = Linear(_WIDER * width, width, operators)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layers. x: [T, D] -> [T, D]."""
        return self.output(torch.relu_(self.inner(x)))


class Recurrence(nn.Module):
    """Read the words of a text forwards and backwards: a bidirectional LSTM of one layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.size = width // 2
        gates = 4 * self.size
        # Not torch.nn.LSTM, which keeps its weights a second time, in a list that none of them can be taken out of.
        self.weight_ih = nn.Parameter(torch.empty(gates, width))
        self.weight_hh = nn.Parameter(torch.empty(gates, self.size))
        self.bias_ih = nn.Parameter(torch.empty(gates))
        self.bias_hh = nn.Parameter(torch.empty(gates))
        self.weight_ih_reverse = nn.Parameter(torch.empty(gates, width))
        self.weight_hh_reverse = nn.Parameter(torch.empty(gates, self.size))
        self.bias_ih_reverse = nn.Parameter(torch.empty(gates))
        self.bias_hh_reverse = nn.Parameter(torch.empty(gates))

    def forward(self, x: Tensor) -> Tensor:
        """Read one text. x: [W, D] -> [W, D]."""
        start = torch.zeros([2, 1, self.size], dtype=x.dtype, device=x.device)
        weights: List[Tensor] = [  # noqa: UP006
            *(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh),
            *(self.weight_ih_reverse, self.weight_hh_reverse, self.bias_ih_reverse, self.bias_hh_reverse),
        ]
        return torch.lstm(x.unsqueeze(1), [start, start], weights, True, 1, 0.0, False, True, False)[0].squeeze(1)


class SpanHead(nn.Module):
    """Score each span of up to K words by each label.

    A span is what a network makes of its first and its last word's vectors, one behind the other, and its score the
    product with the label's vector. The network's first layer is computed for words rather than spans, by its two
    halves, and its last one for labels: the same sums in another order, of which there are far fewer.
    """

    def __init__(self, shape: EncoderShape, head: HeadShape, operators: Operators) -> None:
        super().__init__()
        own, width = operators.beside_layers, head.width
        self.longest = head.outputs
        self.projection = nn.Identity() if width == shape.hidden_size else Linear(shape.hidden_size, width, own)
        self.recurrence = nn.ModuleList([Recurrence(width) for _ in range(head.recurrent_layers)])
        self.label = Perceptron(width, own)
        self.first = Perceptron(width, own)
        self.last = Perceptron(width, own)
        self.of_first = Linear(width, _WIDER * width, own)
        self.of_last = Linear(width, _WIDER * width, own, bias=False)
        self.output = nn.Linear(_WIDER * width, width)

    def forward(self, states: Tensor, labels: int) -> Tensor:
        """Return the logits of one text's spans: of each word, those that begin with it, by their length.

        states: [C + W, H], of the `labels` and then of the words, at least one each -> [W, K, C]. Spans that go beyond
        the last word are as if they ended with it.
        """
        x = self.projection(states.to(torch.float32))
        label, words = self.label(x[:labels]), x[labels:]
        for layer in self.recurrence:
            words = layer(words)
        first = self.of_first(torch.relu_(self.first(words)))  # [W, 4 D]
        last = self.of_last(torch.relu_(self.last(words)))  # [W, 4 D]
        count = words.size(0)
        steps = torch.arange(count, device=x.device).unsqueeze(1) + torch.arange(self.longest, device=x.device)
        inner = torch.relu_(first.unsqueeze(1) + last[steps.clamp(max=count - 1)])  # [W, K, 4 D]
        by_label = label @ self.output.weight  # [C, 4 D]
        return inner @ by_label.t() + label @ self.output.bias
