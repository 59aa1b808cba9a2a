"""Make tiny random checkpoints with transformers, of odd sizes, so that nothing works by luck."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import (
    ByteLevelBPETokenizer,
    SentencePieceUnigramTokenizer,
    Tokenizer,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from tokenizers.models import WordPiece
from transformers import (
    AlbertConfig,
    AlbertTokenizer,
    BertConfig,
    BertTokenizer,
    CamembertConfig,
    CamembertTokenizer,
    DebertaV2Config,
    DebertaV2Tokenizer,
    DistilBertConfig,
    DistilBertTokenizer,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    MPNetTokenizer,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaTokenizer,
    XLMRobertaConfig,
    XLMRobertaTokenizer,
)

CORPUS = (
    "The quick brown fox jumps over the lazy dog, and then it sleeps in the sun for a while.",
    "A model server answers questions about words, sentences and whole pages of text.",
    "Der schnelle braune Fuchs springt über den faulen Hund und schläft danach in der Sonne.",
    "Größere Straßen führen manchmal über ähnliche Brücken; das überrascht niemanden mehr.",
    "敏捷的棕色狐狸跳过了懒狗。今天天气很好，我们去公园散步。",
    "الثعلب البني السريع يقفز فوق الكلب الكسول. الطقس جميل اليوم.",
    "Emoji are words too: 😀 🎉 👍🏽 🚀 and so is café, naïve, Ångström.",
)
# Short and long texts, in several scripts, empty ones, and some without a known word.
TEXTS = (*CORPUS, "", " ", "fox", "a b", "\u2603\u2602 \u16a0\u16a1", "x" * 300, "word " * 700, "The quick brown fox")

BERT_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MPNET_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>")
_ROLES = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
ROBERTA_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
ALBERT_SPECIAL = ("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")
DEBERTA_SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
DEBERTA_V3: dict[str, Any] = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 20,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
    "position_biased_input": False,
}
_SIZES = {"hidden_size": 36, "num_hidden_layers": 5, "num_attention_heads": 3, "intermediate_size": 70}


def tiny_bert(directory: Path, *, lowercase: bool = True, architecture: str = "BertModel", **config: Any) -> Path:
    """Make a BERT of 5 layers x 36 x 3 heads with a WordPiece tokenizer; `config` overrides config.json's values."""
    vocabulary = _wordpiece(lowercase)
    sizes = _SIZES | {"vocab_size": _odd(len(vocabulary)), "max_position_embeddings": 512, "pad_token_id": 0}
    save_random_model(directory, architecture, BertConfig(**(sizes | config)))
    BertTokenizer(vocab=vocabulary, do_lower_case=lowercase, model_max_length=512).save_pretrained(directory)
    return directory


def tiny_roberta(directory: Path, *, pad_id: int = 1, architecture: str = "RobertaModel", **config: Any) -> Path:
    """Make a RoBERTa of the same odd sizes with a byte-level BPE tokenizer, whose pad token has the id `pad_id`."""
    special = [token for token in ROBERTA_SPECIAL if token != "<pad>"]
    special += [f"<unused{i}>" for i in range(max(0, pad_id - len(special)))]
    special.insert(pad_id, "<pad>")
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(CORPUS, vocab_size=411, special_tokens=special, show_progress=False)
    model = json.loads(tokenizer.to_str())["model"]
    first, last = model["vocab"]["<s>"], model["vocab"]["</s>"]
    sizes = _roberta_sizes(len(model["vocab"]), pad_id=pad_id, bos_token_id=first, eos_token_id=last)
    save_random_model(directory, architecture, RobertaConfig(**{**sizes, **config}))
    merges: Any = [tuple(pair) for pair in model["merges"]]
    RobertaTokenizer(vocab=model["vocab"], merges=merges, model_max_length=512).save_pretrained(directory)
    return directory


def tiny_distilbert(directory: Path, *, architecture: str = "DistilBertModel", **config: Any) -> Path:
    """Make a DistilBERT of the same odd sizes, which has neither segments nor a pooler."""
    vocabulary = _wordpiece(True)
    sizes = {"dim": 36, "n_layers": 5, "n_heads": 3, "hidden_dim": 70, "vocab_size": _odd(len(vocabulary))}
    save_random_model(directory, architecture, DistilBertConfig(**(sizes | config)))
    DistilBertTokenizer(vocab=vocabulary, model_max_length=512).save_pretrained(directory)
    return directory


def tiny_electra(directory: Path, *, architecture: str = "ElectraModel", **config: Any) -> Path:
    """Make an ELECTRA of the same odd sizes, whose embeddings are narrower than its layers."""
    vocabulary = _wordpiece(True)
    sizes = _SIZES | {"vocab_size": _odd(len(vocabulary)), "embedding_size": 20}
    save_random_model(directory, architecture, ElectraConfig(**(sizes | config)))
    BertTokenizer(vocab=vocabulary, model_max_length=512).save_pretrained(directory)
    return directory


def tiny_mpnet(directory: Path, *, architecture: str = "MPNetModel", **config: Any) -> Path:
    """Make an MPNet of the same odd sizes, with WordPiece between RoBERTa's special tokens."""
    vocabulary = _wordpiece(True, MPNET_SPECIAL)
    sizes = _SIZES | {"vocab_size": _odd(len(vocabulary)), "max_position_embeddings": 514, "layer_norm_eps": 1e-5}
    save_random_model(directory, architecture, MPNetConfig(**(sizes | config)))
    MPNetTokenizer(vocab=vocabulary, model_max_length=512).save_pretrained(directory)
    return directory


def tiny_modernbert(directory: Path, *, architecture: str = "ModernBertModel", **config: Any) -> Path:
    """Make a ModernBERT of 4 layers of odd sizes, the second and third of which see 5 tokens before and after each.

    Its tokenizer is byte-level BPE between BERT's special tokens, as the public one's.
    """
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(CORPUS, vocab_size=411, special_tokens=list(BERT_SPECIAL), show_progress=False)
    ids = {token: tokenizer.token_to_id(token) for token in BERT_SPECIAL}
    sizes = _SIZES | {"num_hidden_layers": 4, "vocab_size": _odd(tokenizer.get_vocab_size()), "local_attention": 11}
    special = {f"{role}_token_id": ids[token] for role, token in _ROLES.items() if role not in ("unk", "mask")}
    config = {"bos_token_id": None, "eos_token_id": None, "max_position_embeddings": 512, **special, **config}
    save_random_model(directory, architecture, ModernBertConfig(**(sizes | config)))
    tokenizer.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B [SEP]", [(token, ids[token]) for token in ("[CLS]", "[SEP]")]
    )
    inner: Any = Tokenizer.from_str(tokenizer.to_str())
    settings = {f"{role}_token": token for role, token in _ROLES.items()}
    inputs = ["input_ids", "attention_mask"]
    make: Any = PreTrainedTokenizerFast  # whose constructor has no annotations
    make(tokenizer_object=inner, model_max_length=512, model_input_names=inputs, **settings).save_pretrained(directory)
    return directory


def tiny_nomic_bert(directory: Path, *, architecture: str = "NomicBertModel", **config: Any) -> Path:
    """Make a NomicBERT of 3 layers of odd sizes."""
    vocabulary = _wordpiece(True)
    sizes = _SIZES | {"num_hidden_layers": 3, "vocab_size": _odd(len(vocabulary)), "max_position_embeddings": 512}
    save_random_model(directory, architecture, transformers.NomicBertConfig(**(sizes | config)))
    BertTokenizer(vocab=vocabulary, model_max_length=512).save_pretrained(directory)
    return directory


def tiny_gte(directory: Path, *, architecture: str = "GteModel", **config: Any) -> Path:
    """Make a GTE of 3 layers of odd sizes, with XLM-RoBERTa's tokenizer."""
    pieces = [*((token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")), *_unigram(), ("<mask>", 0.0)]
    sizes = _SIZES | {"num_hidden_layers": 3, "vocab_size": _odd(len(pieces)), "max_position_embeddings": 512}
    save_random_model(directory, architecture, transformers.GteConfig(**(sizes | config)))
    XLMRobertaTokenizer(vocab=pieces, model_max_length=512).save_pretrained(directory)
    return directory


def tiny_deberta(directory: Path, *, architecture: str = "DebertaV2Model", **config: Any) -> Path:
    """Make a DeBERTa of the same odd sizes with a Unigram tokenizer, with the third version's settings."""
    pieces = [*((token, 0.0) for token in DEBERTA_SPECIAL), *_unigram(), ("[MASK]", 0.0)]
    sizes = _SIZES | DEBERTA_V3 | {"vocab_size": _odd(len(pieces)), "max_position_embeddings": 512}
    save_random_model(directory, architecture, DebertaV2Config(**(sizes | config)))
    DebertaV2Tokenizer(vocab=pieces, model_max_length=512).save_pretrained(directory)
    return directory


def tiny_albert(directory: Path, *, architecture: str = "AlbertModel", **config: Any) -> Path:
    """Make an ALBERT of the same odd sizes with a Unigram tokenizer, whose layers take turns: 1 1 1 2 2."""
    pieces = [*((token, 0.0) for token in ALBERT_SPECIAL), *_unigram()]
    sizes = _SIZES | {"vocab_size": _odd(len(pieces)), "embedding_size": 20, "num_hidden_groups": 2}
    save_random_model(directory, architecture, AlbertConfig(**(sizes | config)))
    AlbertTokenizer(vocab=pieces, model_max_length=512).save_pretrained(directory)
    return directory


def tiny_xlm_roberta(directory: Path, *, architecture: str = "XLMRobertaModel", **config: Any) -> Path:
    """Make an XLM-RoBERTa of the same odd sizes with a Unigram tokenizer, `<mask>` last as in the public ones."""
    pieces = [*((token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")), *_unigram(), ("<mask>", 0.0)]
    sizes = _roberta_sizes(len(pieces), bos_token_id=0, eos_token_id=2)
    save_random_model(directory, architecture, XLMRobertaConfig(**(sizes | config)))
    XLMRobertaTokenizer(vocab=pieces, model_max_length=512).save_pretrained(directory)
    return directory


def tiny_camembert(directory: Path, *, architecture: str = "CamembertModel", **config: Any) -> Path:
    """Make a CamemBERT of the same odd sizes, with the ids that the public one's history gave its special tokens."""
    unused = ("<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>")
    pieces = [*((token, 0.0) for token in unused), *_unigram(), ("<mask>", 0.0)]
    sizes = _roberta_sizes(len(pieces), bos_token_id=5, eos_token_id=6)
    save_random_model(directory, architecture, CamembertConfig(**(sizes | config)))
    CamembertTokenizer(vocab=pieces, model_max_length=512).save_pretrained(directory)
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
    """Add the files that sentence-transformers writes.

    pooling: the content of 1_Pooling/config.json. modules: more module types.
    """
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
    removed = {key for key, value in changes.items() if value is None}
    write_json(path, {key: value for key, value in values.items() if key not in removed})


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def _odd(size: int) -> int:
    """Return a size near this one that no kernel's tile divides."""
    return size + 3 if (size + 3) % 8 else size + 5


def _roberta_sizes(pieces: int, *, pad_id: int = 1, **ids: int) -> dict[str, Any]:
    return _SIZES | ids | {
        "vocab_size": _odd(pieces),
        "max_position_embeddings": 512 + pad_id + 1,
        "type_vocab_size": 1,
        "pad_token_id": pad_id,
        "layer_norm_eps": 1e-5,
    }  # fmt: skip


@functools.cache
def _unigram() -> tuple[tuple[str, float], ...]:
    """Return pieces with their scores, without special tokens."""
    tokenizer = SentencePieceUnigramTokenizer()
    tokenizer.train_from_iterator(CORPUS, vocab_size=300, unk_token="<unk>", special_tokens=["<unk>"])
    return tuple(
        (piece, score) for piece, score in json.loads(tokenizer.to_str())["model"]["vocab"] if piece != "<unk>"
    )


@functools.cache
def _wordpiece(lowercase: bool, special: tuple[str, ...] = BERT_SPECIAL) -> dict[str, int]:
    tokenizer = Tokenizer(WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # Of pairs that are as frequent the one with the lower ids is joined. Those of letters within words would come in
    # any order, and each run of the tests would have other tokens.
    known = [*special, *_letters_within_words(tokenizer)]
    tokenizer.train_from_iterator(
        CORPUS, trainers.WordPieceTrainer(vocab_size=404, special_tokens=known, show_progress=False)
    )
    return tokenizer.get_vocab()


def _letters_within_words(tokenizer: Tokenizer) -> list[str]:
    words = (
        word
        for text in CORPUS
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(tokenizer.normalizer.normalize_str(text))
    )
    return sorted({f"##{letter}" for word in words for letter in word[1:]})


def save_random_model(directory: Path, architecture: str, config: Any, noise: float = 0.15) -> None:
    """Save transformers' class of that name with random weights, the same ones each time."""
    torch.manual_seed(7)
    model = getattr(transformers, architecture)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            # transformers' own random weights are so small that every attention is nearly uniform.
            parameter.add_(torch.randn_like(parameter) * noise)
    model.save_pretrained(directory)
