"""Make the tiny checkpoints that have task heads: for each family, one with each of its heads, and odd ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.checkpoints import (
    tiny_bert,
    tiny_camembert,
    tiny_distilbert,
    tiny_electra,
    tiny_gte,
    tiny_modernbert,
    tiny_mpnet,
    tiny_nomic_bert,
    tiny_roberta,
    tiny_xlm_roberta,
)

Maker = tuple[Callable[..., Path], dict[str, Any]]

# Family -> its maker, and the prefix of its classes' names.
FAMILIES: dict[str, tuple[Callable[..., Path], str]] = {
    "bert": (tiny_bert, "Bert"),
    "roberta": (tiny_roberta, "Roberta"),
    "xlm-roberta": (tiny_xlm_roberta, "XLMRoberta"),
    "camembert": (tiny_camembert, "Camembert"),
    "distilbert": (tiny_distilbert, "DistilBert"),
    "electra": (tiny_electra, "Electra"),
    "mpnet": (tiny_mpnet, "MPNet"),
    "modernbert": (tiny_modernbert, "ModernBert"),
}
# Those whose heads are BERT's and RoBERTa's: what is served of them differs in nothing but the program.
LIKE_BERT: dict[str, tuple[Callable[..., Path], str]] = {
    "nomic_bert": (tiny_nomic_bert, "NomicBert"),
    "gte": (tiny_gte, "Gte"),
}


def labels(*names: str) -> dict[str, Any]:
    """Return labels as config.json has them."""
    return {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}


TOPICS = labels("sport", "politics", "weather", "food")
ENTITIES = labels("O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG")
NLI = labels("contradiction", "entailment", "neutral")

# The last part of a checkpoint's name -> the ending of the class's name, and config.json's values.
HEADS: dict[str, tuple[str, dict[str, Any]]] = {
    "mlm": ("ForMaskedLM", {}),
    "classifier": ("ForSequenceClassification", TOPICS),
    "ner": ("ForTokenClassification", ENTITIES),
    "qa": ("ForQuestionAnswering", {}),
    "choice": ("ForMultipleChoice", {}),
}


def _maker(family: str, ending: str, config: dict[str, Any]) -> Maker:
    maker, beginning = (FAMILIES | LIKE_BERT)[family]
    return maker, {"architecture": beginning + ending, **config}


def _classifier(family: str, **config: Any) -> Maker:
    return _maker(family, "ForSequenceClassification", config)


# "bert-mlm", "xlm-roberta-ner", "distilbert-choice" and so on, and these:
HEAD_MAKERS: dict[str, Maker] = {
    **{f"{family}-{head}": _maker(family, *HEADS[head]) for family in FAMILIES for head in HEADS},
    "modernbert-mean": _maker("modernbert", "ForSequenceClassification", {**TOPICS, "classifier_pooling": "mean"}),
    "bert-pretraining": _maker("bert", "ForPreTraining", {}),
    "bert-nsp": _maker("bert", "ForNextSentencePrediction", {}),
    "bert-cased-mlm": _maker("bert", "ForMaskedLM", {"lowercase": False}),
    "bert-cased-ner": _maker("bert", "ForTokenClassification", {"lowercase": False, **ENTITIES}),
    "bert-untied-mlm": _maker("bert", "ForMaskedLM", {"tie_word_embeddings": False}),
    "roberta-untied-mlm": _maker("roberta", "ForMaskedLM", {"tie_word_embeddings": False}),
    "electra-wide-mlm": _maker("electra", "ForMaskedLM", {"embedding_size": 36}),
    "electra-discriminator": _maker("electra", "ForPreTraining", {}),
    "bert-multi-label": _classifier("bert", problem_type="multi_label_classification", **TOPICS),
    "roberta-multi-label": _classifier("roberta", problem_type="multi_label_classification", **TOPICS),
    "bert-regression": _classifier("bert", problem_type="regression", **labels("score")),
    "distilbert-regression": _classifier("distilbert", problem_type="regression", num_labels=2),
    "bert-nli": _classifier("bert", **NLI),
    "roberta-nli": _classifier("roberta", **NLI),
    # One label, written as sentence-transformers 4 and later do, as earlier releases do, and as neither does.
    "bert-cross-encoder": _classifier(
        "bert", sentence_transformers={"activation_fn": "torch.nn.modules.linear.Identity"}, **labels("LABEL_0")
    ),
    "roberta-cross-encoder": _classifier(
        "roberta",
        sbert_ce_default_activation_function="torch.nn.modules.activation.Sigmoid",
        **labels("LABEL_0"),
    ),
    "electra-cross-encoder": _classifier("electra", **labels("LABEL_0")),
}
LIKE_BERT_MAKERS: dict[str, Maker] = {
    f"{family}-{head}": _maker(family, *HEADS[head]) for family in LIKE_BERT for head in ("mlm", "classifier", "ner")
}
