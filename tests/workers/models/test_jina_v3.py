"""Test Jina's third embedding models against transformers, with and without adapters, and what they refuse."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from bertstream.workers.compile.checkpoints import CheckpointError, merge_adapters, read_config
from bertstream.workers.compile.checkpoints.adapters import Adapters, read_adapters
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.contract import ADAPTER_TASKS
from bertstream.workers.programs.program import ScriptedProgram
from tests.support.checkpoints import edit_json
from tests.support.jina_v3 import PROMPTS, for_task, tiny_jina_v3, with_adapters, with_modules
from tests.support.pairs import EXACT, Pair, difference, packed, sizes

Directories = tuple[Path, Path]
IDS = [[0, *range(5, 60), 2], [0, 70, 12, 2], [0, 9, 2]]
LAYERS = 3


@pytest.fixture(scope="module")
def directories(tmp_path_factory: pytest.TempPathFactory) -> Directories:
    """Return a checkpoint of transformers, and the same with adapters as its authors save them."""
    folder = tmp_path_factory.mktemp("jina-v3")
    native = tiny_jina_v3(folder / "native")
    return native, with_modules(with_adapters(folder / "adapted", native))


def test_every_output_is_transformers(directories: Directories, compile_cache: Path) -> None:
    pair = Pair(directories[0], compile_cache)
    assert pair.program.description.family == "jina_embeddings_v3"
    ids, _ = pair.encode()
    states = [layer.split(sizes(ids)) for layer in pair.run(ids, None, list(range(LAYERS + 1)))]
    for i, text in enumerate(ids):
        for got, want in zip(states, pair.expected(text), strict=True):
            assert difference(got[i], want) <= EXACT
    (alone,) = pair.run([ids[0]], None, [LAYERS])
    if pair.program.description.products == "packed":
        assert torch.equal(alone, states[-1][0])


@pytest.mark.parametrize("task", ["", "retrieval.passage"])
def test_a_task_s_adapter_is_part_of_the_weights(directories: Directories, compile_cache: Path, task: str) -> None:
    native, adapted = directories
    program = ScriptedProgram.load(compile_model(adapted, cache=compile_cache, task=task), "cpu")
    its = program.description
    assert (its.family, its.default_pooling.mode, its.default_pooling.normalize) == ("jina-xlm-roberta", "mean", True)
    (states,) = program.hidden_states(packed(IDS), None, sizes(IDS), [LAYERS])
    if not task:
        plain = ScriptedProgram.load(compile_model(native, cache=compile_cache), "cpu")
        assert torch.equal(states, plain.hidden_states(packed(IDS), None, sizes(IDS), [LAYERS])[0])
        assert its.warnings[-1].startswith("The checkpoint has adapters for retrieval.query, retrieval.passage,")
        assert (its.prompts, its.default_prompt_name) == (PROMPTS, "")
        return
    model = for_task(native, adapted, task)
    for ids, found in zip(IDS, states.split(sizes(IDS)), strict=True):
        with torch.inference_mode():
            want = model(torch.tensor([ids]))
        assert difference(found, want.last_hidden_state[0]) <= EXACT
        assert difference(program.pooler(found[:1]), want.pooler_output) <= EXACT
    assert its.prompts == {"retrieval.passage": PROMPTS[task], "document": PROMPTS[task]}
    assert (its.adapter, its.default_prompt_name, its.warnings) == (task, task, ())


@pytest.mark.parametrize("task", ADAPTER_TASKS)
def test_every_task_has_its_own_adapter(directories: Directories, task: str) -> None:
    weights, adapters = load_file(directories[1] / "model.safetensors"), read_config(directories[1]).adapters
    merged = merge_adapters(weights, adapters, adapters.number(task, directories[1]))
    model = for_task(*directories, task)
    for name, want in (
        ("roberta.embeddings.word_embeddings.weight", model.embeddings.word_embeddings.weight),
        ("roberta.encoder.layers.2.mlp.fc1.weight", model.layers[2].mlp.fc1.weight),
    ):
        assert difference(merged[name], want.detach()) <= 1e-6
    assert not any("lora" in name or "original" in name for name in merged)


def test_a_task_without_an_adapter_is_refused(directories: Directories, compile_cache: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="has no adapter for the task separation: it has no adapters"):
        compile_model(directories[0], cache=compile_cache, task="separation")
    fewer = Path(shutil.copytree(directories[1], tmp_path / "fewer"))
    edit_json(fewer / "config.json", lora_adaptations=["retrieval.query"])
    with pytest.raises(CheckpointError, match=r"the task separation: its adapters are for retrieval\.query$"):
        compile_model(fewer, cache=compile_cache, task="separation")
    with pytest.raises(CheckpointError, match="must be three-dimensional, of 1 tasks"):
        compile_model(fewer, cache=compile_cache, task="retrieval.query")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lora_adaptations": "x"}, "lora_adaptations must be a list of different names, not 'x'"),
        ({"lora_adaptations": ["x", "x"]}, "must be a list of different names"),
        ({"lora_adaptations": ["x"], "lora_rank": 0}, "lora_rank must be a whole number from 1"),
        ({"lora_adaptations": ["x"], "lora_alpha": "1"}, "lora_alpha must be a number above 0, not '1'"),
    ],
)
def test_what_config_json_cannot_say(values: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_adapters(values, Path("config.json"))


def test_adapters_that_do_not_fit_are_refused(directories: Directories) -> None:
    weights = load_file(directories[1] / "model.safetensors")
    name = "roberta.pooler.dense.parametrizations.weight.0.lora_B"
    merged = functools.partial(merge_adapters, adapters=Adapters(ADAPTER_TASKS), number=0)
    with pytest.raises(CheckpointError, match=r"are \[4, 36\] and \[36, 3\] a task, for a matrix of \[36, 36\]"):
        merged({**weights, name: weights[name][:, :, :3]})
    with pytest.raises(CheckpointError, match="lora_B is missing"):
        merged({other: each for other, each in weights.items() if other != name})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"auto_map": {"AutoModel": "other/code--modeling.Other"}}, "own code for AutoModel is not supported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn' is not supported"),
    ],
)
def test_what_is_not_computed_is_refused(
    directories: Directories, compile_cache: Path, tmp_path: Path, values: dict[str, Any], message: str
) -> None:
    directory = Path(shutil.copytree(directories[1], tmp_path / "copy"))
    edit_json(directory / "config.json", **values)
    with pytest.raises(CheckpointError, match=message):
        compile_model(directory, cache=compile_cache)


def test_modules_of_other_checkpoints_own_code_are_refused(
    checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path: Path
) -> None:
    directory = with_modules(Path(shutil.copytree(checkpoint("bert"), tmp_path / "bert")))
    with pytest.raises(CheckpointError, match=r"module custom_st\.Transformer .* is not supported"):
        compile_model(directory, cache=compile_cache)
