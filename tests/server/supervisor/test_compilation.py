"""The compiler's process, and what it may ask of the hub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bertstream.server.supervisor.compilation import run_compiler
from bertstream.workers.compile.compiling import CompileModel, CompileTask
from bertstream.workers.process.child import ChildFailed


async def test_a_checkpoint_that_names_another_has_nobody_ask_the_hub_where_that_is_not_allowed(
    compile_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have the hub be an address where nobody listens, which is told of where it was asked."""
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    checkpoint = tmp_path / "named"
    checkpoint.mkdir()
    (checkpoint / "gliner_config.json").write_text(json.dumps({"model_name": "someone/encoder"}))
    task = CompileTask((CompileModel("named", str(checkpoint), "cpu", "float32"),), str(compile_cache))
    with pytest.raises(ChildFailed, match=r"of its encoder, someone/encoder: .*HF_HUB_OFFLINE"):
        await run_compiler(task, lambda _: None, may_use_hub=False)
