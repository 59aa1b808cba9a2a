"""Tokenizer files are read or refused, and a tokenizer may be shared between threads."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, normalizers, processors

from bertstream.server.core.tokenization import Pairs, Texts, TextTokenizer, TokenizeOptions, TokenizerError, Truncation
from tests.server.core.tokenization.conftest import Case, transformers_tokenizer
from tests.server.core.tokenization.reference import AWKWARD, EVERYTHING, our_rows, reference_rows


def _edited(case: Case, directory: Path, **parts: Any) -> Path:
    path = directory / "edited.json"
    path.write_text(json.dumps(json.loads(case.path.read_text("utf-8")) | parts), "utf-8")
    return path


def _load(path: Path, size: int = 30522, types: int = 2, lowercase: bool = False) -> TextTokenizer:
    return TextTokenizer.load(path, vocabulary_size=size, type_vocabulary_size=types, lowercase=lowercase)


def _template(single: str, pair: str) -> dict[str, Any]:
    special = [("[CLS]", 2), ("[SEP]", 3)]
    processor = processors.TemplateProcessing(single=single, pair=pair, special_tokens=special)
    found: dict[str, Any] = json.loads(processor.__getstate__())
    return found


def test_a_file_that_is_not_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"cannot read .*missing\.json"):
        _load(tmp_path / "missing.json")
    (tmp_path / "bad.json").write_text('{"version": "1.0"}')
    with pytest.raises(TokenizerError, match=r"cannot read .*bad\.json"):
        _load(tmp_path / "bad.json")


def test_a_model_without_room_for_the_special_tokens(cases: dict[str, Case]) -> None:
    with pytest.raises(TokenizerError, match="special token 3 is outside the model's vocabulary of 3"):
        _load(cases["wordpiece"].path, size=3)


def test_the_files_own_truncation_and_padding_are_off(minilm: TextTokenizer) -> None:
    found = minilm.tokenize(Texts(["word " * 300, "word"]), EVERYTHING)  # the file's own length and padding are 128
    assert found.lengths.tolist() == [302, 3]


@pytest.mark.parametrize(
    ("single", "pair"),
    [
        ("$A [SEP]", "$A [SEP] $B:1 [SEP]:1"),
        ("[CLS] [CLS] $A", "[CLS] $B:1 [SEP]:1 $A:0"),
        ("$A", "$A $B"),
        ("$A:1 [CLS]:1", "[SEP]:1 $A:1 $B:1"),
    ],
)
@pytest.mark.parametrize("special", [True, False])
def test_any_template(cases: dict[str, Case], tmp_path: Path, single: str, pair: str, special: bool) -> None:
    path = _edited(cases["wordpiece"], tmp_path, post_processor=_template(single, pair))
    reference = transformers_tokenizer(tokenizer_file=str(path))
    ours = _load(path, 331)
    options = replace(EVERYTHING, add_special_tokens=special)
    rows = our_rows(ours.tokenize(Texts(AWKWARD), options))
    assert rows == reference_rows(reference, AWKWARD, add_special_tokens=special)
    pairs = Pairs(AWKWARD, AWKWARD[::-1])
    cut = replace(options, truncation=Truncation("longest_first", 9))
    expected = reference_rows(
        reference, pairs.firsts, pairs.seconds, add_special_tokens=special, truncation=True, max_length=9
    )
    assert our_rows(ours.tokenize(pairs, cut)) == expected


def test_no_post_processor(cases: dict[str, Case], tmp_path: Path) -> None:
    path = _edited(cases["wordpiece"], tmp_path, post_processor=None)
    reference = transformers_tokenizer(tokenizer_file=str(path))
    ours = our_rows(_load(path, 331).tokenize(Pairs(AWKWARD, AWKWARD), EVERYTHING))
    assert ours == reference_rows(reference, AWKWARD, AWKWARD)


def test_a_template_that_repeats_the_text(cases: dict[str, Case], tmp_path: Path) -> None:
    path = _edited(cases["wordpiece"], tmp_path, post_processor=_template("[CLS] $A $A", "[CLS] $A $B"))
    with pytest.raises(TokenizerError, match="post-processor does more than put special tokens around"):
        _load(path, 331)


@pytest.mark.parametrize("types", [0, 1])
def test_a_model_without_segments(cases: dict[str, Case], types: int) -> None:
    without = _load(cases["minilm"].path, types=types).tokenize(Pairs(["one"], ["two"]), EVERYTHING)
    assert without.type_ids is None
    with_segments = cases["minilm"].ours.tokenize(Pairs(["one"], ["two"]), EVERYTHING)
    assert with_segments.filled_type_ids().tolist() == [0, 0, 0, 1, 1]
    assert without.ids.tolist() == with_segments.ids.tolist()


def test_lower_casing(cases: dict[str, Case]) -> None:
    for name in ("byte_level_bpe", "unigram", "wordpiece"):
        tokenizer = Tokenizer.from_file(str(cases[name].path))
        own = [tokenizer.normalizer] if tokenizer.normalizer else []
        # as sentence-transformers does for do_lower_case
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *own])
        reference = transformers_tokenizer(
            tokenizer_object=tokenizer, model_input_names=["input_ids", "token_type_ids"], unk_token="<unk>"
        )
        ours = _load(cases[name].path, tokenizer.get_vocab_size(), lowercase=True)
        assert our_rows(ours.tokenize(Texts(AWKWARD), EVERYTHING)) == reference_rows(reference, AWKWARD)


def test_lower_casing_twice_is_not_needed(cases: dict[str, Case]) -> None:
    again = _load(cases["minilm"].path, lowercase=True)
    assert again.backend_tokenizer.normalizer is not None
    assert type(again.backend_tokenizer.normalizer).__name__ == "BertNormalizer"
    sequence = _load(cases["unigram"].path, 401, lowercase=True)
    assert type(sequence.backend_tokenizer.normalizer).__name__ == "Sequence"


def test_many_threads_at_once(case: Case) -> None:
    batches = [AWKWARD[start:] for start in range(len(AWKWARD))] * 6
    cuts = [replace(EVERYTHING, truncation=Truncation("longest_first", 4 + index % 7)) for index in range(len(batches))]

    def work(batch: list[str], options: TokenizeOptions) -> Any:
        return our_rows(case.ours.tokenize(Texts(batch), options))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, batches, cuts)) == list(map(work, batches, cuts))
