"""Make tokenizers beside files that disagree with them, and say what is expected of each.

Needs neither torch nor pytest. The vocabularies are written by hand, so that what another version of transformers makes
of them can be kept as a golden.
"""

from __future__ import annotations

import copy
import json
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from tokenizers import pre_tokenizers

WORLD = "[WORLD]"
TEXTS = (
    "A Fox",
    " a fox ",
    "a  fox",
    "na\u00efve caf\u00e9 e\u0301",
    "\u4eca\u5929\u597d ok",
    f"hello {WORLD} there",
    f"hello{WORLD}x [world]",
    "the [MASK] fox <mask> x",
    "a\nfox\u2028b\u3000c",
    "\uff21 \u00bd \ufb01",
    "a\u00adb\x00c",
    "don't, fox?!",
    "aaaaaaaaa",
    "",
)
PAIRS = (("a fox", "the fox"), (f"hello {WORLD}", " fox"))

Definition = dict[str, Any]
Edit = Callable[[Definition], None]
# Whose tokens are expected: those of versions 4 and 5 of transformers, or of the one that agrees with tokenizer.json.
Follows = Literal["both", "4", "5"]


@dataclass(frozen=True)
class Case:
    """Describe a checkpoint's tokenizer."""

    family: str
    follows: Follows = "both"
    edit: Edit = lambda definition: None
    files: Mapping[str, Any] = field(default_factory=dict)  # name without .json -> content
    says: str = ""  # what the warning says, where version 4 is followed

    def write(self, directory: Path) -> Path:
        definition = copy.deepcopy(BASES[self.family]())
        self.edit(definition)
        files = {"config": {"model_type": self.family}, "tokenizer": definition, **self.files}
        directory.mkdir(parents=True)
        for name, content in files.items():
            (directory / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
        return directory


def token(content: str, **flags: Any) -> dict[str, Any]:
    """Return an added token as the files write it."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"content": content, **plain, **flags}


def _bert() -> Definition:
    return _wordpiece(
        ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"], _template("[CLS]", 2, "[SEP]", 3, between=1, second=1)
    )


def _mpnet() -> Definition:
    return _wordpiece(["<s>", "<pad>", "</s>", "[UNK]", "<mask>"], _roberta_processing())


def _wordpiece(special: list[str], post_processor: dict[str, Any]) -> Definition:
    letters = [*string.ascii_letters, *"\u00e9\u00ef\u4eca\u5929\u597d'\"[],?!<>/\uff21\u00bd\ufb01"]
    words = ["fox", "Fox", "the", "hello", "there", "world", "mask"]
    pieces = [*special, *letters, *(f"##{letter}" for letter in letters), *words]
    return {
        **_parts(
            normalizer=_bert_normalizer(),
            pre_tokenizer={"type": "BertPreTokenizer"},
            post_processor=post_processor,
            decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        ),
        "added_tokens": _added(special, pieces),
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100,
            "vocab": {piece: id for id, piece in enumerate(pieces)},
        },
    }


def _roberta() -> Definition:
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    merges = [("f", "o"), ("fo", "x"), ("\u0120", "fox"), ("t", "h"), ("th", "e"), ("\u0120", "the"), ("\u0120", "a")]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = [*special, *alphabet, *(first + second for first, second in merges)]
    model = {"type": "BPE", "dropout": None, "unk_token": None, "fuse_unk": False, "byte_fallback": False}
    return {
        **_parts(
            pre_tokenizer=byte_level(),
            post_processor=_roberta_processing(),
            decoder=byte_level(add_prefix_space=True),
        ),
        "added_tokens": _added(special, pieces),
        "model": {
            **model,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "ignore_merges": False,
            "vocab": {piece: id for id, piece in enumerate(pieces)},
            "merges": [list(pair) for pair in merges],
        },
    }


def _roberta_processing() -> dict[str, Any]:
    ends = {"sep": ["</s>", 2], "cls": ["<s>", 0]}
    return {"type": "RobertaProcessing", **ends, "trim_offsets": True, "add_prefix_space": False}


def _unigram(
    special: list[str], first: int, last: int, between: list[str], *, unknown: str = "<unk>", mask: str = "<mask>"
) -> Definition:
    letters = [*string.ascii_letters, *"\u00e9\u00ef\u4eca\u5929\u597d'[],?!<>/"]
    scored = [("\u2581", -3.0), ("\u2581fox", -2.0), ("fox", -2.5), ("\u2581the", -2.0), ("\u2581a", -2.2)]
    scored += [(letter, -5.0 - id / 100) for id, letter in enumerate(letters)]
    vocabulary = [*((piece, 0.0) for piece in special), *scored, (mask, 0.0)]
    pieces = [piece for piece, _ in vocabulary]
    return {
        **_parts(
            pre_tokenizer={"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, metaspace()]},
            post_processor=_template("<s>", first, "</s>", last, between=2, second=0),
            decoder=metaspace(),
        ),
        "added_tokens": _added([*special, mask, *between], pieces),
        "model": {
            "type": "Unigram",
            "unk_id": special.index(unknown),
            "vocab": [list(pair) for pair in vocabulary],
            "byte_fallback": False,
        },
    }


def _xlm_roberta() -> Definition:
    return _unigram(["<s>", "<pad>", "</s>", "<unk>"], 0, 2, [])


def _camembert() -> Definition:
    unused = ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
    return _unigram(unused, 5, 6, [])


def _deberta() -> Definition:
    spaces = {"type": "Replace", "pattern": {"Regex": r"\s{2,}|[\n\r\t]"}, "content": " "}
    steps = [spaces, {"type": "NFC"}, {"type": "Strip", "strip_left": False, "strip_right": True}]
    return _with_bert_s_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]"], "[UNK]", steps, [metaspace()])


def _albert() -> Definition:
    quotes = [{"type": "Replace", "pattern": {"String": each}, "content": '"'} for each in ("``", "''")]
    steps = [*quotes, {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}]
    special = ["<pad>", "<unk>", "[CLS]", "[SEP]"]
    made = _with_bert_s_tokens(special, "<unk>", steps, [{"type": "WhitespaceSplit"}, metaspace()])
    flags_of("[MASK]", lstrip=True)(made)  # as in published checkpoints, and as version 4 writes it
    return made


def _with_bert_s_tokens(special: list[str], unknown: str, steps: list[Any], words: list[Any]) -> Definition:
    """Return a Unigram tokenizer with the template and the mask of BERT."""
    made = _unigram(special, 0, 0, [], unknown=unknown, mask="[MASK]")
    first, last = special.index("[CLS]"), special.index("[SEP]")
    return made | {
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": words},
        "post_processor": _template("[CLS]", first, "[SEP]", last, between=1, second=1),
    }


BASES: dict[str, Callable[[], Definition]] = {
    "bert": _bert,
    "distilbert": _bert,
    "electra": _bert,
    "roberta": _roberta,
    "xlm-roberta": _xlm_roberta,
    "camembert": _camembert,
    "mpnet": _mpnet,
    "deberta-v2": _deberta,
    "albert": _albert,
}


def byte_level(**settings: bool) -> dict[str, Any]:
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True, **settings}


def metaspace(scheme: str = "always") -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": True}


def _bert_normalizer() -> dict[str, Any]:
    settings = {"clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    return {"type": "BertNormalizer", **settings}


def _parts(**parts: Any) -> Definition:
    empty = {"version": "1.0", "truncation": None, "padding": None, "normalizer": None}
    return {**empty, **parts}


def _added(special: list[str], pieces: list[str]) -> list[dict[str, Any]]:
    # As in published checkpoints, RoBERTa's mask token includes the space before it.
    found = [{"id": pieces.index(each), **token(each, lstrip=each == "<mask>")} for each in special]
    return sorted(found, key=lambda each: each["id"])


def _template(first: str, first_id: int, last: str, last_id: int, *, between: int, second: int) -> dict[str, Any]:
    def special(name: str, type_id: int = 0) -> dict[str, Any]:
        return {"SpecialToken": {"id": name, "type_id": type_id}}

    start = [special(first), {"Sequence": {"id": "A", "type_id": 0}}, special(last)]
    rest = [{"Sequence": {"id": "B", "type_id": second}}, special(last, second)]
    ids = {first: first_id, last: last_id}
    return {
        "type": "TemplateProcessing",
        "single": start,
        "pair": [*start, *[special(last)] * (between - 1), *rest],
        "special_tokens": {name: {"id": name, "ids": [id], "tokens": [name]} for name, id in ids.items()},
    }


def sets(part: str, value: Any) -> Edit:
    """Set a whole part of tokenizer.json."""
    return lambda definition: definition.update({part: value})


def edits(part: str, **settings: Any) -> Edit:
    """Set some settings of a part of tokenizer.json."""
    return lambda definition: definition[part].update(settings)


def both(*some: Edit) -> Edit:
    def edit(definition: Definition) -> None:
        for each in some:
            each(definition)

    return edit


def adds(content: str, **flags: Any) -> Edit:
    """Add a token to tokenizer.json."""

    def edit(definition: Definition) -> None:
        id = max(len(definition["model"]["vocab"]), *(each["id"] + 1 for each in definition["added_tokens"]))
        definition["added_tokens"].append({"id": id, **token(content, **flags)})

    return edit


def flags_of(content: str, **flags: Any) -> Edit:
    """Set other flags of a token in tokenizer.json."""

    def edit(definition: Definition) -> None:
        next(each for each in definition["added_tokens"] if each["content"] == content).update(flags)

    return edit


def _config(**settings: Any) -> dict[str, Any]:
    return {"tokenizer_config": settings}


def _decoder(family: str, **more: dict[str, Any]) -> dict[str, Any]:
    """Return added_tokens_decoder with what tokenizer.json has; more: id -> token."""
    listed = BASES[family]()["added_tokens"]
    return {str(each["id"]): {key: value for key, value in each.items() if key != "id"} for each in listed} | more


def _of_every_family(family: str) -> dict[str, Case]:
    """Return the cases that all families treat alike."""
    mask = "<mask>" if "<mask>" in json.dumps(BASES[family]()) else "[MASK]"
    own = token(WORLD, special=False, normalized=True)
    # Only version 4 has flags for the mask token of these classes.
    mask_of_4: dict[str, Any] = (
        {"follows": "4", "says": "added tokens by its own"} if family in ("roberta", "xlm-roberta", "albert") else {}
    )
    return {
        "bare": Case(family),
        "any-class": Case(family, files=_config(tokenizer_class="PreTrainedTokenizerFast")),
        "added-tokens": Case(family, files={"added_tokens": {WORLD: 600}}),
        "special-tokens-map": Case(family, files={"special_tokens_map": {"additional_special_tokens": [WORLD]}}),
        "config-special": Case(family, files=_config(additional_special_tokens=[WORLD])),
        "config-extra": Case(family, files=_config(extra_special_tokens={"world_token": WORLD})),
        "decoder": Case(family, files=_config(added_tokens_decoder=_decoder(family, **{"600": own}))),
        "decoder-alone": Case(
            family, files=_config(added_tokens_decoder={"600": token(WORLD, lstrip=True)}), **mask_of_4
        ),
        "decoder-hides-map": Case(
            family,
            files={
                **_config(added_tokens_decoder=_decoder(family)),
                "special_tokens_map": {"additional_special_tokens": [WORLD]},
                "added_tokens": {WORLD: 600},
            },
        ),
        "file-alone": Case(family, edit=adds(WORLD, special=False, normalized=True)),
        "none-added": Case(family, edit=sets("added_tokens", []), **mask_of_4),
        "mask-of-map": Case(family, files={"special_tokens_map": {"mask_token": token(mask, lstrip=True)}}),
        "map-over-config": Case(
            family,
            files={**_config(pad_token="x"), "special_tokens_map": {"pad_token": token("a", normalized=True)}},
        ),
        "file-not-decoder": Case(
            family,
            "4",
            adds(WORLD, special=False, normalized=True),
            _config(added_tokens_decoder=_decoder(family)),
            "added tokens by its own",
        ),
        "own-role": Case(family, "4", files=_config(world_token=WORLD), says="added tokens by its own"),
        "no-post-processor": Case(family, "4", sets("post_processor", None), says="post-processor by its own"),
        "nfc": Case(family, "4", sets("normalizer", {"type": "NFC"}), says="normalizer by its own"),
    }


def _of_bert(family: str) -> dict[str, Case]:
    parts = [{"type": "NFD"}, {"type": "Lowercase"}, {"type": "StripAccents"}]
    return {
        "lowercase": Case(family, edit=edits("normalizer", lowercase=False)),
        "lowercase-any-class": Case(
            family,
            edit=edits("normalizer", lowercase=False),
            files=_config(tokenizer_class="PreTrainedTokenizerFast"),
        ),
        "do-lower-case": Case(family, files=_config(do_lower_case=False)),
        "accents": Case(family, edit=edits("normalizer", strip_accents=False)),
        "strip-accents": Case(family, files=_config(do_lower_case=False, strip_accents=True)),
        "chinese": Case(family, edit=edits("normalizer", handle_chinese_chars=False)),
        "tokenize-chinese-chars": Case(family, files=_config(tokenize_chinese_chars=False)),
        "clean-text": Case(family, "4", edits("normalizer", clean_text=False), says="normalizer by its own"),
        "normalizers": Case(
            family,
            "4",
            sets("normalizer", {"type": "Sequence", "normalizers": parts}),
            says="normalizer by its own, and finds other tokens in some texts, such as '\u4eca\u5929\u597d'",
        ),
        "whitespace": Case(family, "4", sets("pre_tokenizer", {"type": "Whitespace"}), says="pre-tokenizer by its own"),
        "long-words": Case(family, "4", edits("model", max_input_chars_per_word=5), says="model settings by its own"),
        "cls-token": Case(family, "4", files=_config(cls_token=WORLD), says="post-processor by its own"),
    }


def _of_mpnet(family: str) -> dict[str, Case]:
    """Return the cases of MPNet, for which version 4 leaves Chinese characters to the file."""
    normalizer: dict[str, Any] = {"follows": "4", "says": "normalizer by its own"}
    return {
        "chinese": Case(family, edit=edits("normalizer", handle_chinese_chars=False), **normalizer),
        "tokenize-chinese-chars": Case(family, files=_config(tokenize_chinese_chars=False), **normalizer),
    }


def _of_roberta(family: str) -> dict[str, Case]:
    prefixed = both(edits("pre_tokenizer", add_prefix_space=True), edits("post_processor", add_prefix_space=True))
    template = _template("<s>", 0, "</s>", 2, between=1, second=1)
    return {
        "prefix-of-file": Case(family, edit=prefixed),
        "add-prefix-space": Case(family, files=_config(add_prefix_space=True)),
        "no-prefix-space": Case(family, edit=prefixed, files=_config(add_prefix_space=False)),
        "trim-of-file": Case(family, edit=edits("post_processor", trim_offsets=False)),
        "trim-offsets": Case(family, files=_config(trim_offsets=False)),
        "prefix-any-class": Case(
            family, "5", prefixed, _config(tokenizer_class="PreTrainedTokenizerFast", bos_token="<s>")
        ),
        "mask-without-space": Case(family, "5", flags_of("<mask>", lstrip=False)),
        "template": Case(family, "4", sets("post_processor", template), says="post-processor by its own"),
        "words-first": Case(
            family,
            "4",
            sets("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}, byte_level()]}),
            says="pre-tokenizer by its own",
        ),
    }


def _of_sentencepiece(family: str) -> dict[str, Case]:
    strip = {"type": "Strip", "strip_left": False, "strip_right": True}
    once = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "\u2581"}
    old = {"type": "Metaspace", "replacement": "\u2581", "str_rep": "\u2581", "add_prefix_space": True}
    return {
        "old-metaspace": Case(
            family,
            edit=sets("pre_tokenizer", {"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, old]}),
        ),
        "metaspace": Case(
            family,
            "4",
            sets("pre_tokenizer", metaspace()),
            says="pre-tokenizer by its own, and finds other tokens in some texts, such as 'a fox '",
        ),
        "metaspace-stripped": Case(
            family,
            "4",
            both(
                sets("pre_tokenizer", metaspace()),
                sets("normalizer", {"type": "Sequence", "normalizers": [strip, once]}),
            ),
            says="pre-tokenizer by its own",
        ),
        "metaspace-first": Case(
            family, "4", sets("pre_tokenizer", metaspace("first")), says="pre-tokenizer by its own"
        ),
        "no-prefix-space": Case(family, "4", files=_config(add_prefix_space=False), says="pre-tokenizer"),
        "nfkc": Case(family, "4", sets("normalizer", {"type": "NFKC"}), says="normalizer by its own"),
        "unknown": Case(family, "4", edits("model", unk_id=1), says="model settings by its own"),
    }


def _of_deberta(family: str) -> dict[str, Case]:
    """Return the cases of DeBERTa, whose files of version 4 have SentencePiece's own normalizer."""
    strip = {"type": "Strip", "strip_left": True, "strip_right": True}
    of_4 = [strip, {"type": "NFKC"}, {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}]
    return {
        "normalizer-of-4": Case(
            family,
            "4",
            sets("normalizer", {"type": "Sequence", "normalizers": of_4}),
            says="normalizer by its own, and finds other tokens in some texts, such as",
        ),
        "do-lower-case": Case(family, "4", files=_config(do_lower_case=True), says="normalizer by its own"),
        "split-by-punct": Case(family, "4", files=_config(split_by_punct=True), says="pre-tokenizer by its own"),
        "unknown": Case(family, "4", edits("model", unk_id=1), says="model settings by its own"),
    }


def _of_albert(family: str) -> dict[str, Case]:
    template = _template("[CLS]", 2, "[SEP]", 3, between=2, second=0)
    return {
        "keep-accents": Case(family, "4", files=_config(keep_accents=True), says="normalizer by its own"),
        "cased": Case(family, "4", files=_config(do_lower_case=False), says="normalizer by its own"),
        "template": Case(family, edit=sets("post_processor", template)),
        "unknown": Case(family, "4", edits("model", unk_id=0), says="model settings by its own"),
    }


def _all() -> dict[str, Case]:
    of_bert = _of_every_family("bert") | _of_bert("bert")
    found = {
        "bert": of_bert,
        # The same in all but name.
        "distilbert": {name: replace(of_bert[name], family="distilbert") for name in ("bare", "accents", "clean-text")},
        "electra": {name: replace(of_bert[name], family="electra") for name in ("bare", "lowercase", "own-role")},
        "mpnet": _of_every_family("mpnet") | _of_bert("mpnet") | _of_mpnet("mpnet"),
        "deberta-v2": _of_every_family("deberta-v2") | _of_deberta("deberta-v2"),
        "albert": _of_every_family("albert") | _of_albert("albert"),
        "roberta": _of_every_family("roberta") | _of_roberta("roberta"),
        "xlm-roberta": _of_every_family("xlm-roberta") | _of_sentencepiece("xlm-roberta"),
        "camembert": _of_every_family("camembert") | _of_sentencepiece("camembert"),
    }
    return {f"{family}-{name}": case for family, cases in found.items() for name, case in cases.items()}


CASES = _all()
