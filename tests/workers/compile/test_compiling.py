from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from msgspec import convert, to_builtins

from bertstream.workers.compile import known_targets
from bertstream.workers.compile.compiling import (
    Compiled,
    CompiledModel,
    CompileModel,
    CompileTask,
    choose_device,
    choose_dtype,
    compile_all,
)
from bertstream.workers.programs import gpu_products


@pytest.mark.parametrize(
    ("asked", "gpus", "chosen"),
    [
        ("auto", 1, "cuda"),
        ("auto", 0, "cpu"),
        ("cpu", 1, "cpu"),
        ("cpu", 0, "cpu"),
        ("cuda", 1, "cuda"),
        ("cuda:1", 2, "cuda"),
    ],
)
def test_devices(asked: str, gpus: int, chosen: str) -> None:
    assert choose_device(asked, gpus, "tiny") == chosen


def test_a_device_that_is_not_there() -> None:
    with pytest.raises(ValueError, match="tiny: the device cuda was asked for, but torch sees no CUDA device"):
        choose_device("cuda", 0, "tiny")
    with pytest.raises(ValueError, match="tiny: the device cuda:2 was asked for, but the last one is cuda:1"):
        choose_device("cuda:2", 2, "tiny")


@pytest.mark.parametrize(
    ("asked", "device", "chosen"),
    [
        ("auto", "cpu", "float32"),
        ("auto", "cuda", "float16"),
        ("bfloat16", "cpu", "bfloat16"),
        ("int8", "cpu", "int8"),
        ("fp8", "cuda", "fp8"),
        ("float32", "cuda", "float32"),
    ],
)
def test_precisions(asked: str, device: str, chosen: str) -> None:
    assert choose_dtype(asked, device, "tiny") == chosen


def test_int8_on_a_gpu_is_refused_before_any_model_is_compiled(
    checkpoint: Callable[[str], Path], compile_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(known_targets, "may_have_gpus", lambda torch_folder: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    source = str(checkpoint("bert"))
    models = (CompileModel("a", source, "cpu", "int8"), CompileModel("b", source, "auto", "int8"))
    reported: list[str] = []
    with pytest.raises(ValueError, match="b: the precision int8 was asked for, which is for the CPU alone"):
        compile_all(CompileTask(models, str(compile_cache)), lambda at: reported.append(at.step))
    assert reported == []


def test_fp8_is_refused_before_any_model_is_compiled_where_a_gpu_has_none(
    checkpoint: Callable[[str], Path], compile_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*models: CompileModel) -> str:
        reported: list[str] = []
        with pytest.raises(ValueError, match="the precision fp8 was asked for") as raised:
            compile_all(CompileTask(models, str(compile_cache)), lambda at: reported.append(at.step))
        assert reported == []
        return str(raised.value)

    source = str(checkpoint("bert"))
    monkeypatch.setattr(known_targets, "may_have_gpus", lambda torch_folder: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(gpu_products, "float8_problem", lambda device: "it is old" if device.index else "")
    a, b = CompileModel("a", source, "cuda:0", "fp8"), CompileModel("b", source, "cpu", "fp8")
    assert refused(a, b).startswith(
        "b: the precision fp8 was asked for, which is for CUDA alone, and it is to run on cpu;"
    )
    for device in ("cuda", "auto", "cuda:1"):  # workers may be on each of them
        assert refused(a, CompileModel("c", source, device, "fp8")) == (
            "c: the precision fp8 was asked for, but it is old; choose another precision, or another device"
        )


def test_tasks_and_what_comes_of_them_travel_as_json() -> None:
    models = (CompileModel("embedded", "", "auto", "auto"), CompileModel("ü", "org/ü", "cuda:1", "float32", hub=True))
    task = CompileTask(models, "/a b", "debug")
    assert convert(json.loads(json.dumps(to_builtins(task))), CompileTask) == task
    compiled = Compiled((CompiledModel("/a b", "cpu", "float32"),), 0, "no compiler")
    assert convert(json.loads(json.dumps(to_builtins(compiled))), Compiled) == compiled


def test_models_of_one_checkpoint_share_a_directory_where_their_precision_agrees(
    checkpoint: Callable[[str], Path], compile_cache: Path
) -> None:
    source = str(checkpoint("bert"))
    models = [CompileModel(str(i), source, "cpu", dtype) for i, dtype in enumerate(("auto", "float32", "bfloat16"))]
    reported: list[tuple[str, str]] = []
    compiled = compile_all(
        CompileTask(tuple(models), str(compile_cache)), lambda at: reported.append((at.source, at.step))
    )
    one, same, other = (model.directory for model in compiled.models)
    assert one == same != other
    assert [model.dtype for model in compiled.models] == ["float32", "float32", "bfloat16"]
    assert ("1", "save") not in reported
    assert {("0", "ready"), ("1", "ready"), ("2", "ready")} <= set(reported)


def test_what_only_the_hub_may_have_is_not_looked_for_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checkpoint: Callable[[str], Path]
) -> None:
    monkeypatch.chdir(checkpoint("bert").parent)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    task = CompileTask((CompileModel("mine", "bert", "cpu", "auto", hub=True),), str(tmp_path))
    with pytest.raises(Exception, match="the hub did not give it"):
        compile_all(task, lambda at: None)
