"""Make checkpoints that give a vector of each token (ColBERT), in the files of each library that saves them."""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import MultiVectorEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask
from torch import Tensor, nn

from tests.support.checkpoints import edit_json, write_json
from tests.support.sentence import HIDDEN, dense, save_sentence

WIDTH = 20  # of a token's vector
MARKERS = ("[unused0]", "[unused1]")


def _projection(
    inputs: int = HIDDEN, outputs: int = WIDTH, activation: nn.Module | None = None, **options: Any
) -> Dense:
    tokens = {"module_input_name": "token_embeddings", "bias": False, **options}
    return dense(inputs, outputs, activation or nn.Identity(), **tokens)


def save_multi_vector(directory: Path, base: Path, *modules: nn.Module, **options: Any) -> Path:
    """Save a MultiVectorEncoder of these modules after the encoder of `base`; options are of the two."""
    own = {
        name: options.pop(name) for name in ("query_length", "document_length", "query_expansion") if name in options
    }
    model = MultiVectorEncoder(modules=[Transformer(str(base), **own), *modules], device="cpu", **options)
    model.save_pretrained(str(directory), create_model_card=False)
    return directory


def with_unused_tokens(directory: Path, base: Path) -> Path:
    """Copy a checkpoint, and name two tokens of its vocabulary as those that BERT has left unused."""
    shutil.copytree(base, directory)
    path = directory / "tokenizer.json"
    definition = json.loads(path.read_text(encoding="utf-8"))
    vocabulary = definition["model"]["vocab"]
    for name, marker in zip(sorted(vocabulary, key=vocabulary.get)[-2:], MARKERS, strict=True):
        vocabulary[marker] = vocabulary.pop(name)
    write_json(path, definition)
    return directory


def _native(directory: Path, base: Path) -> Path:
    """Expand queries by masks that are not attended to, and skip punctuation in documents."""
    expansion = {"strategy": "fixed", "attend": False, "length": 12}
    modules = (_projection(), MultiVectorMask(list(string.punctuation)), Normalize("token_embeddings"))
    prompts = {"query": "find: ", "document": "text: "}
    return save_multi_vector(directory, base, *modules, query_expansion=expansion, document_length=40, prompts=prompts)


def _at_least(directory: Path, base: Path) -> Path:
    """Expand short queries alone, by tokens that are attended to, and skip words in queries too."""
    expansion = {"strategy": "min", "attend": True, "length": 9, "token": "[SEP]"}
    mask = MultiVectorMask([",", "the"], skiplist_tasks=["query", "document"])
    modules = (_projection(HIDDEN, 30, nn.GELU(), bias=True), _projection(30), mask)
    return save_multi_vector(
        directory, base, *modules, query_expansion=expansion, query_length=16, similarity_fn_name="meanmaxsim"
    )


def _pylate(directory: Path, base: Path) -> Path:
    """Save a Transformer and a Dense alone, and settings for the whole, as PyLate does."""
    changed = with_unused_tokens(directory.with_name(f"{directory.name}-base"), base)
    save_sentence(directory, changed, _projection())
    modules = json.loads((directory / "modules.json").read_text())
    modules[1]["type"] = "pylate.models.Dense.Dense"
    write_json(directory / "modules.json", modules)
    settings = {"query_prefix": "[unused0]", "document_prefix": "[unused1]", "query_length": 14, "document_length": 50}
    own = {"model_type": "ColBERT", "similarity_fn_name": "MaxSim", "attend_to_expansion_tokens": False}
    edit_json(directory / "config_sentence_transformers.json", **settings, **own)
    return directory


def _stanford(directory: Path, base: Path) -> Path:
    """Save the projection among the encoder's weights, and settings beside them, as Stanford's ColBERT does."""
    with_unused_tokens(directory, base)
    weights = {f"bert.{name}": each for name, each in load_file(directory / "model.safetensors").items()}
    weights["linear.weight"] = projection_matrix()
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    edit_json(directory / "config.json", architectures=["HF_ColBERT"])
    settings = {"query_maxlen": 15, "doc_maxlen": 45, "dim": WIDTH, "mask_punctuation": True, "similarity": "cosine"}
    markers = {"query_token_id": MARKERS[0], "doc_token_id": MARKERS[1], "attend_to_mask_tokens": False}
    (directory / "artifact.metadata").write_text(json.dumps(settings | markers))
    return directory


def projection_matrix() -> Tensor:
    """Return the projection of Stanford's checkpoint, [WIDTH, HIDDEN]."""
    return torch.randn(WIDTH, HIDDEN, generator=torch.Generator().manual_seed(5)) * 0.2


# By name, what makes a checkpoint from that of an encoder of BERT's.
MULTI_VECTOR_MAKERS: dict[str, Callable[[Path, Path], Path]] = {
    "native": _native,
    "at-least": _at_least,
    "pylate": _pylate,
    "stanford": _stanford,
}


def bge_m3(directory: Path, base: Path) -> Path:
    """Add to an XLM-RoBERTa the two linear layers of BGE-M3, as its authors save them."""
    shutil.copytree(base, directory)
    generator = torch.Generator().manual_seed(9)
    for name, outputs in (("colbert_linear.pt", HIDDEN), ("sparse_linear.pt", 1)):
        linear = nn.Linear(HIDDEN, outputs)
        with torch.no_grad():
            for parameter in linear.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        torch.save(linear.state_dict(), directory / name)
    return directory
