"""Ask by KServe's client, and print the answers as JSON: `kserve.py ADDRESS TEXT …`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import numpy as np
from kserve import InferenceGRPCClient, InferInput, InferRequest

MODEL = "all-MiniLM-L6-v2"


async def answers(address: str, texts: list[str]) -> dict[str, Any]:
    """Return the answers, by typed and by raw contents."""
    client = InferenceGRPCClient(address)
    raw = InferInput("text", [len(texts)], "BYTES")
    raw.set_data_from_numpy(np.array(texts, object))
    typed = InferInput("text", [len(texts)], "BYTES", data=[text.encode() for text in texts])
    found = {}
    for name, given in (("raw", raw), ("typed", typed)):
        answer = await client.infer(InferRequest(MODEL, [given], request_id=name, from_grpc=True))
        found[answer.id] = answer.outputs[0].as_numpy().tolist()
    return {"ready": await client.is_model_ready(MODEL), **found}


address, *texts = sys.argv[1:]
json.dump(asyncio.run(answers(address, texts)), sys.stdout)
