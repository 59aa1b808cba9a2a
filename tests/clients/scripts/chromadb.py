"""Ask by Chroma's embedding functions, and print the answers as JSON: `chromadb.py URL TEXT …`."""

from __future__ import annotations

import json
import sys

import chromadb
from chromadb.utils.embedding_functions import HuggingFaceEmbeddingServer, OpenAIEmbeddingFunction

url, *texts = sys.argv[1:]
openai = OpenAIEmbeddingFunction(api_key="none", api_base=f"{url}/v1", model_name="all-MiniLM-L6-v2")
tei = HuggingFaceEmbeddingServer(url=f"{url}/embed")
collection = chromadb.EphemeralClient().create_collection("texts", embedding_function=tei)
collection.add(ids=[str(number) for number in range(len(texts))], documents=texts)
answers = {
    "openai": [vector.tolist() for vector in openai(texts)],
    "tei": [vector.tolist() for vector in tei(texts)],
    "found": collection.query(query_texts=[texts[1]], n_results=1)["documents"],
}
json.dump(answers, sys.stdout)
