"""Test description.json, which the supervisor and the frontend read without torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertstream.workers.compile.checkpoints import embedded
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.programs.description import FORMAT, DefaultPooling, DescriptionError, ModelDescription
from bertstream.workers.trust.seal import seal
from tests.server.protocols.bertstream_v1.validation.support import description
from tests.support.checkpoints import edit_json


def test_the_embedded_model_is_described_in_full(compile_cache: Path) -> None:
    compiled = compile_model(embedded(), cache=compile_cache)
    found = ModelDescription.load(compiled)
    assert found == ModelDescription(
        revision=compiled.name,
        family="bert",
        architecture="BertModel",
        layers=6,
        hidden_size=384,
        attention_heads=12,
        vocabulary_size=30522,
        type_vocabulary_size=2,
        max_tokens=512,
        default_max_length=256,
        has_pooler=True,
        compute_type="float32",
        device="cpu",
        native_operators=found.native_operators,
        products=found.products,
        amx=found.amx,
        precision_test=found.precision_test,
        default_pooling=DefaultPooling(mode="mean", normalize=True),
        special_tokens={
            "cls": ("[CLS]", 101),
            "sep": ("[SEP]", 102),
            "pad": ("[PAD]", 0),
            "mask": ("[MASK]", 103),
            "unk": ("[UNK]", 100),
        },
    )


def test_texts_of_ids_may_have_their_spaces_cleaned_up(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(checkpoint("bert"), tmp_path / "bert"))
    edit_json(directory / "tokenizer_config.json", clean_up_tokenization_spaces=True)
    assert ModelDescription.load(compile_model(directory, cache=compile_cache)).clean_up_spaces
    assert not ModelDescription.load(compile_model(checkpoint("bert"), cache=compile_cache)).clean_up_spaces


def test_roberta_counts_its_positions_from_the_pad_id(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    found = ModelDescription.load(compile_model(checkpoint("roberta-pad"), cache=compile_cache))
    assert (found.family, found.max_tokens, found.default_max_length) == ("roberta", 512, 512)
    assert found.special_tokens["pad"] == ("<pad>", 6)
    assert found.special_tokens["bos"][0] == found.special_tokens["cls"][0] == "<s>"
    assert found.type_vocabulary_size == 1


def test_a_head_does_not_bring_a_pooler(checkpoint: Callable[[str], Path], compile_cache: Path) -> None:
    found = ModelDescription.load(compile_model(checkpoint("bert-mlm"), cache=compile_cache))
    assert (found.architecture, found.has_pooler, found.heads) == ("BertForMaskedLM", False, ("fill_mask",))


def test_a_tokenizer_that_transformers_5_reads_otherwise_is_warned_of(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path
) -> None:
    directory = Path(shutil.copytree(checkpoint("roberta"), tmp_path / "roberta"))
    edit_json(directory / "tokenizer.json", normalizer={"type": "Lowercase"})
    (warning,) = ModelDescription.load(compile_model(directory, cache=compile_cache)).warnings
    assert warning == (
        "transformers 5 replaces tokenizer.json's normalizer by its own, and finds other tokens in some texts, such as "
        "'A Fox'; here they are as in transformers 4."
    )


def test_what_is_saved_is_what_is_loaded(tmp_path: Path, compile_cache: Path) -> None:
    found = ModelDescription.load(compile_model(embedded(), cache=compile_cache))
    found.save(tmp_path)
    seal(tmp_path)
    assert ModelDescription.load(tmp_path) == found


def test_reading_needs_no_torch(compile_cache: Path) -> None:
    compiled = compile_model(embedded(), cache=compile_cache)
    code = (
        "import sys; from pathlib import Path; from bertstream.workers.programs.description import ModelDescription\n"
        "ModelDescription.load(Path(sys.argv[1])); assert not {'torch', 'numpy', 'grpc'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(compiled)], check=True)


def test_damage_is_told(tmp_path: Path, compile_cache: Path) -> None:
    with pytest.raises(DescriptionError, match=r"manifest is missing; compile the model again"):
        ModelDescription.load(tmp_path)
    (tmp_path / "description.json").write_text(f'{{"format": {FORMAT}, "revision": "a"}}')
    seal(tmp_path)
    with pytest.raises(DescriptionError, match=r"damaged.*compile the model again"):
        ModelDescription.load(tmp_path)
    ModelDescription.load(compile_model(embedded(), cache=compile_cache)).save(tmp_path)
    edit_json(tmp_path / "description.json", format=99)
    seal(tmp_path)
    with pytest.raises(DescriptionError, match="another version"):
        ModelDescription.load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"layers": "six"}, r"\$\.layers"),
        ({"layers": None}, "missing required field `layers`"),  # edit_json removes keys whose value is None
        ({"lowercase": 1}, r"\$\.lowercase"),
        ({"labels": ["good", 5]}, r"\$\.labels\[1\]"),
        ({"special_tokens": {"cls": ["[CLS]"]}}, r"\$\.special_tokens\[\.\.\.\]"),
        ({"default_pooling": {"mode": 3}}, r"\$\.default_pooling\.mode"),
        ({"generation": {"max_tokens": 5}}, r"vocabulary_size.*\$\.generation"),
        ({"surprise": 1}, "unknown field `surprise`"),
    ],
)
def test_damage_is_named(changes: dict[str, Any], named: str, tmp_path: Path) -> None:
    description().save(tmp_path)
    edit_json(tmp_path / "description.json", **changes)
    seal(tmp_path)
    with pytest.raises(
        DescriptionError, match=rf"description\.json is damaged \(.*{named}.*\); compile the model again"
    ):
        ModelDescription.load(tmp_path)


def test_what_is_no_json_or_no_text_is_damage(tmp_path: Path) -> None:
    description().save(tmp_path)
    path = tmp_path / "description.json"
    whole = path.read_bytes()
    for content in (b"", whole[:-9], whole.replace(b"BertModel", b"\xff"), b"[]", b'{"format": "5"}', b"[" * 100_000):
        path.write_bytes(content)
        seal(tmp_path)
        with pytest.raises(DescriptionError, match="damaged"):
            ModelDescription.load(tmp_path)
