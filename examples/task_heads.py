"""Ask each head of each served model a question: `python examples/task_heads.py [ADDRESS]`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from bertstream.client import Client

CONTEXT = "My name is Sarah, and I live in London."
QUESTIONS: dict[str, Callable[[Client, str], object]] = {
    "fill_mask": lambda c, model: c.fill_mask("Paris is the [MASK] of France.", top_k=1, model=model)[0][0].sequence,
    "next_sentence": lambda c, model: c.next_sentence("It began to rain.", "He opened his umbrella.", model=model),
    "sequence_classification": lambda c, model: c.classify("What a lovely film!", top_k=1, model=model)[0],
    "token_classification": lambda c, model: [each.word for each in c.entities(CONTEXT, model=model)],
    "zero_shot_entities": lambda c, model: [each.word for each in c.entities(CONTEXT, labels=["city"], model=model)],
    "question_answering": lambda c, model: c.answer("Where does Sarah live?", CONTEXT, model=model).text,
    "multiple_choice": lambda c, model: c.choose("He took his umbrella, as", ["it rained.", "he ate."], model=model),
    "causal_lm": lambda c, model: c.generate("The quick brown", model=model).text,
    "sequence_to_sequence": lambda c, model: c.summarize(CONTEXT, model=model),
}

with Client(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051") as client:
    for served in client.models():
        print(f"{served.name}: {len(served.heads)} heads")
        for head in served.heads:
            print(f"  {head}: {QUESTIONS[head](client, served.name)}")
