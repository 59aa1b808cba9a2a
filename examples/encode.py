"""Encode a few texts and compare them: `python examples/encode.py [ADDRESS]`."""

from __future__ import annotations

import sys

from bertstream.client import Client

TEXTS = ["A cat sleeps on the warm roof.", "On top of the house lies a kitten.", "Interest rates went up again."]

with Client(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051") as client:
    vectors = client.encode(TEXTS, pooling="mean", normalize=True)
    print(vectors.shape, vectors.dtype)
    for text, row in zip(TEXTS, vectors @ vectors.T, strict=True):
        print(" ".join(f"{value:5.2f}" for value in row), "", text)
