"""Ask by our adapter for Chroma, and print the answers as JSON: `chromadb.py ADDRESS TEXT …`."""

from __future__ import annotations

import json
import sys
import tempfile

import chromadb

from bertstream.adapters.chroma import BertstreamEmbeddingFunction

address, *texts = sys.argv[1:]
function = BertstreamEmbeddingFunction(address, model="all-MiniLM-L6-v2")
with tempfile.TemporaryDirectory() as folder:
    client = chromadb.PersistentClient(folder)
    collection = client.create_collection("texts", embedding_function=function)
    collection.add(ids=[str(number) for number in range(len(texts))], documents=texts)
    again = client.get_collection("texts")  # with the function that was saved
    answers = {
        "documents": [vector.tolist() for vector in function(texts)],
        "query": function.embed_query(texts[:1])[0].tolist(),
        "stored": collection.get(include=["embeddings"])["embeddings"].tolist(),
        "saved": function.get_config(),
        "found": again.query(query_texts=[texts[1]], n_results=1)["documents"],
    }
json.dump(answers, sys.stdout)
