"""Clients of Triton and of KServe work unchanged: the numbers are those of our own client."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from bertstream.client import Client
from tests.support.imports import ROOT

MODEL = "all-MiniLM-L6-v2"
TEXTS = ["The quick brown fox", "jumps over the lazy dog", "A model server answers questions"]


def answers_of(script: str, address: str) -> Any:
    command = [sys.executable, "-m", f"tests.support.{script}", address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def same(given: Any, ours: Any) -> None:
    np.testing.assert_array_equal(np.array(given, np.float32), ours)


def close(given: Any, ours: Any) -> None:
    """Assert that numbers are the same but for what is computed together with others."""
    np.testing.assert_allclose(np.array(given, np.float32), np.array(ours), atol=1e-6)


def test_tritonclient(documented: str) -> None:
    told = answers_of("triton_client", documented)
    assert (told["live"], told["absent"], told["server"]) == ([True] * 3, False, "bertstream")
    assert told["outputs"] == ["embeddings", "token_count"]
    assert told["config"][1] == ["text"]
    assert told["id"] == "seven"
    assert told["statistics"] >= len(TEXTS) + 1
    with Client(documented) as client:
        assert told["config"][0] == client.model(MODEL).limits.max_texts
        assert told["index"] == [model.name for model in client.models()]
        assert told["counts"] == [len(each.token_ids) for each in client.tokenize(TEXTS)]
        same(told["plain"], client.encode(TEXTS, normalize=False))
        same(told["aio"], client.encode(TEXTS))
        alone = [client.encode([text]) for text in TEXTS]
        close(told["aio_stream"], alone)
        *streamed, failed = told["stream"]
        assert [id for id, _ in streamed] == ["0", "1", "2"]
        close([vectors for _, vectors in streamed], alone)
        assert failed.startswith("MODEL_NOT_FOUND: there is no model 'nothing'")
        best = [labels[0] for labels in client.classify(TEXTS, model="nli")]
    assert [label.split(":")[2] for label in told["labels"]] == [each.label for each in best]


@pytest.mark.skipif(importlib.util.find_spec("kserve") is None, reason="kserve is not installed: it needs much besides")
def test_kserve(documented: str) -> None:
    told = answers_of("kserve_client", documented)
    assert (told["live"], told["ids"]) == ([True] * 3, ["raw", "typed"])
    with Client(documented) as client:
        same(told["vectors"]["raw"], client.encode(TEXTS))
        same(told["vectors"]["typed"], client.encode(TEXTS))
