"""Ask by our adapters for Haystack, and print the answers as JSON: `haystack.py ADDRESS TEXT …`."""

from __future__ import annotations

import asyncio
import json
import sys

from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.document_stores.in_memory import InMemoryDocumentStore

from bertstream.adapters.haystack import BertstreamDocumentEmbedder, BertstreamTextEmbedder

address, *texts = sys.argv[1:]
embedder = BertstreamDocumentEmbedder(address, "all-MiniLM-L6-v2")
documents = embedder.run([Document(content=text) for text in texts])["documents"]
store = InMemoryDocumentStore(embedding_similarity_function="cosine")
store.write_documents(documents)
pipeline = Pipeline()
pipeline.add_component("query", BertstreamTextEmbedder(address, "all-MiniLM-L6-v2"))
pipeline.add_component("retriever", InMemoryEmbeddingRetriever(store, top_k=1))
pipeline.connect("query.embedding", "retriever.query_embedding")
again = Pipeline.loads(pipeline.dumps(), allowed_modules=["bertstream.adapters.haystack"])  # with an empty store
titled = BertstreamDocumentEmbedder(
    address, "all-MiniLM-L6-v2", meta_fields_to_embed=["title"], embedding_separator=" "
)
words = texts[0].split(" ", 1)
answers = {
    "documents": [document.embedding for document in documents],
    "query": BertstreamTextEmbedder(address, "all-MiniLM-L6-v2").run(texts[0])["embedding"],
    "async": [each.embedding for each in asyncio.run(embedder.run_async(documents))["documents"]],
    "saved": again.get_component("query").run(texts[0])["embedding"],
    "meta": titled.run([Document(content=words[1], meta={"title": words[0]})])["documents"][0].embedding,
    "found": [each.content for each in pipeline.run({"query": {"text": texts[1]}})["retriever"]["documents"]],
}
json.dump(answers, sys.stdout)
