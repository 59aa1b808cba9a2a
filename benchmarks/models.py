"""The checkpoints that are measured, as directories that all contenders can read."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from benchmarks.peers.caching import cached_folder
from benchmarks.workloads import MAX_LENGTH, Counter
from bertstream.workers.compile.checkpoints import embedded


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A checkpoint, and the cost of a token relative to all-MiniLM-L6-v2."""

    name: str
    make: Callable[[Path], None]  # fills a directory
    cost: float
    real: bool  # whether its weights are trained, so that its vectors are meaningful


def minilm(folder: Path) -> None:
    """Copy the embedded model, with a maximum length of all its positions."""
    shutil.copytree(embedded(), folder, dirs_exist_ok=True)
    _mend(folder)


def random_bert(folder: Path, architecture: str = "BertModel", **config: Any) -> None:
    """Make a model with random weights, by default a BERT of base's shape, with the embedded model's tokenizer."""
    import torch
    import transformers  # takes seconds to import, and is needed only once

    shutil.copytree(embedded(), folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("model.safetensors"))
    torch.manual_seed(0)
    kind = getattr(transformers, architecture)
    kind(kind.config_class(**config)).save_pretrained(folder)
    _mend(folder)


SMALL: dict[str, Any] = {  # all-MiniLM-L6-v2's
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
}
BASE: dict[str, Any] = {}
TINY: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 128}
MODELS = {
    model.name: model
    for model in (
        ModelSpec("all-MiniLM-L6-v2", minilm, cost=1.0, real=True),
        ModelSpec("bert-base", random_bert, cost=8.0, real=False),
        ModelSpec("tiny", partial(random_bert, **TINY), cost=0.05, real=False),
    )
}


def directory(model: ModelSpec, cache: Path) -> Path:
    """Return the directory of a checkpoint, which is made the first time."""
    return cached_folder(cache / "models" / model.name, model.make)


def token_counter(checkpoint: Path) -> Counter:
    """Return a function that counts the tokens of texts, including special ones, without cutting."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()

    def count(texts: Sequence[str]) -> list[int]:
        return [len(encoding.ids) for encoding in tokenizer.encode_batch(list(texts))]

    return count


def _mend(folder: Path) -> None:
    """Let the model take as many tokens as it has positions, and add a setting that some converters ask for."""
    # The embedded model cuts at 256 by its own settings.
    _edit(folder / "sentence_bert_config.json", max_seq_length=MAX_LENGTH)
    _edit(folder / "config.json", position_embedding_type="absolute")


def _edit(path: Path, **changes: object) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(values | changes), encoding="utf-8")
