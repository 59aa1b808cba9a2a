"""Describe, as data, all that is particular to a family of encoders."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from bertstream.workers.compile.checkpoints.tokenizer_classes import TokenizerClass
from bertstream.workers.models import BertShape, EncoderShape

# How the names of classes that generate end.
CAUSAL = ("LMHeadModel", "ForCausalLM")
_POOLER = "pooler.dense"
_OF_LAYER = re.compile(r"layers\.(\d+)\.(.+)")


def _own_place(layer: int) -> tuple[int, ...]:
    return (layer,)


@dataclass(frozen=True, slots=True)
class Head:
    """Describe one head of one family.

    The mappings go from our names to the checkpoint's.
    """

    name: str  # one of contract.HeadName
    classes: tuple[str, ...]  # endings of the names of classes that have this head
    modules: Mapping[str, str]  # each has a weight and a bias
    kind: str = "linear"  # one of models.HEAD_KINDS
    vocabulary_matrix: str = ""  # for fill_mask; may be missing where it is the embedding matrix itself
    vocabulary_biases: tuple[str, ...] = ()  # candidates; the first one found is used
    by_weights: bool = False  # any class with these weights has this head, since they mean nothing else
    outputs: int = 0  # 0: one for each of the config's labels
    reads_pooler: bool = False
    activation: str = ""  # after the dense layer; "" for none
    activation_setting: str = ""  # config.json's key that may name another activation
    # Our weights that may not be there, since they are zeros -> config.json's key that says so by being false.
    optional: Mapping[str, str] = field(default_factory=dict)
    pooling_setting: str = ""  # config.json's key that says what is read of a text: "cls", its first token, or "mean"
    # Settings that change the numbers in ways we do not compute: key -> the values that change nothing.
    harmless: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def has_labels(self) -> bool:
        return not self.vocabulary_matrix and not self.outputs


@dataclass(frozen=True, slots=True)
class Family:
    """Describe all that is particular to a family of encoders.

    The mappings go from the names of our encoder's modules to the checkpoint's. Several names in a tuple are
    concatenated along the first axis.
    """

    name: str  # config.json's model_type, or ours where another family has that too
    prefix: str  # of the encoder's weights, in checkpoints that have a head
    settings: Mapping[str, str]  # our setting -> config.json's key
    defaults: Mapping[str, Any]  # config.json's keys that old checkpoints leave out -> transformers' defaults
    modules: Mapping[str, tuple[str, ...]]  # all but those of the layers
    layer: Mapping[str, tuple[str, ...]]  # the modules of a layer, below layer_prefix
    layer_prefix: str  # with {} for the layer's number, from 0, or for each number of the shape's `place`
    heads: tuple[Head, ...]  # in the order in which they are described
    head_prefixes: tuple[str, ...]  # of task heads' weights, which an encoder does not need
    tokenizer_class: str  # the class of transformers where no file names one, without version 4's "Fast"
    tokenizer: TokenizerClass  # what that class does
    shape: type[EncoderShape] = BertShape  # the class of the shape determines the architecture
    # A decoder's attention to an encoder, below layer_prefix too; empty where the family has no decoders.
    cross_attention: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)  # our settings that config.json cannot change
    buffers: tuple[str, ...] = ("embeddings.position_ids", "embeddings.token_type_ids")  # not weights
    unread: tuple[str, ...] = ()  # weights that may be there without being used
    renamed: Mapping[str, str] = field(default_factory=dict)  # endings of old names -> today's endings
    other_prefixes: tuple[str, ...] = ()  # that stand in the prefix's place in some checkpoints
    halves: Mapping[str, int] = field(default_factory=dict)  # our modules of a layer that are half 0 or 1 of theirs
    # Returns config.json's values under the keys that `settings` names, where it is not that simple, as other values
    # than JSON has, too. Raises ValueError with what cannot be run, in the words of config.json.
    read: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict
    own_code: tuple[str, ...] = ()  # beginnings of classes in checkpoints' own code that compute what this family does
    own_encoders: tuple[str, ...] = ()  # classes of modules of their own code that are the encoder, in modules.json
    # Settings by which this family is known from the one whose model_type it has -> the values that say so
    marks: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    model_type: str = ""  # of that other family
    # Weights that are not laid out as ours are: our name -> what makes ours of the checkpoint's.
    arranged: Mapping[str, Callable[[Tensor], Tensor]] = field(default_factory=dict)
    # The SentencePiece model that transformers looks for without tokenizer.json; "" for other vocabularies
    sentencepiece: str = ""

    def is_of(self, values: Mapping[str, Any]) -> bool:
        """Return whether config.json's values are of this family, or else of one with the same model_type."""
        if values.get("model_type") != (self.model_type or self.name):
            return False
        return all(values.get(key) in known for key, known in self.marks.items())

    @property
    def pooler_weight(self) -> str:
        """Return the name of the pooler's matrix; "" where the family has no pooler."""
        return f"{self.modules[_POOLER][0]}.weight" if _POOLER in self.modules else ""

    def has_pooler(self, names: Collection[str]) -> bool:
        """Return whether any of these weights, by the checkpoint's names without the prefix, is a pooler's."""
        theirs = self.modules.get(_POOLER, ())
        return any(name.startswith(tuple(f"{each}." for each in theirs)) for name in names)

    def sources(self, name: str, place: Callable[[int], tuple[int, ...]] = _own_place) -> tuple[str, ...]:
        """Return the checkpoint's weights that one of ours, such as "layers.3.feed_forward.output.bias", is made of.

        place: the shape's.
        """
        module, _, part = name.rpartition(".")
        found, of_layers = _OF_LAYER.fullmatch(module), {**self.layer, **self.cross_attention}
        if found and found[2] in of_layers:
            prefix, theirs = self.layer_prefix.format(*place(int(found[1]))), of_layers[found[2]]
        else:  # what a single layer has is named as if it belonged to none
            prefix, theirs = "", self.modules[found[2] if found else module]
        return tuple(f"{prefix}{each}.{part}" for each in theirs)

    def half(self, name: str) -> int | None:
        """Return which half of its sources one of our weights is; None where it is all of them."""
        found = _OF_LAYER.fullmatch(name.rpartition(".")[0])
        return self.halves.get(found[2]) if found else None

    def is_cross_attention(self, name: str) -> bool:
        """Return whether this weight belongs to a decoder's attention to an encoder."""
        return any(f".{part}." in name for parts in self.cross_attention.values() for part in parts)


def and_causal(heads: tuple[Head, ...]) -> tuple[Head, ...]:
    """Add to a family's heads the one that generates.

    It has the weights of the head over an encoder's vocabulary, which comes first.
    """
    return (*heads, replace(heads[0], name="causal_lm", classes=CAUSAL, by_weights=False))
