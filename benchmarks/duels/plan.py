"""What is measured in duels, on which checkpoints and texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from typing import Any, Literal, get_args

from benchmarks import models, workloads
from benchmarks.models import ModelSpec
from benchmarks.workloads import Counter

Part = Literal["heads", "generation", "layers", "start", "memory"]
PARTS: tuple[Part, ...] = get_args(Part)
Use = Literal["fill_mask", "entities", "answer", "rerank", "generate", "layers"]
Item = str | tuple[str, str]

SHAPES = {"all-MiniLM-L6-v2": models.SMALL, "bert-base": models.BASE, "tiny": models.TINY}
PROMPT_TOKENS, NEW_TOKENS = 64, 32
LAYERS_TOKENS = 128
WORKERS = (1, 2, 8)  # of servers whose memory is measured
AIM = 2.0  # times as fast
_TAGS = {0: "O", 1: "B-PER", 2: "I-PER", 3: "B-ORG", 4: "I-ORG"}
_ONE_LABEL = {"num_labels": 1}
_DECODER = {"is_decoder": True}


@dataclass(frozen=True, slots=True)
class Duel:
    """One line of the table: what both sides are asked to do."""

    part: Part
    name: str
    use: Use
    architecture: str
    unit: str
    items: int  # for a model like all-MiniLM-L6-v2
    config: Mapping[str, Any] = field(default_factory=dict)
    together: int = 0  # items of a call; 0 for a stream of all
    beams: int = 1

    @property
    def options(self) -> dict[str, str]:
        """Return what adapters are told."""
        return {"use": self.use, "together": str(self.together), "beams": str(self.beams), "tokens": str(NEW_TOKENS)}


_generation = partial(
    Duel, "generation", use="generate", architecture="BertLMHeadModel", unit="tokens", config=_DECODER
)
DUELS = (
    Duel("heads", "fill mask", "fill_mask", "BertForMaskedLM", "texts", 192),
    Duel("heads", "entities", "entities", "BertForTokenClassification", "texts", 192, {"id2label": _TAGS}),
    Duel("heads", "answer", "answer", "BertForQuestionAnswering", "texts", 192),
    Duel("heads", "rerank", "rerank", "BertForSequenceClassification", "texts", 192, _ONE_LABEL),
    _generation("greedy, 1 at once", items=4, together=1),
    _generation("greedy, 32 at once", items=32, together=32),
    _generation("4 beams, 1 at once", items=4, together=1, beams=4),
    _generation("4 beams, 32 at once", items=32, together=32, beams=4),
    Duel("layers", "all layers, 1 text a call", "layers", "BertModel", "MB", 32, together=1),
    Duel("layers", "all layers, 16 texts a call", "layers", "BertModel", "MB", 64, together=16),
)


def chosen(parts: Sequence[str]) -> list[Duel]:
    """Return the duels of these parts."""
    return [duel for duel in DUELS if duel.part in parts]


def count_of(duel: Duel, model: ModelSpec, scale: float) -> int:
    """Return how many items are sent of a model: whole calls, and at least one."""
    wanted = round(duel.items * scale / max(1.0, model.cost))
    step = duel.together or 4
    return max(1, wanted // step) * step


def items_of(duel: Duel, count: int, count_tokens: Counter) -> tuple[list[Item], int]:
    """Return the items, and the tokens of all, special ones included."""
    if duel.use in ("generate", "layers"):
        tokens = PROMPT_TOKENS if duel.use == "generate" else LAYERS_TOKENS
        made = workloads.equal(duel.name, count, tokens, count_tokens, seed=6)
    else:
        made = workloads.lognormal(duel.name, count, count_tokens, seed=7)
    if duel.use == "fill_mask":
        return [masked(text) for text in made.texts], made.total_tokens
    if duel.use in ("answer", "rerank"):
        return list(zip(cycle(workloads.sentences()), made.texts, strict=False)), made.total_tokens
    return list(made.texts), made.total_tokens


def masked(text: str) -> str:
    """Return the text with its middle word masked, or its first where no more than that one is sure to be kept."""
    words = text.split()
    words[min(len(words) // 2, 100)] = "[MASK]"  # what is cut must not be the mask
    return " ".join(words)


def amount(duel: Duel, items: int, tokens: int, layers: int, hidden: int) -> float:
    """Return the work of a round in the duel's unit: texts, new tokens, or MB of float32 states of all layers."""
    if duel.use == "generate":
        return items * NEW_TOKENS
    if duel.use == "layers":
        return tokens * (layers + 1) * hidden * 4 / 1e6
    return items
