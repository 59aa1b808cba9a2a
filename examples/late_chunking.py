"""Find sentences by vectors that include their context: `python examples/late_chunking.py [ADDRESS] [QUESTION]`."""

from __future__ import annotations

import re
import sys

from bertstream.client import Client

DOCUMENT = (
    "Berlin is the capital of Germany, and has been so again since 1990. The city has three million inhabitants. "
    "It lies on the river Spree. Bananas are rich in potassium. They grow best where it never freezes."
)

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
question = sys.argv[2] if len(sys.argv) > 2 else "How many people live in Berlin?"
spans = [match.span() for match in re.finditer(r"\S[^.]*\.", DOCUMENT)]
sentences = [DOCUMENT[start:end] for start, end in spans]
with Client(address) as client:
    asked = client.encode(question, normalize=True)
    alone = client.encode(sentences, normalize=True) @ asked
    within = client.encode_spans(DOCUMENT, [spans], normalize=True)[0] @ asked
print(question, " alone  within", sep="\n")
for index in within.argsort()[::-1]:
    print(f"{alone[index]:6.2f} {within[index]:7.2f}  {sentences[index]}")
