"""Serve what others' APIs are asked for: models of each kind, by gRPC and by HTTP."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentence_transformers.sentence_transformer.modules import Pooling

from tests.support.generation_checkpoints import tiny_causal
from tests.support.hosted import free_port, hosted
from tests.support.multi_vector import MULTI_VECTOR_MAKERS
from tests.support.sentence import HIDDEN, save_sentence, save_sparse
from tests.support.web import JSON, Answer, ask

PROMPTS = {"query": "The quick ", "passage": "lazy dog: "}
MAX_TEXTS, MAX_REQUEST_BYTES = 64, 1 << 18


@dataclass(frozen=True, slots=True)
class ServedApis:
    """Where the server is."""

    address: str  # of gRPC
    url: str  # of HTTP, without a slash at the end
    sparse: Path  # the checkpoint of `splade`
    models: tuple[str, ...]  # their names, in the server's order

    def get(self, path: str, **headers: str) -> Answer:
        """Return what a GET gives; headers have underscores in place of hyphens."""
        return ask(self.url + path, None, _spelt(headers))

    def post(self, path: str, body: Any, **headers: str) -> Answer:
        """Return what a POST of this body gives: bytes as they are, all else as JSON."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return ask(self.url + path, raw, JSON | _spelt(headers))


@contextmanager
def served_apis(checkpoint: Callable[[str], Path], cache: Path, folder: Path) -> Iterator[ServedApis]:
    """Serve them; the first model has neither labels of texts nor a prompt."""
    made, port = folder / "prompts", free_port()
    save_sentence(made, checkpoint("bert"), Pooling(HIDDEN, "mean"), prompts=PROMPTS, default_prompt_name="passage")
    sparse: dict[str, Any] = {"prompts": PROMPTS, "default_prompt_name": "query", "max_active_dims": 50}
    models = {
        "words": checkpoint("bert-cased-ner"),
        "prompts": made,
        "reranker": checkpoint("bert-cross-encoder"),
        "topics": checkpoint("bert-classifier"),
        "many": checkpoint("bert-multi-label"),
        "numbers": checkpoint("distilbert-regression"),
        "mlm": checkpoint("roberta-mlm"),
        "splade": save_sparse(folder / "splade", checkpoint("bert-mlm"), "sum", "log1p_relu", **sparse),
        "next": checkpoint("bert-nsp"),
        "answers": checkpoint("roberta-qa"),
        "choices": checkpoint("roberta-choice"),
        "nli": checkpoint("roberta-nli"),
        "writer": tiny_causal(folder / "writer"),
        "colbert": MULTI_VECTOR_MAKERS["native"](folder / "colbert", checkpoint("bert")),
    }
    limits = {"max_texts": MAX_TEXTS, "max_request_bytes": MAX_REQUEST_BYTES}
    with (
        tempfile.TemporaryDirectory() as sockets,
        hosted(models, cache, Path(sockets), port, **limits) as address,
    ):
        yield ServedApis(address, f"http://127.0.0.1:{port}", folder / "splade", tuple(models))


def _spelt(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
