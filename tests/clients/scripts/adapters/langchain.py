"""Ask by our adapter for LangChain, and print the answers as JSON: `langchain.py ADDRESS TEXT …`."""

from __future__ import annotations

import asyncio
import json
import sys

from langchain_core.vectorstores import InMemoryVectorStore

from bertstream.adapters.langchain import BertstreamEmbeddings

address, *texts = sys.argv[1:]
embeddings = BertstreamEmbeddings(address, model="all-MiniLM-L6-v2")
store = InMemoryVectorStore.from_texts(texts, embeddings)
answers = {
    "documents": embeddings.embed_documents(texts),
    "query": embeddings.embed_query(texts[0]),
    "async": asyncio.run(embeddings.aembed_documents(texts)),
    "found": [document.page_content for document in store.similarity_search(texts[1], k=1)],
}
json.dump(answers, sys.stdout)
