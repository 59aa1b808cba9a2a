"""Test that what is compiled already is found without torch, and that nothing is found that torch would not find."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bertstream.workers import native
from bertstream.workers.compile import known_targets
from bertstream.workers.compile.compiling import Compiled, CompileModel, CompileTask, compile_all, find_compiled
from bertstream.workers.compile.known_targets import KnownTarget, KnownTargets, circumstances_here, may_have_gpus
from bertstream.workers.native import processor
from bertstream.workers.native.library import compiler
from bertstream.workers.trust.ownership import TrustError
from bertstream.workers.trust.seal import seal
from tests.support.checkpoints import edit_json

TARGET = KnownTarget("2.0", "float32 cpu", "native")
COMPILE = """
import json, sys
from bertstream.workers.compile.compiling import CompileModel, CompileTask, compile_all, find_compiled
source, cache, options = sys.argv[1:]
model = CompileModel("tiny", source, **{"device": "auto", "dtype": "auto", **json.loads(options)})
compiled = compile_all(CompileTask((model,), cache), lambda at: None)
model = compiled.models[0]
print(json.dumps([model.directory, model.operators, compiled.devices, compiled.operators, "torch" in sys.modules]))
"""


@pytest.fixture(scope="module")
def compiled(checkpoint: Callable[[str], Path], compile_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache that has a tiny model and its target, both made by a process of their own."""
    cache = tmp_path_factory.mktemp("known") / "cache"
    cache.mkdir()
    with contextlib.suppress(native.NativeError):
        native.build(compile_cache)
        (cache / "native").symlink_to(compile_cache / "native")
    assert run(checkpoint("bert"), cache)[-1] is True
    return cache


@pytest.fixture
def copy(compiled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(compiled, tmp_path / "copy", symlinks=True))


def run(source: Path, cache: Path, within: Path | None = None, **options: object) -> list[Any]:
    """Compile in a fresh process, which runs in a folder.

    Returns the model's directory and library, the GPUs, the operators, and whether torch was loaded.
    """
    command = [sys.executable, "-c", COMPILE, str(source), str(cache), json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, cwd=within)
    assert done.returncode == 0, done.stderr
    return list(json.loads(done.stdout))


pytestmark = pytest.mark.skipif(not circumstances_here(), reason="torch is needed to tell what there is here")


def test_what_is_compiled_is_found_without_torch(checkpoint: Callable[[str], Path], compiled: Path) -> None:
    source = CompileModel("tiny", str(checkpoint("bert")), "cpu", "auto")
    with pytest.MonkeyPatch.context() as patch:  # as torch finds it
        patch.setattr(known_targets, "may_have_gpus", lambda torch_folder: True)
        want = compile_all(CompileTask((source,), str(compiled)), lambda at: None)
    directory, _, devices, operators, has_torch = run(checkpoint("bert"), compiled)
    assert (directory, devices, operators) == (want.models[0].directory, 0, want.operators)
    assert has_torch is False
    again = found(checkpoint("bert"), compiled)
    assert again is not None
    assert Path(again.models[0].operators).samefile(want.models[0].operators)
    assert again.models[0].cpu_instructions == want.models[0].cpu_instructions


def found(source: Path, cache: Path, **options: Any) -> Compiled | None:
    """Return what is found without torch; None where the rest is to be done, which needs it."""
    model = CompileModel("tiny", str(source), **{"device": "auto", "dtype": "auto", **options})
    task = CompileTask((model,), str(cache))
    return find_compiled(task, KnownTargets.here(cache), lambda model: Path(model.source), lambda at: None)


def test_it_is_found_while_nothing_has_changed(checkpoint: Callable[[str], Path], compiled: Path) -> None:
    assert found(checkpoint("bert"), compiled) is not None


@pytest.mark.parametrize("options", [{"dtype": "bfloat16"}, {"allow_unsupported_modules": True}, {"task": "fill_mask"}])
def test_other_options_need_torch(
    checkpoint: Callable[[str], Path], compiled: Path, options: dict[str, object]
) -> None:
    assert found(checkpoint("bert"), compiled, **options) is None


def test_a_changed_checkpoint_needs_torch(checkpoint: Callable[[str], Path], compiled: Path, tmp_path: Path) -> None:
    changed = Path(shutil.copytree(checkpoint("bert"), tmp_path / "changed"))
    assert found(changed, compiled) is not None
    edit_json(changed / "config.json", layer_norm_eps=1e-6)
    assert found(changed, compiled) is None


@pytest.mark.parametrize("name", native.SWITCHES)
def test_another_environment_needs_torch(
    checkpoint: Callable[[str], Path], compiled: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "0")
    assert found(checkpoint("bert"), compiled) is None


def test_other_circumstances_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = [circumstances_here()]

    def differs(name: str, value: object) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(name, value)
            seen.append(circumstances_here())

    other = tmp_path / "cpuinfo"
    other.write_text("processor\t: 0\nflags\t\t: fpu avx2\n\nprocessor\t: 1\n")
    package = "bertstream.workers.compile.known_targets"
    differs(f"{package}.PROCESSORS", other)
    differs("importlib.metadata.version", lambda name: "1.0")
    differs("platform.release", lambda: "0.1")
    differs(f"{package}.compiler", lambda: "/bin/echo")
    differs(f"{package}.code_hash", lambda: "other code")
    assert len(set(seen)) == len(seen)
    assert circumstances_here() == seen[0]
    differs(f"{package}.PROCESSORS", tmp_path / "none")
    differs(f"{package}.may_have_gpus", lambda torch_folder: True)
    assert seen[-2:] == ["", ""]


def test_nothing_is_recalled_where_nothing_can_be_told(tmp_path: Path) -> None:
    known = KnownTargets(tmp_path, "")
    known.remember("float32", TARGET)
    assert known.recall("float32") is None
    assert list(tmp_path.iterdir()) == []


def test_a_target_is_recalled_in_its_own_circumstances_alone(tmp_path: Path) -> None:
    KnownTargets(tmp_path, "here").remember("float32", TARGET)
    assert KnownTargets(tmp_path, "here").recall("float32") == TARGET
    assert KnownTargets(tmp_path, "here").recall("bfloat16") is None
    assert KnownTargets(tmp_path, "there").recall("float32") is None


def test_a_damaged_record_is_put_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    known = KnownTargets(tmp_path, "here")
    known.remember("float32", TARGET)
    (path,) = (tmp_path / "targets").glob("*/target.json")
    path.write_bytes(path.read_bytes().replace(b"2.0", b"3.0"))
    assert known.recall("float32") is None
    assert "has other content than was written" in caplog.text
    known.remember("float32", TARGET)
    assert known.recall("float32") == TARGET


def test_no_record_is_believed_where_others_may_write(tmp_path: Path) -> None:
    known = KnownTargets(tmp_path, "here")
    known.remember("float32", TARGET)
    (tmp_path / "targets").chmod(0o777)
    with pytest.raises(TrustError, match="may be written to by others"):
        known.recall("float32")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_cache_that_cannot_be_written_to_is_no_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    KnownTargets(tmp_path, "here").remember("float32", TARGET)
    assert KnownTargets(tmp_path, "here").recall("float32") is None


def test_a_damaged_model_needs_torch(checkpoint: Callable[[str], Path], copy: Path) -> None:
    (weights,) = (copy / "models").glob("*/weights.bin")
    content = bytearray(weights.read_bytes())
    content[-2] ^= 0x40
    weights.write_bytes(content)
    assert found(checkpoint("bert"), copy) is None
    assert not weights.exists()  # put aside, to be made anew


needs_operators = pytest.mark.skipif(not native.status()[0], reason=native.status()[1])


@needs_operators
def test_a_damaged_library_needs_torch(checkpoint: Callable[[str], Path], compiled: Path, copy: Path) -> None:
    (copy / "native").unlink()  # the link to what all tests share
    shutil.copytree(compiled / "native", copy / "native")
    target = KnownTargets.here(copy).recall("float32")
    assert target is not None
    assert found(checkpoint("bert"), copy) is not None
    library = Path(target.library)
    library.write_bytes(b"planted")
    assert found(checkpoint("bert"), copy) is None
    assert not library.exists()  # put aside


@needs_operators
def test_a_cache_that_was_copied_or_renamed_has_its_own_operators(
    checkpoint: Callable[[str], Path], copy: Path, tmp_path: Path
) -> None:
    for cache in (copy, tmp_path / "renamed"):
        if not cache.exists():
            copy.rename(cache)
        again = found(checkpoint("bert"), cache)
        assert again is not None
        assert Path(again.models[0].operators).is_relative_to(cache / "native")
        assert Path(again.models[0].operators).exists()


@needs_operators
def test_a_cache_may_be_named_by_a_relative_path(checkpoint: Callable[[str], Path], copy: Path, tmp_path: Path) -> None:
    shutil.rmtree(copy / "targets")
    (tmp_path / "elsewhere").mkdir()
    for cache, within, first in (
        (Path("copy"), tmp_path, True),
        (Path("copy"), tmp_path, False),
        (Path("../copy"), tmp_path / "elsewhere", False),
        (copy, Path("/"), False),
    ):
        directory, library, *_, has_torch = run(checkpoint("bert"), cache, within)
        assert has_torch is first
        for path in (directory, library):
            assert Path(path).is_relative_to(cache)
            assert (within / path).exists()


def test_a_library_is_remembered_by_its_place_in_the_cache(tmp_path: Path) -> None:
    target = dataclasses.replace(TARGET, library=str(tmp_path / "one" / "native" / "a" / "operators.so"))
    KnownTargets(tmp_path / "one", "here").remember("float32", target)
    (tmp_path / "one").rename(tmp_path / "two")
    assert KnownTargets(tmp_path / "two", "here").recall("float32") == dataclasses.replace(
        target, library=str(tmp_path / "two" / "native" / "a" / "operators.so")
    )


def test_a_library_outside_of_the_cache_is_not_remembered(tmp_path: Path) -> None:
    known = KnownTargets(tmp_path / "cache", "here")
    known.remember("float32", dataclasses.replace(TARGET, library=str(tmp_path / "native" / "a" / "operators.so")))
    assert known.recall("float32") is None


@pytest.mark.parametrize(
    "library", ["/elsewhere/a/operators.so", "../operators.so", "a/../../b/operators.so", "../native/a/b.so", "b.so"]
)
def test_a_record_that_leaves_the_cache_is_put_aside(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, library: str
) -> None:
    known = KnownTargets(tmp_path, "here")
    known.remember("float32", TARGET)
    (record,) = (tmp_path / "targets").glob("*/target.json")
    edit_json(record, library=library)
    seal(record.parent)
    assert known.recall("float32") is None
    assert f"the library {library} is not one of {tmp_path / 'native'}" in caplog.text
    assert not record.exists()


def test_a_record_that_does_not_serve_is_replaced(tmp_path: Path) -> None:
    known, other = KnownTargets(tmp_path, "here"), dataclasses.replace(TARGET, identity="float32 cpu, without AMX")
    for target in (TARGET, other, other):
        known.remember("float32", target)
        assert known.recall("float32") == target
    (record,) = (tmp_path / "targets").glob("[!.]*/target.json")
    written = record.stat().st_mtime_ns
    known.remember("float32", other)
    assert record.stat().st_mtime_ns == written  # not for nothing


def test_operators_that_failed_are_tried_again(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "failures", ["the library cannot be loaded"])
    source = CompileModel("tiny", str(checkpoint("bert")), "cpu", "float16")
    compile_all(CompileTask((source,), str(tmp_path)), lambda at: None)
    assert (tmp_path / "models").exists()
    assert not (tmp_path / "targets").exists()


@pytest.mark.parametrize("why", ["switched off", "none of the instructions", "no C++ compiler found"])
def test_a_start_that_has_no_operators_needs_no_torch_the_next_time(
    checkpoint: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "switched off":
        monkeypatch.setenv("BERTSTREAM_NATIVE", "0")
    elif why == "no C++ compiler found":
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CXX", raising=False)
        compiler.cache_clear()
    else:
        monkeypatch.setattr("platform.machine", lambda: "x86_64")
        monkeypatch.setattr(processor, "flags", lambda: frozenset({"sse4_2"}))
        why = "the processor has no AVX2"
    source = CompileModel("tiny", str(checkpoint("bert")), "cpu", "float32")
    first = compile_all(CompileTask((source,), str(tmp_path / "cache")), lambda at: None)
    compiler.cache_clear()
    assert why in first.operators
    assert found(checkpoint("bert"), tmp_path / "cache") == first


@pytest.mark.parametrize(
    ("libraries", "may"),
    [
        (["libtorch_cpu.so"], False),
        (["libtorch_cpu.so", "libtorch_cuda.so"], "driver"),
        (["libtorch_cpu.so", "libtorch_hip.so"], True),
        ([], True),  # a torch of another layout
    ],
)
def test_whether_there_may_be_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, libraries: list[str], may: bool | str
) -> None:
    (tmp_path / "lib").mkdir()
    for name in libraries:
        (tmp_path / "lib" / name).touch()
    for driver, there in (("libc.so.6", True), ("libnone.so.0", False)):
        monkeypatch.setattr(known_targets, "CUDA_DRIVER", driver)
        assert may_have_gpus(tmp_path) is (there if may == "driver" else may)
