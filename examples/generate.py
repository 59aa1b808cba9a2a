"""Continue or summarize a text, printed as it is generated: `python examples/generate.py [ADDRESS] [TEXT] [MODEL]`."""

from __future__ import annotations

import sys

from bertstream.client import Client, GenerationDone

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
text = sys.argv[2] if len(sys.argv) > 2 else "The quick brown"
with Client(address) as client:
    writers = [model.name for model in client.models() if model.generation]
    if not writers:
        sys.exit("none of the server's models generates text")
    for piece in client.stream_generate(
        text, max_new_tokens=40, model=sys.argv[3] if len(sys.argv) > 3 else writers[0]
    ):
        print(piece, end="", flush=True)
        if isinstance(piece, GenerationDone):
            answer = piece.outputs[0]
            print(f"\n({len(answer.token_ids)} tokens from {answer.input_tokens}: {answer.finish_reason})")
