"""The families' task heads: what they call their weights, and which classes have them. A new head is a new row here.

Source of the names: the checkpoints on the Hugging Face hub, as transformers reads and writes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True, slots=True)
class Head:
    """One head of one family. Names in a checkpoint on the right, ours on the left."""

    name: str  # one of contract.HeadName
    classes: tuple[str, ...]  # what the names of the classes that have it end with
    modules: Mapping[str, str]  # with a weight and a bias each
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


_MASKED = ("ForMaskedLM",)
CAUSAL = ("LMHeadModel", "ForCausalLM")
_PRE_TRAINING = ("ForPreTraining",)

_TOKENS = Head("token_classification", ("ForTokenClassification",), {"output": "classifier"})
_ANSWERS = Head("question_answering", ("ForQuestionAnswering",), {"output": "qa_outputs"}, outputs=2)
_POOLED_TEXTS = Head(
    "sequence_classification", ("ForSequenceClassification",), {"output": "classifier"}, reads_pooler=True
)
_POOLED_CHOICES = Head(
    "multiple_choice", ("ForMultipleChoice",), {"output": "classifier"}, outputs=1, reads_pooler=True
)
# RoBERTa has two layers of its own where BERT has the pooler and one.
_TEXTS = replace(
    _POOLED_TEXTS,
    modules={"dense": "classifier.dense", "output": "classifier.out_proj"},
    reads_pooler=False,
    activation="tanh",
)

_BERT = (
    Head(
        "fill_mask",
        _MASKED + _PRE_TRAINING,
        {"dense": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm"},
        vocabulary_matrix="cls.predictions.decoder.weight",
        vocabulary_biases=("cls.predictions.decoder.bias", "cls.predictions.bias"),
        by_weights=True,
        activation_setting="hidden_act",
    ),
    Head(
        "next_sentence",
        ("ForNextSentencePrediction", *_PRE_TRAINING),
        {"output": "cls.seq_relationship"},
        by_weights=True,
        outputs=2,
        reads_pooler=True,
    ),
    _POOLED_TEXTS,
    _TOKENS,
    _ANSWERS,
    _POOLED_CHOICES,
)

_ROBERTA = (
    Head(
        "fill_mask",
        _MASKED,
        {"dense": "lm_head.dense", "norm": "lm_head.layer_norm"},
        vocabulary_matrix="lm_head.decoder.weight",
        vocabulary_biases=("lm_head.decoder.bias", "lm_head.bias"),
        by_weights=True,
        activation="gelu",
    ),
    _TEXTS,
    _TOKENS,
    _ANSWERS,
    _POOLED_CHOICES,
)

_DISTILBERT_LAYERS = {"dense": "pre_classifier", "output": "classifier"}

_DISTILBERT = (
    Head(
        "fill_mask",
        _MASKED,
        {"dense": "vocab_transform", "norm": "vocab_layer_norm"},
        vocabulary_matrix="vocab_projector.weight",
        vocabulary_biases=("vocab_projector.bias",),
        by_weights=True,
        activation_setting="activation",
    ),
    replace(_TEXTS, modules=_DISTILBERT_LAYERS, activation="relu"),
    _TOKENS,
    _ANSWERS,
    replace(_POOLED_CHOICES, modules=_DISTILBERT_LAYERS, reads_pooler=False, activation="relu"),
)

_ELECTRA = (
    Head(
        "fill_mask",
        _MASKED,
        {"dense": "generator_predictions.dense", "norm": "generator_predictions.LayerNorm"},
        vocabulary_matrix="generator_lm_head.weight",
        vocabulary_biases=("generator_lm_head.bias",),
        by_weights=True,
        activation="gelu",
    ),
    replace(_TEXTS, activation="gelu"),
    _TOKENS,
    _ANSWERS,
    replace(
        _POOLED_CHOICES,
        modules={"dense": "sequence_summary.summary", "output": "classifier"},
        reads_pooler=False,
        activation="gelu",
        activation_setting="summary_activation",
        harmless={
            "summary_type": ("first",),
            "summary_use_proj": (True,),
            "summary_proj_to_labels": (False, None),
        },
    ),
)


def _and_causal(heads: tuple[Head, ...]) -> tuple[Head, ...]:
    """A decoder's head over the vocabulary has the weights of an encoder's."""
    return (*heads, replace(heads[0], name="causal_lm", classes=CAUSAL, by_weights=False))


# By family, in the order in which they are described.
HEADS: dict[str, tuple[Head, ...]] = {
    "bert": _and_causal(_BERT),
    "roberta": _and_causal(_ROBERTA),
    "xlm-roberta": _and_causal(_ROBERTA),
    "camembert": _and_causal(_ROBERTA),
    "distilbert": _DISTILBERT,
    "electra": _and_causal(_ELECTRA),
}
