"""Describe BERT, with the names that later families have kept.

Source of the names, here and in the other families: the checkpoints on the Hugging Face hub, as transformers reads and
writes them.
"""

from __future__ import annotations

from bertstream.workers.compile.checkpoints.families.family import Family, Head, and_causal
from bertstream.workers.compile.checkpoints.tokenizer_classes import BERT_TOKENIZER

SETTINGS = {
    "vocabulary_size": "vocab_size",
    "hidden_size": "hidden_size",
    "layers": "num_hidden_layers",
    "attention_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "positions": "max_position_embeddings",
    "type_vocabulary_size": "type_vocab_size",
    "activation": "hidden_act",
    "layer_norm_eps": "layer_norm_eps",
}

DEFAULTS = {
    "vocab_size": 30522,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
}

EMBEDDINGS = {
    "embeddings.word": ("embeddings.word_embeddings",),
    "embeddings.position": ("embeddings.position_embeddings",),
    "embeddings.token_type": ("embeddings.token_type_embeddings",),
    "embeddings.norm": ("embeddings.LayerNorm",),
}

POOLER = {"pooler.dense": ("pooler.dense",)}

LAYER = {
    "query_key_value": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "attention_output.linear": ("attention.output.dense",),
    "attention_output": ("attention.output.LayerNorm",),
    "feed_forward.intermediate": ("intermediate.dense",),
    "feed_forward.output.linear": ("output.dense",),
    "feed_forward.output": ("output.LayerNorm",),
}

CROSS_ATTENTION = {
    "cross_attention.query": ("crossattention.self.query",),
    "cross_attention.key_value": ("crossattention.self.key", "crossattention.self.value"),
    "cross_attention.output.linear": ("crossattention.output.dense",),
    "cross_attention.output": ("crossattention.output.LayerNorm",),
}

# The first conversions from TensorFlow used these names for a norm's weight and bias.
OLD_NORM_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}

MASKED = ("ForMaskedLM",)
_PRE_TRAINING = ("ForPreTraining",)

TOKENS = Head("token_classification", ("ForTokenClassification",), {"output": "classifier"})
ANSWERS = Head("question_answering", ("ForQuestionAnswering",), {"output": "qa_outputs"}, outputs=2)
POOLED_TEXTS = Head(
    "sequence_classification", ("ForSequenceClassification",), {"output": "classifier"}, reads_pooler=True
)
POOLED_CHOICES = Head("multiple_choice", ("ForMultipleChoice",), {"output": "classifier"}, outputs=1, reads_pooler=True)

_HEADS = (
    Head(
        "fill_mask",
        MASKED + _PRE_TRAINING,
        {"dense": "cls.predictions.transform.dense", "norm": "cls.predictions.transform.LayerNorm"},
        kind="vocabulary",
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
    POOLED_TEXTS,
    TOKENS,
    ANSWERS,
    POOLED_CHOICES,
)

BERT = Family(
    name="bert",
    prefix="bert.",
    settings=SETTINGS,
    defaults=DEFAULTS,
    modules={**EMBEDDINGS, **POOLER},
    layer=LAYER,
    cross_attention=CROSS_ATTENTION,
    layer_prefix="encoder.layer.{}.",
    heads=and_causal(_HEADS),
    head_prefixes=("cls.", "classifier.", "qa_outputs."),
    renamed=OLD_NORM_NAMES,
    tokenizer_class="BertTokenizer",
    tokenizer=BERT_TOKENIZER,
)
