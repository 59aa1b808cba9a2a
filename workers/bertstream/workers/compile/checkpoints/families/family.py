"""What a family of encoders is: all that is particular to it, as data."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from bertstream.workers.compile.checkpoints.tokenizer_classes import TokenizerClass
from bertstream.workers.models import BertShape, EncoderShape

# What the names of the classes that generate end with.
CAUSAL = ("LMHeadModel", "ForCausalLM")
_POOLER = "pooler.dense"
_OF_LAYER = re.compile(r"layers\.(\d+)\.(.+)")


@dataclass(frozen=True, slots=True)
class Head:
    """One head of one family. Names in a checkpoint on the right, ours on the left."""

    name: str  # one of contract.HeadName
    classes: tuple[str, ...]  # what the names of the classes that have it end with
    modules: Mapping[str, str]  # with a weight and a bias each
    kind: str = "linear"  # one of models.HEAD_KINDS
    vocabulary_matrix: str = ""  # of fill_mask; may be left out where it is the embeddings' own
    vocabulary_biases: tuple[str, ...] = ()  # the first that is there counts
    by_weights: bool = False  # a checkpoint of any class has it if it has the weights, which mean nothing else
    outputs: int = 0  # 0: one for each of the config's labels
    reads_pooler: bool = False
    activation: str = ""  # after the dense layer; "" for none
    activation_setting: str = ""  # config.json's key that may say another
    # Settings that change the numbers in ways we do not compute: key -> the values that change nothing.
    harmless: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def has_labels(self) -> bool:
        return not self.vocabulary_matrix and not self.outputs


@dataclass(frozen=True, slots=True)
class Family:
    """All that is particular to a family of encoders.

    Names in a checkpoint on the right, those of our encoder's modules on the left. A tuple of several is joined, first
    axis first.
    """

    name: str  # config.json's model_type
    prefix: str  # before the encoder's weights in checkpoints that have a head
    settings: Mapping[str, str]  # our setting -> config.json's key
    defaults: Mapping[str, Any]  # config.json's keys that old checkpoints leave out -> transformers' default
    modules: Mapping[str, tuple[str, ...]]  # but for those of layers
    layer: Mapping[str, tuple[str, ...]]  # below layer_prefix
    layer_prefix: str  # with {} for the layer's number, from 0
    heads: tuple[Head, ...]  # in the order in which they are described
    head_prefixes: tuple[str, ...]  # weights of task heads, which the encoder does without
    tokenizer_class: str  # of transformers, where no file names one, without the "Fast" of version 4
    tokenizer: TokenizerClass  # what that class does
    shape: type[EncoderShape] = BertShape  # which says the architecture
    # Of a decoder that attends to an encoder, below layer_prefix too; empty where the family has no decoders.
    cross_attention: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    fixed: Mapping[str, Any] = field(default_factory=dict)  # our settings that config.json has no say in
    buffers: tuple[str, ...] = ("embeddings.position_ids", "embeddings.token_type_ids")  # not weights
    renamed: Mapping[str, str] = field(default_factory=dict)  # endings of old names -> today's
    sentencepiece: bool = False  # its vocabulary is a SentencePiece model, where there is no tokenizer.json

    @property
    def pooler_weight(self) -> str:
        """The name of the pooler's matrix; "" where the family has none."""
        return f"{self.modules[_POOLER][0]}.weight" if _POOLER in self.modules else ""

    def has_pooler(self, names: Collection[str]) -> bool:
        """Tell whether any of these weights, by the checkpoint's names without the prefix, is a pooler's."""
        theirs = self.modules.get(_POOLER, ())
        return any(name.startswith(tuple(f"{each}." for each in theirs)) for name in names)

    def sources(self, name: str) -> tuple[str, ...]:
        """Name what one of our encoder's weights, such as "layers.3.feed_forward.output.bias", is made of."""
        module, _, part = name.rpartition(".")
        if found := _OF_LAYER.fullmatch(module):
            prefix, theirs = self.layer_prefix.format(found[1]), {**self.layer, **self.cross_attention}[found[2]]
        else:
            prefix, theirs = "", self.modules[module]
        return tuple(f"{prefix}{each}.{part}" for each in theirs)

    def is_cross_attention(self, name: str) -> bool:
        """Whether this is a weight of a decoder's attention to an encoder."""
        return any(f".{part}." in name for parts in self.cross_attention.values() for part in parts)


def and_causal(heads: tuple[Head, ...]) -> tuple[Head, ...]:
    """Of a family with decoders, whose head over the vocabulary has the weights of an encoder's, which is the first."""
    return (*heads, replace(heads[0], name="causal_lm", classes=CAUSAL, by_weights=False))
