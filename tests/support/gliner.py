"""Make tiny GLiNER checkpoints, and find entities with them as their authors' paper and package say, in plain torch."""

from __future__ import annotations

import functools
import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, AutoTokenizer

from tests.support.checkpoints import edit_json, tiny_bert, tiny_deberta, write_json

MARKS = ("[FLERT]", "<<ENT>>", "<<SEP>>")
SETTINGS: dict[str, Any] = {
    "hidden_size": 20,
    "max_width": 4,
    "max_len": 60,
    "num_rnn_layers": 1,
    "span_mode": "markerV0",
    "subtoken_pooling": "first",
    "embed_ent_token": True,
    "class_token_index": -1,
    "vocab_size": -1,
    "ent_token": "<<ENT>>",
    "sep_token": "<<SEP>>",
    "words_splitter_type": "whitespace",
}
Found = tuple[str, int, int, float]  # label, start, end, score


def projection(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, 4 * width), nn.ReLU(), nn.Dropout(0.1), nn.Linear(4 * width, width))


class Network(nn.Module):
    """Hold all weights under the names that checkpoints have."""

    def __init__(self, encoder: nn.Module, settings: dict[str, Any]) -> None:
        super().__init__()
        width, hidden = settings["hidden_size"], int(encoder.config.hidden_size)  # type: ignore[union-attr, arg-type]
        self.token_rep_layer = nn.ModuleDict({"bert_layer": nn.ModuleDict({"model": encoder})})
        if width != hidden:
            self.token_rep_layer["projection"] = nn.Linear(hidden, width)
        if settings["num_rnn_layers"]:
            lstm = nn.LSTM(width, width // 2, settings["num_rnn_layers"], bidirectional=True, batch_first=True)
            self.rnn = nn.ModuleDict({"lstm": lstm})
        ends = {name: projection(width, width) for name in ("project_start", "project_end")}
        marker = nn.ModuleDict({**ends, "out_project": projection(2 * width, width)})
        self.span_rep_layer = nn.ModuleDict({"span_rep_layer": marker})
        self.prompt_rep_layer = projection(width, width)


def save_gliner(directory: Path, base: Path, *, has_marks: bool = False, safe: bool = False, **changed: Any) -> Path:
    """Save a checkpoint with the encoder and the tokenizer of `base`.

    has_marks: whether the tokenizer is saved with the tokens before labels and text; safe: in safetensors.
    """
    settings = {**SETTINGS, **changed}
    shutil.copytree(base, directory, ignore=shutil.ignore_patterns("model.safetensors", "config.json"))
    tokenizer: Any = AutoTokenizer.from_pretrained(base)
    tokenizer.add_tokens(list(MARKS), special_tokens=True)
    encoder: Any = AutoModel.from_pretrained(base, attn_implementation="eager")
    torch.manual_seed(11)
    encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    network = Network(encoder, settings)
    with torch.no_grad():
        for name, weight in network.named_parameters():
            if not name.startswith("token_rep_layer.bert_layer"):
                weight.copy_(torch.randn_like(weight) * (1.5 / weight.shape[-1] ** 0.5))
    if has_marks:
        tokenizer.save_pretrained(directory)
        settings |= {"class_token_index": tokenizer.convert_tokens_to_ids("<<ENT>>"), "vocab_size": len(tokenizer)}
    write_json(directory / "gliner_config.json", {**settings, "encoder_config": encoder.config.to_dict()})
    weights = {name: weight.contiguous() for name, weight in network.state_dict().items()}
    if safe:
        save_file(weights, directory / "model.safetensors")
    else:
        torch.save(weights, directory / "pytorch_model.bin")
    return directory


def tiny_gliner(directory: Path) -> Path:
    """Make one on DeBERTa, whose tokenizer has no marks yet."""
    with tempfile.TemporaryDirectory() as folder:
        return save_gliner(directory, tiny_deberta(Path(folder) / "base"))


def tiny_gliner_bert(directory: Path) -> Path:
    """Make one on BERT that reads the labels' names, has no LSTM, and is as wide as its encoder."""
    own = {"hidden_size": 36, "max_width": 3, "num_rnn_layers": 0, "embed_ent_token": False}
    with tempfile.TemporaryDirectory() as folder:
        return save_gliner(directory, tiny_bert(Path(folder) / "base"), has_marks=True, safe=True, **own)


def naming_its_encoder(directory: Path, checkpoint: Path, name: str) -> Path:
    """Copy a checkpoint without the encoder's settings and tokenizer, as early ones were published."""
    kept = ("gliner_config.json", "pytorch_model.bin", "model.safetensors")
    directory.mkdir()
    for path in checkpoint.iterdir():
        if path.name in kept:
            shutil.copy(path, directory)
    edit_json(directory / "gliner_config.json", encoder_config=None, model_name=name)
    return directory


@dataclass
class Reference:
    """A checkpoint as it would be run by its authors, one text at a time."""

    directory: Path
    settings: dict[str, Any] = field(init=False)
    tokenizer: Any = field(init=False)
    network: Network = field(init=False)

    def __post_init__(self) -> None:
        self.settings = json.loads((self.directory / "gliner_config.json").read_text(encoding="utf-8"))
        self.tokenizer = AutoTokenizer.from_pretrained(self.directory)
        self.tokenizer.add_tokens(list(MARKS), special_tokens=True)
        config = dict(self.settings["encoder_config"])
        auto: Any = AutoModel
        made = AutoConfig.for_model(config.pop("model_type"), **config)
        self.network = Network(auto.from_config(made, attn_implementation="eager"), self.settings).eval()
        pickled = self.directory / "pytorch_model.bin"
        weights = torch.load(pickled) if pickled.exists() else load_file(self.directory / "model.safetensors")
        self.network.load_state_dict(weights)

    @torch.inference_mode()
    def logits(self, words: Sequence[str], labels: Sequence[str]) -> Tensor:
        """Return the logits of all spans, [words, max_width, labels]; -inf for those that go beyond the text."""
        network, prompt = self.network, [part for label in labels for part in ("<<ENT>>", label)] + ["<<SEP>>"]
        encoded = self.tokenizer([*prompt, *words], is_split_into_words=True, return_tensors="pt")
        ids, owners = encoded["input_ids"][0], encoded.word_ids()
        states = network.token_rep_layer["bert_layer"]["model"](**encoded).last_hidden_state[0]  # type: ignore[index]
        if "projection" in network.token_rep_layer:
            states = network.token_rep_layer["projection"](states)
        marked = (ids == self.tokenizer.convert_tokens_to_ids("<<ENT>>")).nonzero()[:, 0]
        named = network.prompt_rep_layer(states[marked + (0 if self.settings["embed_ent_token"] else 1)])
        of_words = states[[owners.index(len(prompt) + word) for word in range(len(words))]]
        if self.settings["num_rnn_layers"]:
            of_words = network.rnn["lstm"](of_words[None])[0][0]
        marker: Any = network.span_rep_layer["span_rep_layer"]
        starts, ends = marker["project_start"](of_words), marker["project_end"](of_words)
        logits = torch.full((len(words), self.settings["max_width"], len(labels)), -torch.inf)
        for first in range(len(words)):
            for more in range(min(self.settings["max_width"], len(words) - first)):
                span = marker["out_project"](torch.cat([starts[first], ends[first + more]]).relu())
                logits[first, more] = named @ span
        return logits

    def entities(
        self, text: str, labels: Sequence[str], threshold: float = 0.5, *, nested: bool = False, multi: bool = False
    ) -> list[Found]:
        """Return the entities of a text, cut to the most words, in their order."""
        matches = list(re.finditer(r"\w+(?:[-_]\w+)*|\S", text))[: self.settings["max_len"]]
        if not matches:
            return []
        scores = self.logits([match.group() for match in matches], labels).sigmoid()
        spans = [(-float(scores[at]), *at) for at in map(tuple, (scores > threshold).nonzero().tolist())]
        taken: list[tuple[int, int, int, float]] = []
        for score, first, more, label in sorted(spans, key=lambda span: span[0]):
            last = first + more
            if not any(_clash((first, last), other[:2], nested, multi) for other in taken):
                taken.append((first, last, label, -score))
        taken.sort(key=lambda span: span[0])
        return [(labels[c], matches[a].start(), matches[b].end(), score) for a, b, c, score in taken]


def _clash(one: tuple[int, int], other: tuple[int, int], nested: bool, multi: bool) -> bool:
    if one == other:
        return not multi
    shares = set(range(one[0], one[1] + 1)) & set(range(other[0], other[1] + 1))
    smaller = min(one[1] - one[0], other[1] - other[0]) + 1
    return bool(shares) and not (nested and len(shares) == smaller)


@functools.cache
def reference(directory: Path) -> Reference:
    """Return the reference of a checkpoint."""
    return Reference(directory)
