"""tokenizer.json and what stands beside it: special tokens, the side to cut, the maximum length."""

from __future__ import annotations

import importlib.util
import json
import tempfile
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bertstream.workers.checkpoints.errors import CheckpointError
from bertstream.workers.checkpoints.files import read_object

FILE_NAME = "tokenizer.json"
ROLES = ("cls", "sep", "pad", "mask", "unk", "bos", "eos")
_BERT_TOKENS = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]", "unk": "[UNK]"}
_ROBERTA_TOKENS = {
    "cls": "<s>", "sep": "</s>", "pad": "<pad>", "mask": "<mask>", "unk": "<unk>", "bos": "<s>", "eos": "</s>",
}  # fmt: skip
# What transformers' tokenizer classes take where no file says.
DEFAULT_TOKENS = {
    **dict.fromkeys(("bert", "distilbert", "electra"), _BERT_TOKENS),
    **dict.fromkeys(("roberta", "xlm-roberta", "camembert"), _ROBERTA_TOKENS),
}
# tokenizer_config.json's settings that transformers puts above tokenizer.json's: key -> where, in which kind of part.
_OVERRIDES = {
    "do_lower_case": ("normalizer", "BertNormalizer", "lowercase"),
    "strip_accents": ("normalizer", "BertNormalizer", "strip_accents"),
    "tokenize_chinese_chars": ("normalizer", "BertNormalizer", "handle_chinese_chars"),
    "add_prefix_space": ("pre_tokenizer", "ByteLevel", "add_prefix_space"),
}
# The families whose vocabulary is a SentencePiece model, which transformers looks for under this one name.
_SENTENCEPIECE_FAMILIES, _SENTENCEPIECE_NAME = ("xlm-roberta", "camembert"), "sentencepiece.bpe.model"
# transformers makes a tokenizer of nothing but special tokens where it does not find the file that it looks for.
_FEWEST_TOKENS = 16
# transformers writes 1e30 for "no limit".
_SANE_LENGTH = 1 << 20


@dataclass(frozen=True, slots=True)
class TokenizerSettings:
    """The tokenizer, ready to be saved, and what callers need to know of it."""

    definition: dict[str, Any]  # tokenizer.json without truncation and padding, which are the caller's to choose
    special_tokens: dict[str, tuple[str, int]]
    truncation_side: str
    model_max_length: int  # 0: not set
    highest_id: int
    clean_up_spaces: bool = False  # in decoded texts

    def save(self, directory: Path) -> None:
        """Write tokenizer.json into `directory`."""
        text = json.dumps(self.definition, ensure_ascii=False)
        (directory / FILE_NAME).write_text(text, encoding="utf-8")


def read_tokenizer(directory: Path, family: str) -> TokenizerSettings:
    """Read tokenizer.json, or have transformers build it from the vocabulary files. Raises CheckpointError."""
    settings = read_object(directory / "tokenizer_config.json")
    definition = read_object(directory / FILE_NAME) or _built_by_transformers(directory, family)
    ids = _ids(definition, directory)
    _apply_overrides(definition, settings)
    named = read_object(directory / "special_tokens_map.json") | settings
    length = settings.get("model_max_length")
    return TokenizerSettings(
        definition=definition | {"truncation": None, "padding": None},
        special_tokens=_special_tokens(named, DEFAULT_TOKENS.get(family, {}), ids),
        truncation_side="left" if settings.get("truncation_side") == "left" else "right",
        model_max_length=int(length) if isinstance(length, int | float) and 0 < length < _SANE_LENGTH else 0,
        highest_id=max(ids.values(), default=0),
        clean_up_spaces=_cleans_up(definition["model"], settings),
    )


def _ids(definition: Mapping[str, Any], directory: Path) -> dict[str, int]:
    """Every token's id."""
    try:
        vocabulary = definition["model"]["vocab"]
        if not isinstance(vocabulary, dict):  # Unigram: pairs of token and score, in the order of ids
            vocabulary = {token: id for id, (token, _) in enumerate(vocabulary)}
        return vocabulary | {token["content"]: token["id"] for token in definition.get("added_tokens") or ()}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{directory / FILE_NAME} is not a tokenizer of the tokenizers library") from error


def _apply_overrides(definition: dict[str, Any], settings: Mapping[str, Any]) -> None:
    for key, (part, kind, name) in _OVERRIDES.items():
        found = definition.get(part)
        if key in settings and isinstance(found, dict) and found.get("type") == kind:
            found[name] = settings[key]


def _cleans_up(model: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Not unless it is set; and of BPE, whose spaces are the text's own, not without a second setting."""
    is_bpe = model.get("type") == "BPE" or "merges" in model  # old files do not name their type
    forced = settings.get("clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output")
    return bool(settings.get("clean_up_tokenization_spaces") and (forced or not is_bpe))


def _special_tokens(
    named: Mapping[str, Any], defaults: Mapping[str, str], ids: Mapping[str, int]
) -> dict[str, tuple[str, int]]:
    tokens = {}
    for role in ROLES:
        token = named.get(f"{role}_token", defaults.get(role))
        content = token.get("content") if isinstance(token, dict) else token
        if isinstance(content, str) and content in ids:
            tokens[role] = (content, ids[content])
    return tokens


def _built_by_transformers(directory: Path, family: str) -> dict[str, Any]:
    options = _vocabulary(directory, family)
    try:
        from transformers import AutoTokenizer  # slow to import, and few checkpoints need it
    except ImportError as error:
        raise CheckpointError(
            f"{directory} has no {FILE_NAME}, and transformers, which would build it, is not installed"
        ) from error
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # transformers' own, about itself
            built = AutoTokenizer.from_pretrained(directory, use_fast=True, trust_remote_code=False, **options)
            built.save_pretrained(folder)
            definition = read_object(Path(folder) / FILE_NAME)
    except Exception as error:  # transformers raises whatever its tokenizer classes do
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{directory} has no {FILE_NAME}, and none could be built: {reason}") from error
    if len(_ids(definition, directory)) < _FEWEST_TOKENS:
        raise CheckpointError(
            f"{directory} has no {FILE_NAME}, and none of the vocabulary files that {family} tokenizers are made from"
        )
    return definition


def _vocabulary(directory: Path, family: str) -> dict[str, str]:
    """What transformers must be told of the vocabulary's files. Raises CheckpointError where it would go wrong."""
    models = sorted(directory.glob("*.model"))
    has_text, has_json = ((directory / name).exists() for name in ("vocab.txt", "vocab.json"))
    if not (has_text or has_json or models):
        raise CheckpointError(
            f"{directory} has no tokenizer: neither {FILE_NAME}, nor vocab.txt, nor vocab.json, nor a *.model"
        )
    if has_json and not has_text and not models and not (directory / "merges.txt").exists():
        raise CheckpointError(f"{directory} has vocab.json, but not the merges.txt that belongs to it")
    if not models or family not in _SENTENCEPIECE_FAMILIES:
        return {}
    if importlib.util.find_spec("sentencepiece") is None:
        raise CheckpointError(
            f"{directory} has no {FILE_NAME}, and sentencepiece, with which {models[0].name} is read, is not installed"
        )
    named = any(model.name == _SENTENCEPIECE_NAME for model in models)
    return {} if named else {"vocab_file": str(models[0])}
