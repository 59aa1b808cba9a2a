"""Say what transformers' tokenizer classes add to a tokenizer.json.

Source: the classes of transformers 4.57 and 5.24. Version 4 takes the file and sets some fields of it; version 5 takes
the vocabulary alone, and makes all else anew. docs/decisions/0022 says what is made of the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Definition = dict[str, Any]  # a tokenizer.json, as the tokenizers library writes it
Fields = dict[tuple[str, str], Any]  # (part, field) -> value

_BERT_TOKENS = {"cls": "[CLS]", "sep": "[SEP]", "pad": "[PAD]", "mask": "[MASK]", "unk": "[UNK]"}
_ROBERTA_TOKENS = {
    "cls": "<s>", "sep": "</s>", "pad": "<pad>", "mask": "<mask>", "unk": "<unk>", "bos": "<s>", "eos": "</s>",
}  # fmt: skip
_SPACE = "\u2581"  # how SentencePiece writes a space


@dataclass(frozen=True, slots=True)
class TokenizerClass:
    """Describe a tokenizer class of transformers.

    This one fits any file, and has no settings or tokens of its own.
    """

    model: str = ""  # the kind of model that it needs; "": any
    tokens: Mapping[str, str] = field(default_factory=dict)  # role -> special token, where no file names one
    more_tokens: tuple[str, ...] = ()  # special tokens without a role, where no file names any
    keeps_post_processor: bool = False  # version 5 takes the file's, where it has one
    mask_takes_space: tuple[int, ...] = ()  # the versions whose mask token has lstrip, where no file says

    def set_by_4(self, settings: Mapping[str, Any]) -> Fields:
        """Return the fields that version 4 sets where the file has them.

        settings: those of tokenizer_config.json.
        """
        return {("pre_tokenizer", "add_prefix_space"): _flag(settings, "add_prefix_space", False)}

    def made_by_5(self, file: Definition, settings: Mapping[str, Any], tokens: Mapping[str, str]) -> Definition | None:
        """Return the parts that version 5 makes anew, except the post-processor; None where it takes the file's.

        tokens: role -> special token, for the roles that are set.
        """
        return None

    def post_processor_of_5(
        self, settings: Mapping[str, Any], tokens: Mapping[str, tuple[str, int]]
    ) -> dict[str, Any] | None:
        """Return the post-processor that version 5 makes; None where it takes the file's."""
        return None


class BertClass(TokenizerClass):
    """Describe BertTokenizer, and its equals under other names."""

    __slots__ = ()

    def set_by_4(self, settings: Mapping[str, Any]) -> Fields:
        """Return the normalizer's settings, with their defaults."""
        return {
            **TokenizerClass.set_by_4(self, settings),
            **{("normalizer", name): value for name, value in _bert_normalizer(settings).items()},
        }

    def made_by_5(self, file: Definition, settings: Mapping[str, Any], tokens: Mapping[str, str]) -> Definition:
        """Return a WordPiece tokenizer like BERT's."""
        return {
            "normalizer": {"type": "BertNormalizer", "clean_text": True, **_bert_normalizer(settings)},
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
            "model": {
                "type": "WordPiece",
                "unk_token": tokens.get("unk", "None"),
                "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100,
                "vocab": file["model"]["vocab"],
            },
        }

    def post_processor_of_5(
        self, settings: Mapping[str, Any], tokens: Mapping[str, tuple[str, int]]
    ) -> dict[str, Any] | None:
        """Return the template "[CLS] A [SEP] B [SEP]", in which B and the [SEP] after it are the second segment."""
        if not {"cls", "sep"} <= tokens.keys():
            return None
        return _template(tokens["cls"], tokens["sep"], between=1, second=1)


class RobertaClass(TokenizerClass):
    """Describe RobertaTokenizer."""

    __slots__ = ()

    def set_by_4(self, settings: Mapping[str, Any]) -> Fields:
        """Return add_prefix_space for both parts that have it, and trim_offsets for the one where it has an effect."""
        return {
            **TokenizerClass.set_by_4(self, settings),
            ("post_processor", "add_prefix_space"): _flag(settings, "add_prefix_space", False),
            ("post_processor", "trim_offsets"): _flag(settings, "trim_offsets", True),
        }

    def made_by_5(self, file: Definition, settings: Mapping[str, Any], tokens: Mapping[str, str]) -> Definition:
        """Return a byte-level BPE tokenizer."""
        prefix = _flag(settings, "add_prefix_space", False)
        model = {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False}
        kept = {name: file["model"][name] for name in ("vocab", "merges")}
        return {
            "normalizer": None,
            "pre_tokenizer": _byte_level(add_prefix_space=prefix),
            "decoder": _byte_level(add_prefix_space=True),
            "model": {**model, "continuing_subword_prefix": "", "end_of_word_suffix": "", **kept},
        }

    def post_processor_of_5(
        self, settings: Mapping[str, Any], tokens: Mapping[str, tuple[str, int]]
    ) -> dict[str, Any] | None:
        """Return the template "<s> A </s> </s> B </s>"."""
        if not {"cls", "sep"} <= tokens.keys():
            return None
        return {
            "type": "RobertaProcessing",
            "sep": list(tokens["sep"]),
            "cls": list(tokens["cls"]),
            "trim_offsets": _flag(settings, "trim_offsets", True),
            "add_prefix_space": _flag(settings, "add_prefix_space", False),
        }


class SentencePieceClass(TokenizerClass):
    """Describe XLMRobertaTokenizer and CamembertTokenizer."""

    __slots__ = ()

    def made_by_5(self, file: Definition, settings: Mapping[str, Any], tokens: Mapping[str, str]) -> Definition:
        """Return a Unigram tokenizer of words separated by spaces."""
        metaspace = space_marks("always" if _flag(settings, "add_prefix_space", True) else "never")
        return {
            "normalizer": precompiled(file["normalizer"]),
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace]},
            "decoder": metaspace,
            "model": {
                "type": "Unigram",
                "unk_id": self.unknown_id(file, tokens),
                "vocab": file["model"]["vocab"],
                "byte_fallback": False,
            },
        }

    def unknown_id(self, file: Definition, tokens: Mapping[str, str]) -> int:
        """Return the id of the unknown token."""
        return 3

    def post_processor_of_5(
        self, settings: Mapping[str, Any], tokens: Mapping[str, tuple[str, int]]
    ) -> dict[str, Any] | None:
        """Return the template "<s> A </s> </s> B </s>"."""
        if not {"bos", "eos"} <= tokens.keys():
            return None
        return _template(tokens["bos"], tokens["eos"], between=2, second=0)


class CamembertClass(SentencePieceClass):
    """Describe CamembertTokenizer, which looks up the id of its unknown token."""

    __slots__ = ()

    def unknown_id(self, file: Definition, tokens: Mapping[str, str]) -> int:
        """Return the id of the unknown token."""
        pieces = [piece for piece, _ in file["model"]["vocab"]]
        return pieces.index(tokens["unk"]) if tokens.get("unk") in pieces else 0


ANY = TokenizerClass()
BERT_TOKENIZER = BertClass("WordPiece", _BERT_TOKENS)
ROBERTA_TOKENIZER = RobertaClass("BPE", _ROBERTA_TOKENS, mask_takes_space=(4,))
XLM_ROBERTA_TOKENIZER = SentencePieceClass("Unigram", _ROBERTA_TOKENS, mask_takes_space=(4,))
CAMEMBERT_TOKENIZER = CamembertClass(
    "Unigram",
    _ROBERTA_TOKENS,
    more_tokens=("<s>NOTUSED", "</s>NOTUSED", "<unk>NOTUSED"),
    mask_takes_space=(4, 5),
)


def _flag(settings: Mapping[str, Any], name: str, default: bool) -> bool:
    return bool(settings.get(name, default))


def _bert_normalizer(settings: Mapping[str, Any]) -> dict[str, Any]:
    accents = settings.get("strip_accents")
    return {
        "handle_chinese_chars": _flag(settings, "tokenize_chinese_chars", True),
        "strip_accents": None if accents is None else bool(accents),
        "lowercase": _flag(settings, "do_lower_case", True),
    }


def _byte_level(add_prefix_space: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": add_prefix_space, "trim_offsets": True, "use_regex": True}


def space_marks(scheme: str) -> dict[str, Any]:
    """Return the pre-tokenizer, or decoder, that writes spaces as SentencePiece does."""
    return {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": scheme, "split": True}


def lowercase(settings: Mapping[str, Any], *, default: bool) -> list[dict[str, Any]]:
    """Return the normalizer that makes letters small, where it is wanted."""
    return [{"type": "Lowercase"}] if _flag(settings, "do_lower_case", default) else []


def precompiled(normalizer: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Return SentencePiece's own normalizer, the only one that version 5 keeps."""
    parts = [] if normalizer is None else normalizer.get("normalizers", [normalizer])
    return next((part for part in parts if part["type"] == "Precompiled"), None)


def _template(first: tuple[str, int], last: tuple[str, int], *, between: int, second: int) -> dict[str, Any]:
    """Return a post-processor.

    between: how often `last` stands between two texts. second: the type id of the second text and its end.
    """

    def token(name: str, type_id: int = 0) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": type_id}}

    def sequence(name: str, type_id: int = 0) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": type_id}}

    single = [token(first[0]), sequence("A"), token(last[0])]
    return {
        "type": "TemplateProcessing",
        "single": single,
        "pair": [*single, *[token(last[0])] * (between - 1), sequence("B", second), token(last[0], second)],
        "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in (first, last)},
    }
