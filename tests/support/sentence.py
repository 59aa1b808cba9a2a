"""Make checkpoints with modules of sentence-transformers, as the installed release and earlier ones save them."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import CrossEncoder, SentenceTransformer, SparseEncoder
from sentence_transformers.base.modules import Dense, Normalize, Transformer
from sentence_transformers.sentence_transformer.modules import Dropout, LayerNorm, Pooling
from sentence_transformers.sparse_encoder.modules import SpladePooling
from torch import nn

from tests.support.checkpoints import edit_json, write_json

HIDDEN = 36  # of tiny checkpoints
Checkpoint = Callable[[str], Path]
TRANSFORMER_FOLDER = "0_Transformer"


def dense(inputs: int, outputs: int, activation: nn.Module | None = None, **options: Any) -> Dense:
    """Return a Dense with weights that are the same each time, and large enough to matter."""
    made = Dense(inputs, outputs, activation_function=activation or nn.Tanh(), **options)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(inputs * 1000 + outputs)
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
    return made


def layer_norm(size: int) -> LayerNorm:
    """Return a LayerNorm with weights other than 1 and 0."""
    made = LayerNorm(size)
    with torch.no_grad():
        made.norm.weight.copy_(torch.linspace(0.5, 1.5, size))
        made.norm.bias.copy_(torch.linspace(-0.2, 0.3, size))
    return made


def save_sentence(
    directory: Path, base: Path, *modules: nn.Module, prompts: dict[str, str] | None = None, **options: Any
) -> Path:
    """Save a SentenceTransformer of these modules after the encoder of `base`."""
    parts = [Transformer(str(base)), *modules]
    safe = options.pop("safe_serialization", True)
    model = SentenceTransformer(modules=parts, device="cpu", prompts=prompts, **options)
    model.save(str(directory), create_model_card=False, safe_serialization=safe)
    return directory


def save_pairs(directory: Path, base: Path, *modules: nn.Module, **options: Any) -> Path:
    """Save a CrossEncoder of these modules after the encoder of `base`, or of its own head."""
    task = "feature-extraction" if modules else "sequence-classification"
    model = CrossEncoder(modules=[Transformer(str(base), transformer_task=task), *modules], device="cpu", **options)
    model.save_pretrained(str(directory))
    return directory


def save_sparse(directory: Path, base: Path, strategy: Any = "max", activation: Any = "relu", **options: Any) -> Path:
    """Save a SparseEncoder of the masked language model `base`."""
    modules = [Transformer(str(base), transformer_task="fill-mask"), SpladePooling(strategy, activation)]
    SparseEncoder(modules=modules, device="cpu", **options).save_pretrained(str(directory), create_model_card=False)
    return directory


def in_a_folder(directory: Path, folder: str = TRANSFORMER_FOLDER) -> Path:
    """Move the encoder's files to where releases before 3 put them, and later ones read them."""
    (directory / folder).mkdir()
    for path in list(directory.iterdir()):
        if path.is_file() and path.name not in ("modules.json", "config_sentence_transformers.json", "README.md"):
            path.rename(directory / folder / path.name)
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate([(folder, "Transformer"), *_others(directory)])
    ]
    write_json(directory / "modules.json", modules)
    return directory


def _others(directory: Path) -> list[tuple[str, str]]:
    folders = sorted(path.name for path in directory.iterdir() if path.is_dir() and path.name[1:2] == "_")
    return [(name, name[2:]) for name in folders if not name.startswith("0_")]


def add_module(directory: Path, kind: str, folder: str, config: dict[str, Any] | None = None) -> Path:
    """Add an entry to modules.json, "x.y.Kind" or a kind of sentence-transformers' own."""
    import json

    listed = json.loads((directory / "modules.json").read_text())
    name = kind if "." in kind else f"sentence_transformers.models.{kind}"
    listed.append({"idx": len(listed), "name": str(len(listed)), "path": folder, "type": name})
    write_json(directory / "modules.json", listed)
    if config is not None:
        write_json(directory / folder / "config.json", config)
    return directory


def _old_booleans(directory: Path, *keys: str) -> Path:
    """Write the modes of pooling as releases before 6 did."""
    names = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    values = {f"pooling_mode_{name}": name in keys for name in names}
    write_json(directory / "1_Pooling" / "config.json", {"word_embedding_dimension": HIDDEN, **values})
    return directory


def _plain(directory: Path, base: Path) -> Path:
    return save_sentence(directory, base, Pooling(HIDDEN, "cls"), Normalize())


def _foldered(directory: Path, base: Path) -> Path:
    return in_a_folder(_plain(directory, base))


def _foldered_beside_another(directory: Path, base: Path) -> Path:
    """Put a whole encoder of other weights into the root too, which is not the one that modules.json names."""
    _foldered(directory, base)
    for path in base.iterdir():
        if path.name != "model.safetensors":
            shutil.copy(path, directory)
    from safetensors.torch import load_file, save_file

    weights = {name: weight * 0.5 for name, weight in load_file(base / "model.safetensors").items()}
    save_file(weights, directory / "model.safetensors")
    return directory


def _cut_after_normalizing(directory: Path, base: Path) -> Path:
    return save_sentence(directory, base, Pooling(HIDDEN, "mean"), Normalize(), truncate_dim=16)


def _pooler(directory: Path, base: Path) -> Path:
    """Use the encoder's own pooler for the vector."""
    save_sentence(directory, base, Pooling(HIDDEN, "mean"), Normalize())
    write_json(
        directory / "modules.json",
        [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    config = {"text": {"method": "forward", "method_output_name": "pooler_output"}}
    edit_json(directory / "sentence_bert_config.json", modality_config=config, module_output_name="sentence_embedding")
    return directory


def _several(*modes: str, include_prompt: bool = True) -> Callable[[Path, Path], Path]:
    def make(directory: Path, base: Path) -> Path:
        pooling = Pooling(HIDDEN, list(modes), include_prompt=include_prompt)
        return save_sentence(directory, base, pooling, Normalize(), prompts={"query": "the quick word: "})

    return make


def _dense(directory: Path, base: Path) -> Path:
    pooling, first = Pooling(HIDDEN, ["mean", "cls"]), dense(2 * HIDDEN, 24, nn.GELU())
    prompts = {"query": "find: "}
    return save_sentence(directory, base, pooling, first, Normalize(), prompts=prompts, default_prompt_name="query")


def _chain(directory: Path, base: Path) -> Path:
    steps: Sequence[nn.Module] = (
        *(dense(HIDDEN, 50, nn.ReLU(), bias=False), Normalize(), Dropout(0.3), layer_norm(50)),
        *(dense(50, 50, nn.Identity(), use_residual=True), dense(50, 20, nn.Sigmoid(), use_residual=True)),
    )
    return save_sentence(directory, base, Pooling(HIDDEN, "mean"), *steps)


def _pickled(directory: Path, base: Path) -> Path:
    save_sentence(directory, base, Pooling(HIDDEN, "max"), made := dense(HIDDEN, 40))
    (directory / "2_Dense" / "model.safetensors").unlink()
    torch.save(made.state_dict(), directory / "2_Dense" / "pytorch_model.bin")
    return directory


def _all_old_booleans(directory: Path, base: Path) -> Path:
    keys = ("mean_tokens", "cls_token", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")
    return _old_booleans(_plain(directory, base), *keys)


# By name, what makes a checkpoint from that of an encoder.
SENTENCE_MAKERS: dict[str, Callable[[Path, Path], Path]] = {
    "plain": _plain,
    "foldered": _foldered,
    "foldered-beside-another": _foldered_beside_another,
    "foldered-dense": lambda directory, base: in_a_folder(_dense(directory, base)),
    "weighted": _several("weightedmean"),
    "several": _several("lasttoken", "weightedmean", "mean_sqrt_len_tokens", "max"),
    "all-old-booleans": _all_old_booleans,
    "without-prompt": _several("mean", include_prompt=False),
    "several-without-prompt": _several("weightedmean", "cls", "max", "lasttoken", include_prompt=False),
    "dense": _dense,
    "chain": _chain,
    "pickled": _pickled,
    "cut-after-normalizing": _cut_after_normalizing,
    "pooler": _pooler,
}
