"""Test the cache of compiled models: what names one, and what happens to several compilers at once."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from bertstream.workers import native
from bertstream.workers.compile import precision, revisions, targets
from bertstream.workers.compile.checkpoints import CheckpointError
from bertstream.workers.compile.compiler import compile_model
from bertstream.workers.compile.revisions import code_hash, default_cache, revision_of
from bertstream.workers.models import Operators
from bertstream.workers.native import cuda_library
from bertstream.workers.programs import gpu_products
from bertstream.workers.programs.description import ModelDescription, PrecisionTest
from bertstream.workers.programs.program import ProgramError, ScriptedProgram, load_module
from bertstream.workers.trust import store
from tests.support.checkpoints import (
    edit_json,
    sentence_files,
    tiny_bert,
    tiny_deberta,
    tiny_modernbert,
    tiny_mpnet,
    write_json,
)

Checkpoint = Callable[[str], Path]


def silent(step: str, done: int, total: int) -> None:
    """Ignore the progress."""


@pytest.fixture
def copy(checkpoint: Checkpoint, tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(checkpoint(name), tmp_path / name))


@pytest.fixture
def fresh_cache(compile_cache: Path, tmp_path: Path) -> Path:
    """Return a cache without models, but with the operators, which are loaded, since building them takes seconds."""
    with contextlib.suppress(native.NativeError):
        native.provide(compile_cache)
        cache = tmp_path / "cache"
        cache.mkdir()
        (cache / "native").symlink_to(compile_cache / "native")
    return tmp_path / "cache"


def test_a_compiled_directory_holds_all_that_a_worker_needs(checkpoint: Checkpoint, compile_cache: Path) -> None:
    compiled = compile_model(checkpoint("bert"), cache=compile_cache)
    assert compiled.parent == compile_cache / "models"
    assert len(compiled.name) == 32
    names = {file.name for file in compiled.iterdir()}
    assert names == {"program.pt", "weights.bin", "description.json", "tokenizer.json", "manifest"}


def test_the_second_time_is_a_look_up(checkpoint: Checkpoint, compile_cache: Path) -> None:
    steps: list[str] = []
    first = compile_model(checkpoint("bert"), cache=compile_cache)
    changed = (first / "program.pt").stat().st_mtime_ns
    again = compile_model(
        str(checkpoint("bert")), cache=compile_cache, progress=lambda step, done, total: steps.append(step)
    )
    assert again == first
    assert (first / "program.pt").stat().st_mtime_ns == changed
    assert set(steps) == {"operators", "find", "check", "ready"}


def test_progress_tells_each_step_to_its_end(checkpoint: Checkpoint, fresh_cache: Path) -> None:
    reported: list[tuple[str, int, int]] = []
    compile_model(checkpoint("bert"), cache=fresh_cache, progress=lambda *step: reported.append(step))
    steps = ["operators", "find", "check", "read", "save", "test", "ready"]
    assert list(dict.fromkeys(step for step, _, _ in reported)) == steps
    assert all(0 <= done <= total for _, done, total in reported)
    assert ("read", 1, 1) in reported


@pytest.mark.parametrize(
    "change",
    [
        lambda directory: edit_json(directory / "config.json", layer_norm_eps=1e-6),
        lambda directory: edit_json(directory / "tokenizer_config.json", model_max_length=100),
        lambda directory: edit_json(directory / "tokenizer.json", version="2.0"),
        lambda directory: write_json(directory / "special_tokens_map.json", {"mask_token": "[MASK]"}),
        lambda directory: write_json(directory / "added_tokens.json", {}),
        lambda directory: (directory / "vocab.txt").write_text("a"),
        lambda directory: write_json(directory / "vocab.json", {}),
        lambda directory: (directory / "merges.txt").write_text("a b"),
        lambda directory: (directory / "sentencepiece.bpe.model").write_bytes(b"a"),
        lambda directory: write_json(directory / "sentence_roberta_config.json", {}),
        lambda directory: write_json(directory / "1_Pooling" / "config.json", {"pooling_mode": "cls"}),
        lambda directory: save_file(
            {name: tensor + 1 for name, tensor in load_file(directory / "model.safetensors").items()},
            directory / "model.safetensors",
        ),
    ],
    ids=[
        *("config", "tokenizer_config", "tokenizer", "special_tokens", "added_tokens", "vocab_txt", "vocab_json"),
        *("merges", "sentencepiece", "sentence", "pooling", "weights"),
    ],
)
def test_every_file_that_counts_changes_the_revision(
    copy: Callable[[str], Path], compile_cache: Path, change: Callable[[Path], object]
) -> None:
    directory = sentence_files(copy("bert"))
    before = compile_model(directory, cache=compile_cache)
    change(directory)
    target = targets.choose("float32", "cpu", compile_cache, silent)
    assert revision_of(directory, torch.__version__, target.identity, silent) != before.name


def test_dtype_device_operators_and_code_change_the_revision(
    checkpoint: Checkpoint, compile_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def revision(dtype: str = "float32", device: str = "cpu") -> str:
        target = targets.choose(dtype, device, compile_cache, silent)
        return revision_of(checkpoint("bert"), torch.__version__, target.identity, silent)

    revisions = [revision(), revision("bfloat16"), revision("float16"), revision(device="cuda")]
    with monkeypatch.context() as patched:
        patched.setenv("BERTSTREAM_NATIVE", "0")
        has_native = ModelDescription.load(compile_model(checkpoint("bert"), cache=compile_cache)).native_operators
        assert not has_native
        without = revision()
    assert (without == revisions[0]) == (targets.library_for_cpu(compile_cache) is None)
    monkeypatch.setattr("bertstream.workers.compile.revisions.code_hash", lambda: "other")
    revisions.append(revision())
    assert len(set(revisions)) == len(revisions)


def test_a_copy_elsewhere_has_the_same_revision(
    copy: Callable[[str], Path], checkpoint: Checkpoint, compile_cache: Path
) -> None:
    directory = copy("bert")
    (directory / "README.md").write_text("not part of the model")
    original = compile_model(checkpoint("bert"), cache=compile_cache)
    assert compile_model(directory, cache=compile_cache) == original


def test_failures_leave_nothing_behind(copy: Callable[[str], Path], fresh_cache: Path) -> None:
    directory = copy("bert")
    edit_json(directory / "config.json", intermediate_size=71)
    with pytest.raises(CheckpointError, match=r"intermediate\.weight is \[70, 36\], and config\.json says \[71, 36\]"):
        compile_model(directory, cache=fresh_cache)
    assert list((fresh_cache / "models").iterdir()) == []


@pytest.mark.parametrize(
    ("maker", "heads", "dtype", "flash"),
    [
        (tiny_bert, 3, "float16", True),
        (tiny_bert, 4, "float16", False),
        (tiny_bert, 3, "float32", False),
        (tiny_modernbert, 3, "float16", True),
        (tiny_mpnet, 3, "float16", False),  # the native operators do not add its bias by distance
        (tiny_deberta, 3, "float16", False),  # nor its scores of positions
    ],
)
def test_programs_for_cuda_take_flash_attention_where_it_fits(
    tmp_path: Path, maker: Callable[..., Path], heads: int, dtype: str, flash: bool
) -> None:
    directory = maker(tmp_path / "model", hidden_size=48, num_attention_heads=heads, num_hidden_layers=1)
    compiled = compile_model(directory, dtype=dtype, device="cuda", cache=tmp_path)
    program = torch.jit.load(compiled / "program.pt")
    assert ("_flash_attention_forward" in str(getattr(program.encoder.layers, "0").attention.inlined_graph)) == flash
    if not torch.cuda.is_available():
        assert not ModelDescription.load(compiled).native_operators
        with pytest.raises(ProgramError, match="this process sees no CUDA device"):
            ScriptedProgram.load(compiled, "cuda")


@pytest.fixture
def gpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Pretend that an H100 is here, whose operators are not in use if a reason is given."""
    library = tmp_path / cuda_library.file_name("sm_90")
    library.write_bytes(b"kernels")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: (9, 0))
    monkeypatch.setattr(cuda_library, "build", lambda cache: library)
    started: list[Path] = []

    reasons = [""]

    def start(folder: Path, device: torch.device) -> str:
        started.append(folder)
        return reasons[-1]

    def measure(*_: object) -> PrecisionTest:
        assert started == [library.parent]  # so the library is there to be measured
        return PrecisionTest()

    monkeypatch.setattr(precision, "measure", measure)
    monkeypatch.setattr(cuda_library, "start", start)
    return reasons.append


def for_cuda(dtype: str, cache: Path) -> tuple[targets.Target, list[str]]:
    """Return the target, and the steps that were reported."""
    steps: list[str] = []
    target = targets.choose(dtype, "cuda", cache, lambda *step: steps.append(" ".join(map(str, step))))
    return target, steps


@pytest.mark.usefixtures("gpu")
def test_half_precision_on_a_gpu_takes_our_operators(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(targets, "library_for_cpu", lambda cache: tmp_path / "operators.so")
    for dtype in ("float16", "bfloat16"):
        target, steps = for_cuda(dtype, tmp_path)
        assert target.kernels == tmp_path / cuda_library.file_name("sm_90")
        assert target.operators == Operators(native=True, flash=True, products="plain", epilogue=True)
        assert "sm_90" in target.identity
        assert steps == ["operators 0 2", "operators 1 2"]


@pytest.mark.usefixtures("gpu")
def test_fp8_on_a_gpu_takes_them_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(targets, "library_for_cpu", lambda cache: tmp_path / "operators.so")
    monkeypatch.setattr(gpu_products, "float8_difference", lambda device: "")
    target, _ = for_cuda("fp8", tmp_path)
    assert target.operators == Operators(native=True, flash=True, products="fp8")
    assert (target.states, target.kernels) == (torch.bfloat16, tmp_path / cuda_library.file_name("sm_90"))
    monkeypatch.setattr(gpu_products, "float8_difference", lambda device: "a product fails")
    with pytest.raises(ValueError, match="'fp8' cannot be had: a product fails"):
        for_cuda("fp8", tmp_path)


@pytest.mark.usefixtures("gpu")
def test_float32_and_gpus_without_flash_attention_take_aten_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert for_cuda("float32", tmp_path)[0].operators == Operators()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: (7, 5))
    target, steps = for_cuda("float16", tmp_path)
    assert (target.operators, steps) == (Operators(epilogue=True), [])


def test_without_a_gpu_a_program_for_one_takes_aten_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    target, steps = for_cuda("float16", tmp_path)
    assert (target.operators, steps) == (Operators(flash=True, epilogue=True), [])


def test_operators_that_a_gpu_does_not_use_are_left_out(
    gpu: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(cache: Path) -> Path:
        raise native.NativeError("nvcc was not found")

    monkeypatch.setattr(targets, "library_for_cpu", lambda cache: tmp_path / "operators.so")
    with_them, _ = for_cuda("float16", tmp_path)
    gpu("numbers differ")
    without = [for_cuda("float16", tmp_path)[0]]
    monkeypatch.setattr(cuda_library, "build", refuse)
    without.append(for_cuda("float16", tmp_path)[0])
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert [record.getMessage().rpartition(": ")[2] for record in caplog.records] == [
        "numbers differ",
        "nvcc was not found",
    ]
    monkeypatch.setattr(targets, "library_for_cpu", lambda cache: None)  # native.status() says why
    without.append(for_cuda("float16", tmp_path)[0])
    assert len(caplog.records) == 2
    for target in without:
        assert target.operators == Operators(flash=True, epilogue=True)
        assert target.identity != with_them.identity


@pytest.mark.skipif(not native.status()[0], reason=native.status()[1])
@pytest.mark.usefixtures("gpu")
def test_a_program_for_a_gpu_brings_its_kernels(checkpoint: Checkpoint, compile_cache: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "native").symlink_to(native.build(compile_cache).parent.parent)
    compiled = compile_model(checkpoint("bert"), dtype="bfloat16", device="cuda", cache=tmp_path / "cache")
    assert {file.name for file in compiled.glob("*.so")} == {cuda_library.file_name("sm_90")}
    description = ModelDescription.load(compiled)
    assert (description.native_operators, description.products) == (True, "plain")
    # Its heads of 12 are not for flash attention, so all of it can be run here by the operators of the same names.
    module = load_module(compiled, torch.device("cpu"))
    used = str(getattr(module.encoder.layers, "0").inlined_graph)
    assert [f"bertstream::{name}" in used for name in ("add_gelu_", "add_layer_norm_", "attention", "linear")] == [
        *(True, True, False, False)
    ]
    ids, lengths = torch.arange(5, 65), [20, 20, 7, 13]
    plain = ScriptedProgram.load(compile_model(checkpoint("bert"), cache=compile_cache), "cpu")
    with torch.inference_mode():
        (got,) = module(ids, None, lengths, [5])
    (want,) = plain.hidden_states(ids, None, lengths, [5])
    assert float((got.float() - want).abs().mean()) <= 0.03
    assert float(torch.cosine_similarity(got.float(), want).min()) >= 1 - 0.015


@pytest.mark.parametrize(
    "name",
    [
        "models/bert.py",
        "compile/sources/source.py",
        "native/operators.cpp",
        "native/vectors.h",
        "native/cuda/kernels.cu",
    ],
)
def test_what_decides_on_a_program_is_our_code(name: str, tmp_path: Path) -> None:
    workers = Path(shutil.copytree(Path(revisions.__file__).parents[1], tmp_path / "workers"))
    before = code_hash(workers)
    assert before == code_hash()
    with (workers / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert code_hash(workers) != before


def test_bad_options(checkpoint: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="dtype 'float64' is not one of float32, float16, bfloat16"):
        compile_model(checkpoint("bert"), dtype="float64", cache=tmp_path)
    with pytest.raises(ValueError, match="device 'tpu' is not one of cpu, cuda"):
        compile_model(checkpoint("bert"), device="tpu", cache=tmp_path)


def test_the_cache_s_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BERTSTREAM_CACHE", str(tmp_path / "own"))
    assert default_cache() == tmp_path / "own"
    monkeypatch.delenv("BERTSTREAM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "bertstream"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert default_cache() == Path.home() / ".cache" / "bertstream"


COMPILE = (
    "import sys; from pathlib import Path; from bertstream.workers.compile.compiler import compile_model\n"
    "print(compile_model(sys.argv[1], cache=Path(sys.argv[2])))\n"
    "assert not {'transformers', 'grpc'} & set(sys.modules)"
)


def compiler(source: Path, cache: Path, code: str = COMPILE) -> subprocess.Popen[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "error", "-c", code, str(source), str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


@pytest.mark.slow
def test_two_processes_at_once_make_one_directory(checkpoint: Checkpoint, fresh_cache: Path) -> None:
    racers = [compiler(checkpoint("roberta"), fresh_cache) for _ in range(2)]
    outputs = [racer.communicate(timeout=240) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0], outputs
    assert outputs[0] == outputs[1]
    assert [folder.name for folder in (fresh_cache / "models").iterdir()] == [Path(outputs[0][0].strip()).name]
    ScriptedProgram.load(Path(outputs[0][0].strip()), "cpu")


def test_the_loser_of_a_race_takes_the_winner_s(
    checkpoint: Checkpoint, fresh_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = store.publish

    def beaten(folder: Path, compiled: Path) -> None:
        shutil.copytree(folder, compiled)
        publish(folder, compiled)

    monkeypatch.setattr(store, "publish", beaten)
    compiled = compile_model(checkpoint("bert"), cache=fresh_cache)
    assert list((fresh_cache / "models").iterdir()) == [compiled]
    ScriptedProgram.load(compiled, "cpu")


HANG = (
    "import sys, time; from pathlib import Path; from bertstream.workers.compile import compiler as compile\n"
    "compile.store.publish = lambda folder, compiled: (print(folder, flush=True), time.sleep(600))\n"
    "compile.compile_model(sys.argv[1], cache=Path(sys.argv[2]))"
)


def test_what_a_killed_compiler_leaves_is_never_used_and_swept_up(checkpoint: Checkpoint, fresh_cache: Path) -> None:
    victim = compiler(checkpoint("bert"), fresh_cache, HANG)
    assert victim.stdout is not None
    left = Path(victim.stdout.readline().strip())
    victim.kill()
    victim.communicate()
    (left / "program.pt").write_bytes(b"half")
    compiled = compile_model(checkpoint("bert"), cache=fresh_cache)
    ScriptedProgram.load(compiled, "cpu")
    assert left.exists()  # it might belong to another process that is at work
    old = time.time() - 2 * store.ABANDONED_SECONDS
    os.utime(left, (old, old))
    compile_model(checkpoint("roberta"), cache=fresh_cache)
    assert not left.exists()
    assert compiled.exists()


def test_torch_s_deprecations_stay_inside(checkpoint: Checkpoint, fresh_cache: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ScriptedProgram.load(compile_model(checkpoint("bert"), cache=fresh_cache), "cpu")
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.parametrize("activation", ["gelu_pytorch_tanh", "gelu_fast", "relu", "silu", "tanh"])
def test_activations_have_transformers_numbers(activation: str) -> None:
    from transformers.activations import ACT2FN

    from bertstream.workers.models.activations import Activation

    x = torch.linspace(-6, 6, 1001)
    ours = torch.jit.script(Activation(activation))(x.clone())
    assert float((ours - ACT2FN[activation](x)).abs().max()) <= 1e-6


def test_a_model_of_many_layers_and_no_segments_compiles(tmp_path: Path, fresh_cache: Path) -> None:
    directory = tiny_bert(tmp_path / "deep", num_hidden_layers=13, type_vocab_size=1)
    found = ModelDescription.load(compile_model(directory, cache=fresh_cache))
    assert (found.layers, found.type_vocabulary_size) == (13, 1)
