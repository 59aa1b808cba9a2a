"""Ask a server by KServe's client, and print the answers as JSON: `python -m tests.support.kserve_client ADDRESS`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

MODEL = "all-MiniLM-L6-v2"
TEXTS = ["The quick brown fox", "jumps over the lazy dog", "A model server answers questions"]


async def answers(address: str) -> dict[str, Any]:
    """Return the answers, with typed and with raw contents."""
    client = InferenceGRPCClient(address)
    raw = InferInput("text", [len(TEXTS)], "BYTES")
    raw.set_data_from_numpy(np.array(TEXTS, object))
    typed = InferInput("text", [len(TEXTS)], "BYTES", data=[text.encode() for text in TEXTS])
    found = {
        name: await client.infer(InferRequest(MODEL, [given], request_id=name, from_grpc=True))
        for name, given in (("raw", raw), ("typed", typed))
    }
    return {
        "live": [await client.is_server_live(), await client.is_server_ready(), await client.is_model_ready(MODEL)],
        "vectors": {name: each.outputs[0].as_numpy().tolist() for name, each in found.items()},
        "ids": [each.id for each in found.values()],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(answers(sys.argv[1]))))
