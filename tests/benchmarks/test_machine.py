"""The description of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.machine import describe, driver_version


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
