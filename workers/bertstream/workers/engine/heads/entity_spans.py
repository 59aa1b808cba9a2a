"""Make the output for entities by labels of the caller's: the spans of words that may be one."""

from __future__ import annotations

import torch
from torch import Tensor

from bertstream.workers.contract import HeadName, HeadOptions
from bertstream.workers.engine.heads.asking import Asking, Named

_HEAD: HeadName = "zero_shot_entities"


def entity_spans(asking: Asking, index: int) -> Named:
    """Find the spans above the threshold: how many each text has, [n], and what they are, [S]."""
    counts = asking.spans(index).counts.tolist()
    states = asking.states([asking.span_tokens(index)])
    # One text at a time, so that no score depends on what else is in the batch.
    found = [_spans(asking, text, asking.options(index)) for text in states.split(counts)]
    named = {name: torch.cat([each[name] for each in found]) for name in ("starts", "ends", "labels", "scores")}
    named["counts"] = torch.tensor([len(each["scores"]) for each in found], dtype=torch.int32)
    return {f"entity_spans.{name}": values.cpu() for name, values in named.items()}


def _spans(asking: Asking, states: Tensor, options: HeadOptions) -> Named:
    """Return the spans of one text, [S] each. states: [C + W, H]."""
    words = len(states) - options.labels
    if not words:
        nothing = torch.zeros(0, dtype=torch.int32)
        return {"starts": nothing, "ends": nothing, "labels": nothing, "scores": torch.zeros(0)}
    scores = asking.program.span_logits(_HEAD, states, options.labels).sigmoid()  # [W, K, C]
    starts, more, labels = torch.where(scores > options.threshold)
    kept = starts + more < words
    starts, more, labels = starts[kept], more[kept], labels[kept]
    chosen = scores[starts, more, labels]
    if options.top_k and len(chosen) > options.top_k:
        best = chosen.argsort(descending=True, stable=True)[: options.top_k].sort().values
        starts, more, labels, chosen = starts[best], more[best], labels[best], chosen[best]
    return {"starts": starts.int(), "ends": (starts + more).int(), "labels": labels.int(), "scores": chosen.cpu()}
