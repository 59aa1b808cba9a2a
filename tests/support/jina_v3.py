"""Make tiny checkpoints of Jina's third embedding models, as transformers saves them and as their authors do."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import JinaEmbeddingsV3Config, JinaEmbeddingsV3Model

from bertstream.workers.contract import ADAPTER_TASKS
from tests.support.checkpoints import edit_json, save_random_model, tiny_xlm_roberta, write_json

CODE = "jinaai/xlm-roberta-flash-implementation"
RANK, ALPHA = 4, 3
PROMPTS = {task: f"{task}: " if task.startswith("retrieval") else "" for task in ADAPTER_TASKS}
_PARTS = "parametrizations.weight"
_TABLES = ("word_embeddings", "token_type_embeddings")
_ADAPTED = (*_TABLES, "mixer.Wqkv", "mixer.out_proj", "mlp.fc1", "mlp.fc2", "pooler.dense")


def tiny_jina_v3(directory: Path, *, architecture: str = "JinaEmbeddingsV3Model", **config: Any) -> Path:
    """Make one of transformers, of 3 layers of odd sizes, without adapters."""
    other = tiny_xlm_roberta(directory / "other", num_hidden_layers=1)
    rows = load_file(other / "model.safetensors")["embeddings.word_embeddings.weight"]
    sizes = {"hidden_size": 36, "num_hidden_layers": 3, "num_attention_heads": 3, "intermediate_size": 70}
    positions = {"max_position_embeddings": 700, "vocab_size": len(rows)}
    save_random_model(directory, architecture, JinaEmbeddingsV3Config(**{**sizes, **positions, **config}))
    for path in other.glob("*token*"):
        shutil.copy(path, directory)
    shutil.rmtree(other)
    return directory


def with_adapters(directory: Path, native: Path) -> Path:
    """Make a checkpoint of its authors' from one of transformers, with random adapters."""
    shutil.copytree(native, directory)
    weights = {f"roberta.{name}": each for name, each in load_file(directory / "model.safetensors").items()}
    for name in [name for name in weights if name.removesuffix(".weight").endswith(_ADAPTED)]:
        base, weight = name.removesuffix(".weight"), weights.pop(name)
        rows, columns = weight.shape
        shapes = ((rows, RANK), (RANK, columns)) if base.endswith(_TABLES) else ((RANK, columns), (rows, RANK))
        weights[f"{base}.{_PARTS}.original"] = weight
        for part, shape in zip("AB", shapes, strict=True):
            generator = torch.Generator().manual_seed(len(base) + ord(part))
            made = torch.randn((len(ADAPTER_TASKS), *shape), generator=generator) * 0.2
            weights[f"{base}.{_PARTS}.0.lora_{part}"] = made
    save_file(weights, directory / "model.safetensors")
    edit_json(
        directory / "config.json",
        model_type="xlm-roberta",
        architectures=["XLMRobertaModel"],
        auto_map={"AutoModel": f"{CODE}--modeling_lora.XLMRobertaLoRA"},
        position_embedding_type="rotary",
        rope_parameters=None,
        rotary_emb_base=20000.0,
        lora_adaptations=list(ADAPTER_TASKS),
        lora_rank=RANK,
        lora_alpha=ALPHA,
        task_instructions=PROMPTS,
        use_flash_attn=True,
    )
    return directory


def with_modules(directory: Path) -> Path:
    """Add the files that sentence-transformers reads, with the encoder in the authors' own code."""
    own = "sentence_transformers.models."
    modules = (("custom_st.Transformer", ""), (f"{own}Pooling", "1_Pooling"), (f"{own}Normalize", "2_Normalize"))
    listed = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (kind, path) in enumerate(modules)]
    write_json(directory / "modules.json", listed)
    (directory / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 36, "pooling_mode_mean_tokens": True}
    write_json(directory / "1_Pooling" / "config.json", pooling)
    write_json(directory / "config_sentence_transformers.json", {"prompts": PROMPTS, "default_prompt_name": None})
    return directory


def for_task(native: Path, adapted: Path, task: str) -> Any:
    """Return transformers' model, with the adapter for a task added to its weights."""
    weights, number = load_file(adapted / "model.safetensors"), ADAPTER_TASKS.index(task)
    model: Any = JinaEmbeddingsV3Model.from_pretrained(native, attn_implementation="eager")
    model.eval()

    def added(base: str) -> Tensor:
        a, b = (weights[f"roberta.{base}.{_PARTS}.0.lora_{part}"][number] for part in "AB")
        return (a @ b if base.endswith(_TABLES) else b @ a) * (ALPHA / RANK)

    with torch.no_grad():
        for name in _TABLES:
            getattr(model.embeddings, name).weight += added(f"embeddings.{name}")
        for i, layer in enumerate(model.layers):
            q, k, v = added(f"encoder.layers.{i}.mixer.Wqkv").chunk(3)
            attention = layer.self_attn
            attention.q_proj.weight += q
            attention.k_proj.weight += k
            attention.v_proj.weight += v
            attention.o_proj.weight += added(f"encoder.layers.{i}.mixer.out_proj")
            layer.mlp.fc1.weight += added(f"encoder.layers.{i}.mlp.fc1")
            layer.mlp.fc2.weight += added(f"encoder.layers.{i}.mlp.fc2")
        model.pooler.dense.weight += added("pooler.dense")
    return model
