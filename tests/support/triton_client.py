"""Ask a server all that `tritonclient` can ask of it, and print the answers as JSON.

It has a process of its own, since that client brings a package `inference` to protobuf's own pool. Run as
`python -m tests.support.triton_client ADDRESS`.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sys
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio

MODEL = "all-MiniLM-L6-v2"
TEXTS = ["The quick brown fox", "jumps over the lazy dog", "A model server answers questions"]


def text_input(texts: list[str]) -> triton.InferInput:
    made = triton.InferInput("text", [len(texts), 1], "BYTES")
    made.set_data_from_numpy(np.array([[text] for text in texts], object))
    return made


def vectors(result: Any) -> Any:
    return result.as_numpy("embeddings").tolist()


def streamed(client: triton.InferenceServerClient) -> list[Any]:
    """Return the answers of a stream by their ids; of one that fails, its error."""
    answers: queue.Queue[Any] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for number, text in enumerate(TEXTS):
        client.async_stream_infer(MODEL, [text_input([text])], request_id=str(number))
    client.async_stream_infer("nothing", [text_input(TEXTS)])
    got = [answers.get(timeout=60) for _ in range(len(TEXTS) + 1)]
    client.stop_stream()
    return [str(error) if error else (result.get_response().id, vectors(result)) for result, error in got]


async def by_asyncio(address: str) -> dict[str, Any]:
    async with triton_aio.InferenceServerClient(address) as client:

        async def requests() -> AsyncIterator[dict[str, Any]]:
            for text in TEXTS:
                yield {"model_name": MODEL, "inputs": [text_input([text])]}

        alone = await client.infer(MODEL, [text_input(TEXTS)])
        many = [vectors(result) async for result, error in client.stream_infer(requests()) if not error]
        return {"aio": vectors(alone), "aio_stream": many}


def answers(address: str) -> dict[str, Any]:
    """Return all answers."""
    with triton.InferenceServerClient(address) as client:
        result = client.infer(MODEL, [text_input(TEXTS)], request_id="seven", parameters={"normalize": False})
        labels = client.infer(
            "nli", [text_input(TEXTS)], outputs=[triton.InferRequestedOutput("scores", class_count=1)], priority=1
        )
        config = client.get_model_config(MODEL).config
        return {
            "live": [client.is_server_live(), client.is_server_ready(), client.is_model_ready(MODEL, "1")],
            "absent": client.is_model_ready("nothing"),
            "server": client.get_server_metadata(as_json=True)["name"],
            "outputs": [output.name for output in client.get_model_metadata(MODEL).outputs],
            "config": [config.max_batch_size, [each.name for each in config.input]],
            "index": [each.name for each in client.get_model_repository_index().models],
            "plain": vectors(result),
            "id": result.get_response().id,
            "counts": result.as_numpy("token_count").ravel().tolist(),
            "labels": [label.decode() for label in labels.as_numpy("scores").ravel()],
            "stream": streamed(client),
            "statistics": client.get_inference_statistics(MODEL).model_stats[0].inference_stats.success.count,
        }


if __name__ == "__main__":
    sys.stdout.write(json.dumps({**answers(sys.argv[1]), **asyncio.run(by_asyncio(sys.argv[1]))}))
