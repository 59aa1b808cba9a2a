"""Find the passages nearest to a question: `python examples/semantic_search.py [ADDRESS] [QUESTION]`."""

from __future__ import annotations

import sys

from bertstream.client import Client

PASSAGES = [
    "Opening hours: Monday to Friday from eight to six, Saturday until noon.",
    "Parcels that could not be delivered are kept at the counter for seven days.",
    "To change your address, fill in the form at the counter and show an identity card.",
    "Letters up to twenty grams need one stamp, heavier ones two.",
    "Complaints about a carrier are answered within two weeks.",
]

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
question = sys.argv[2] if len(sys.argv) > 2 else "Where is the package that I was not at home for?"
with Client(address) as client:
    # Unit vectors, so that their products are cosines.
    scores = client.encode(PASSAGES, normalize=True) @ client.encode(question, normalize=True)
print(question)
for index in scores.argsort()[::-1][:3]:
    print(f"{scores[index]:6.2f}  {PASSAGES[index]}")
