"""The page of models names the modules that are refused, and no other is refused by its kind."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bertstream.workers.compile.checkpoints import read_sentence_settings
from tests.support.checkpoints import sentence_files, tiny_bert
from tests.support.markdown import ROOT
from tests.support.sentence import HIDDEN, add_module

PAGE = (
    (ROOT / "docs" / "models.md")
    .read_text("utf-8")
    .split("## Modules of sentence-transformers", 1)[1]
    .split("\n## ", 1)[0]
)
ROWS = [row.strip("|").split("|") for row in PAGE.splitlines() if row.startswith("| ") and "refused by name" in row]
REFUSED = re.findall(r"`(\w+)`", ROWS[0][0])


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("documented") / "base", num_hidden_layers=1)


def test_there_are_some() -> None:
    assert len(ROWS) == 1
    assert {"CNN", "LSTM", "StaticEmbedding"} <= set(REFUSED)


@pytest.mark.parametrize("kind", REFUSED)
def test_each_is_refused_by_its_name(tmp_path: Path, kind: str) -> None:
    add_module(sentence_files(tmp_path, normalize=False), kind, f"2_{kind}")
    assert read_sentence_settings(tmp_path, HIDDEN).unsupported == (f"module {kind} (2_{kind})",)
