"""Serve a tiny model under each name that the documents and the examples use, with the same heads."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bertstream.server.config import FIELDS
from bertstream.workers.compile.checkpoints import embedded
from bertstream.workers.compile.compiling import EMBEDDED_NAME
from tests.support.checkpoints import tiny_distilbert
from tests.support.generation_checkpoints import tiny_bert2bert, tiny_causal
from tests.support.heads import labels
from tests.support.hosted import LIMITS, free_port, hosted
from tests.support.markdown import Documented

Make = Callable[[Path], Path]

# The documents' name -> a tiny checkpoint of tests/conftest.py.
CHECKPOINTS = {
    "bert-base-uncased": "bert-pretraining",
    "nli": "roberta-nli",
    "reranker": "bert-cross-encoder",
    "ner": "bert-cased-ner",
    "qa": "roberta-qa",
    "choice": "roberta-choice",
    "gliner": "gliner-bert",
}
# Or a function that makes one.
MAKERS: Mapping[str, Make] = {
    "sentiment": lambda folder: tiny_distilbert(
        folder, architecture="DistilBertForSequenceClassification", **labels("NEGATIVE", "POSITIVE")
    ),
    "writer": tiny_causal,
    "summarizer": tiny_bert2bert,
}
NAMES = (EMBEDDED_NAME, *CHECKPOINTS, *MAKERS)


@contextmanager
def served_as_documented(checkpoint: Callable[[str], Path], cache: Path, folder: Path) -> Iterator[Documented]:
    """Serve all of them, by gRPC and by HTTP, with a server's default limits."""
    models = {EMBEDDED_NAME: embedded()}
    models |= {name: checkpoint(known) for name, known in CHECKPOINTS.items()}
    models |= {name: make(folder / name) for name, make in MAKERS.items()}
    limits: dict[str, Any] = {name: FIELDS[name].default for name in LIMITS.__dataclass_fields__}
    port = free_port()
    with tempfile.TemporaryDirectory() as sockets, hosted(models, cache, Path(sockets), port, **limits) as address:
        yield Documented(address, f"127.0.0.1:{port}")
