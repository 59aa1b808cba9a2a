"""The description of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.machine import describe, driver_version
from bertstream.workers.native import processor


def test_a_driver_says_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert driver_version() == ""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 550.54.14\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert driver_version() == "550.54.14"


def test_where_no_gpu_is_used_nothing_is_said_of_one() -> None:
    found = describe("cpu")
    assert (found.gpu, found.driver, found.cuda) == ("", "", "")
    assert found.cores >= 1


def test_the_kind_of_processor_is_told_and_whether_it_is_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (processor.SWITCH, processor.AMX_SWITCH, "ATEN_CPU_CAPABILITY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    known = frozenset({"avx2", "fma", "f16c", "avx512f", "avx512dq", "avx512vl", "avx512bw", "avx512_vnni"})
    monkeypatch.setattr(processor, "flags", lambda: known)
    found = describe("cpu")
    assert (found.kind, found.forced) == ("AVX-512 + VNNI", False)
    monkeypatch.setenv(processor.SWITCH, "avx2")
    forced = describe("cpu")
    assert (forced.kind, forced.forced) == ("AVX2", True)
    assert forced.slug == f"{found.slug}-as-avx2"
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    monkeypatch.delenv(processor.SWITCH)
    assert describe("cpu").kind == "aarch64"
