"""Show how a word gets its meaning, layer by layer, while they are computed: `python examples/layers.py [ADDRESS]`."""

from __future__ import annotations

import sys

import numpy as np

from bertstream.client import Client, Layer

WORD = "bank"
TEXTS = ["We sat on the bank of the river.", "The bank of the stream was wet.", "The bank has raised its rates."]

with Client(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051") as client:
    print(f"how near the first {WORD!r} is to those of the other texts\nlayer  {TEXTS[1]}  {TEXTS[2]}")
    for event in client.stream_layers(TEXTS):
        if isinstance(event, Layer):
            state = event.array[event.tokens.index(WORD)]
            unit = state / np.linalg.norm(state)
            if event.text_index == 0:  # the texts come in turn for each layer
                first, near = unit, []
            else:
                near.append(f"{first @ unit:.2f}")
            if len(near) == len(TEXTS) - 1:
                print(f"{event.layer:5}  {near[0]:>{len(TEXTS[1])}}  {near[1]:>{len(TEXTS[2])}}", flush=True)
