"""What is said of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.machine import describe, driver_version

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build  (dvs-builder@U22)\n"
CLOSED = (
    "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC 2023\nGCC version:  gcc 12\n"
)


@pytest.mark.parametrize(("said", "version"), [(OPEN, "570.86.15"), (CLOSED, "535.104.05")])
def test_a_driver_says_its_version(tmp_path: Path, said: str, version: str) -> None:
    (tmp_path / "version").write_text(said)
    assert driver_version(tmp_path / "version") == version


def test_a_driver_that_is_hidden_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert driver_version(tmp_path / "version") == ""
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho 550.54.14\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    assert driver_version(tmp_path / "version") == "550.54.14"


def test_where_no_gpu_is_used_nothing_is_said_of_one() -> None:
    found = describe("cpu")
    assert (found.gpu, found.driver, found.cuda) == ("", "", "")
    assert found.cores >= 1
