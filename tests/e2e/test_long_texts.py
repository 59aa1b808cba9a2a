"""Texts of thousands of tokens, for models whose positions allow them, through a real server."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModel

from bertstream.client import Client
from tests.support.pairs import EXACT
from tests.support.reference import worst


def test_a_text_of_eight_thousand_tokens(client: Client, checkpoint: Callable[[str], Path]) -> None:
    (model,) = [each for each in client.models() if each.name == "modernbert-long"]
    assert model.max_tokens == 8192
    ids = np.random.default_rng(0).integers(5, 300, 8192).tolist()
    with torch.inference_mode():
        theirs = AutoModel.from_pretrained(checkpoint("modernbert-long"), attn_implementation="sdpa").eval()
        want = theirs(torch.tensor([ids])).last_hidden_state[0]
    found = client.forward([ids, ids[:9]], ["last_hidden_state"], model="modernbert-long", max_length=8192)
    assert worst(found[0].last_hidden_state, want) < EXACT
