"""Tiny random checkpoints, written by transformers, of odd sizes so that nothing works by luck."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import ByteLevelBPETokenizer, Tokenizer, normalizers, pre_tokenizers, trainers
from tokenizers.models import WordPiece
from transformers import BertConfig, BertTokenizer, RobertaConfig, RobertaTokenizer

CORPUS = (
    "The quick brown fox jumps over the lazy dog, and then it sleeps in the sun for a while.",
    "A model server answers questions about words, sentences and whole pages of text.",
    "Der schnelle braune Fuchs springt über den faulen Hund und schläft danach in der Sonne.",
    "Größere Straßen führen manchmal über ähnliche Brücken; das überrascht niemanden mehr.",
    "敏捷的棕色狐狸跳过了懒狗。今天天气很好，我们去公园散步。",
    "الثعلب البني السريع يقفز فوق الكلب الكسول. الطقس جميل اليوم.",
    "Emoji are words too: 😀 🎉 👍🏽 🚀 and so is café, naïve, Ångström.",
)
# Short and long, in several scripts, with nothing in it and with nothing known in it.
TEXTS = (*CORPUS, "", " ", "fox", "a b", "\u2603\u2602 \u16a0\u16a1", "x" * 300, "word " * 700, "The quick brown fox")

BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
ROBERTA_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_SIZES = {"hidden_size": 36, "num_hidden_layers": 5, "num_attention_heads": 3, "intermediate_size": 70}


def tiny_bert(directory: Path, *, lowercase: bool = True, architecture: str = "BertModel", **config: Any) -> Path:
    """A BERT of 5 layers x 36 x 3 heads with a WordPiece tokenizer; `config` overrides config.json's values."""
    vocabulary = _wordpiece(lowercase)
    sizes = _SIZES | {"vocab_size": _odd(len(vocabulary)), "max_position_embeddings": 512, "pad_token_id": 0}
    _save_model(directory, architecture, BertConfig(**(sizes | config)))
    BertTokenizer(vocab=vocabulary, do_lower_case=lowercase, model_max_length=512).save_pretrained(directory)
    return directory


def tiny_roberta(directory: Path, *, pad_id: int = 1, architecture: str = "RobertaModel", **config: Any) -> Path:
    """A RoBERTa of the same odd sizes with a byte-level BPE tokenizer, whose pad token has the id `pad_id`."""
    special = [token for token in ROBERTA_SPECIAL if token != "<pad>"]
    special += [f"<unused{i}>" for i in range(max(0, pad_id - len(special)))]
    special.insert(pad_id, "<pad>")
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(CORPUS, vocab_size=411, special_tokens=special, show_progress=False)
    model = json.loads(tokenizer.to_str())["model"]
    sizes: dict[str, Any] = _SIZES | {
        "vocab_size": _odd(len(model["vocab"])),
        "max_position_embeddings": 512 + pad_id + 1,
        "type_vocab_size": 1,
        "pad_token_id": pad_id,
        "bos_token_id": model["vocab"]["<s>"],
        "eos_token_id": model["vocab"]["</s>"],
        "layer_norm_eps": 1e-5,
    }
    _save_model(directory, architecture, RobertaConfig(**{**sizes, **config}))
    merges: Any = [tuple(pair) for pair in model["merges"]]
    RobertaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=512).save_pretrained(directory)
    return directory


def sentence_files(
    directory: Path,
    *,
    pooling: dict[str, Any] | None = None,
    normalize: bool = True,
    settings: dict[str, Any] | None = None,
    prompts: dict[str, Any] | None = None,
    modules: tuple[str, ...] = (),
) -> Path:
    """Add what sentence-transformers writes; `pooling` is 1_Pooling/config.json, `modules` more module types."""
    types = ["Transformer", "Pooling", *modules, *(["Normalize"] if normalize else [])]
    listed = [
        {
            "idx": i,
            "name": str(i),
            "path": "" if i == 0 else f"{i}_{kind}",
            "type": f"sentence_transformers.models.{kind}",
        }
        for i, kind in enumerate(types)
    ]
    write_json(directory / "modules.json", listed)
    write_json(directory / "1_Pooling" / "config.json", pooling or {"pooling_mode_mean_tokens": True})
    write_json(directory / "sentence_bert_config.json", settings or {"max_seq_length": 128, "do_lower_case": False})
    write_json(directory / "config_sentence_transformers.json", prompts or {})
    return directory


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON object; None removes one."""
    values = json.loads(path.read_text(encoding="utf-8")) | changes
    write_json(path, {key: value for key, value in values.items() if value is not None})


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _odd(size: int) -> int:
    """A vocabulary that no kernel's tile divides."""
    return size + 3 if (size + 3) % 8 else size + 5


@functools.cache  # training breaks ties by chance, and one run should have one tokenizer
def _wordpiece(lowercase: bool) -> dict[str, int]:
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=404, special_tokens=list(BERT_SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer.get_vocab()


def _save_model(directory: Path, architecture: str, config: Any) -> None:
    torch.manual_seed(7)
    model = getattr(transformers, architecture)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # transformers' own random weights are so small that every attention is nearly uniform.
            parameter.add_(torch.randn_like(parameter) * 0.15)
    model.save_pretrained(directory)
