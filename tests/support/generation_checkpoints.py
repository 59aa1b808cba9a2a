"""Make tiny random checkpoints that generate text, and load transformers' models of them."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertModel,
    Cache,
    CamembertConfig,
    ElectraConfig,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GenerationConfig,
    PreTrainedConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from tests.support.checkpoints import (
    edit_json,
    save_random_model,
    tiny_bert,
    tiny_camembert,
    tiny_electra,
    tiny_roberta,
    tiny_xlm_roberta,
)

MAKERS: dict[str, tuple[Callable[..., Path], str, str, Any]] = {
    "bert": (tiny_bert, "BertLMHeadModel", "BertModel", BertConfig),
    "roberta": (tiny_roberta, "RobertaForCausalLM", "RobertaModel", RobertaConfig),
    "xlm-roberta": (tiny_xlm_roberta, "XLMRobertaForCausalLM", "XLMRobertaModel", XLMRobertaConfig),
    "camembert": (tiny_camembert, "CamembertForCausalLM", "CamembertModel", CamembertConfig),
    "electra": (tiny_electra, "ElectraForCausalLM", "ElectraModel", ElectraConfig),
}
FAMILIES = tuple(MAKERS)
# The trained WordPiece vocabularies begin with [PAD] [UNK] [CLS] [SEP] [MASK].
_WORDPIECE_IDS = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3}
_ROBERTA_IDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_IDS = {
    "bert": _WORDPIECE_IDS,
    "electra": _WORDPIECE_IDS,
    "roberta": _ROBERTA_IDS,
    "xlm-roberta": _ROBERTA_IDS,
    "camembert": {"pad_token_id": 1, "bos_token_id": 5, "eos_token_id": 6},
}
# Neither the encoder's layers nor its width, unless a test says so, so that no size of one side passes for the other's.
_DECODER_SIZES = {"hidden_size": 36, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 54}


def tiny_causal(
    directory: Path, family: str = "bert", *, generation: dict[str, Any] | None = None, **config: Any
) -> Path:
    """Make a decoder of 5 layers x 36 x 3 heads.

    generation: the values of generation_config.json besides the special ids.
    """
    maker, architecture, _, _ = MAKERS[family]
    maker(directory, architecture=architecture, is_decoder=True, **{**_IDS[family], **config})
    _set_generation(directory, generation)
    return directory


def tiny_bert2bert(
    directory: Path,
    *,
    encoder: str = "bert",
    decoder: str = "bert",
    tied: bool = False,
    encoder_sizes: dict[str, Any] | None = None,
    decoder_sizes: dict[str, Any] | None = None,
    generation: dict[str, Any] | None = None,
    noise: float = 0.15,
    **config: Any,
) -> Path:
    """Make an EncoderDecoderModel of these two families, an encoder of 5 layers and a decoder of 3, both 36 wide.

    The tokenizer is the encoder's. With `tied`, decoder and encoder share all they can, and the file is the one that
    transformers 4 writes: without the encoder's share. `decoder_sizes` of another hidden_size bring enc_to_dec_proj.
    Models much wider than these need less `noise` in their weights.
    """
    maker, _, architecture, _ = MAKERS[encoder]
    maker(directory, architecture=architecture, **(encoder_sizes or {}))
    encoding = _read(directory / "config.json")
    config = _decoder_ids(encoder) | config
    decoding = _decoder_config(decoder, encoding, {} if tied else _DECODER_SIZES, decoder_sizes or {})
    both = EncoderDecoderConfig(encoder=encoding, decoder=decoding.to_dict(), **config)
    save_random_model(directory, "EncoderDecoderModel", both, noise)
    _set_generation(directory, generation)
    if tied:
        _leave_out_encoder(directory)
    return directory


def tiny_roberta2roberta(directory: Path, **options: Any) -> Path:
    """Make a model as tiny_bert2bert does, of RoBERTas."""
    return tiny_bert2bert(directory, encoder="roberta", decoder="roberta", **options)


def with_cache(cache: Cache) -> dict[str, Any]:
    """Return a cache as an argument of a transformers model, which was called `past_key_values` before 5.24."""
    known = inspect.signature(BertModel.forward).parameters
    return {"cache" if "cache" in known else "past_key_values": cache, "use_cache": True}


def transformers_model(directory: Path, **options: Any) -> Any:
    """Load transformers' model of a checkpoint made here, in float32, with generate."""
    config = _read(directory / "config.json")
    options = {"dtype": torch.float32, "attn_implementation": "eager", **options}
    if config["model_type"] != "encoder-decoder":
        return _evaluating(AutoModelForCausalLM.from_pretrained(directory, **options))
    model = _evaluating(EncoderDecoderModel.from_pretrained(directory, **options))
    if config.get("tie_encoder_decoder"):
        # transformers 5 no longer knows this setting, and leaves random what the file does not have.
        _copy_to_encoder(model)
    return model


def generate_options(model: Any, ids: list[int]) -> dict[str, Any]:
    """Return what transformers' generate needs for prompt `ids`, so that it agrees with its own model's forward.

    generate counts RoBERTa's positions from 0; forward, and so training, counts them from pad_token_id + 1.
    """
    padding = getattr(model.base_model.embeddings, "padding_idx", None) if not model.config.is_encoder_decoder else None
    if padding is None:
        return {}
    return {"position_ids": torch.arange(len(ids))[None] + padding + 1}


def _decoder_ids(encoder: str) -> dict[str, Any]:
    ids = _IDS[encoder]
    return {"decoder_start_token_id": ids["bos_token_id"], **ids}


def _decoder_config(
    family: str, encoding: dict[str, Any], sizes: dict[str, Any], more: dict[str, Any]
) -> PreTrainedConfig:
    """Return a configuration with the encoder's vocabulary, different only in `sizes` and `more`."""
    same = ("vocab_size", "pad_token_id", "hidden_size", "num_hidden_layers", "num_attention_heads")
    values = {key: encoding[key] for key in (*same, "intermediate_size", "max_position_embeddings", "type_vocab_size")}
    own = {"embedding_size": 20} if family == "electra" else {}
    found: PreTrainedConfig = MAKERS[family][3](
        **{**values, **own, **sizes, **more, "is_decoder": True, "add_cross_attention": True}
    )
    return found


def _set_generation(directory: Path, generation: dict[str, Any] | None) -> None:
    if generation is not None:
        settings: Any = GenerationConfig
        settings(**_read(directory / "generation_config.json") | generation).save_pretrained(directory)


def _leave_out_encoder(directory: Path) -> None:
    weights = load_file(directory / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("encoder.") or ".pooler." in name}
    save_file(kept, directory / "model.safetensors", {"format": "pt"})
    edit_json(directory / "config.json", tie_encoder_decoder=True)


def _copy_to_encoder(model: Any) -> None:
    theirs = model.decoder.base_model.state_dict()
    model.encoder.load_state_dict({**model.encoder.state_dict(), **_without_cross_attention(theirs)})


def _without_cross_attention(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in weights.items() if "crossattention" not in name}


def _evaluating(model: Any) -> Any:
    return model.eval()


def _read(path: Path) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return values
