"""Ask by LangChain's client of OpenAI's API, and print the answers as JSON: `langchain.py URL TEXT …`."""

from __future__ import annotations

import asyncio
import json
import sys

from langchain_openai import OpenAIEmbeddings

url, *texts = sys.argv[1:]
# Without the last option it sends the token ids of OpenAI's own models.
embeddings = OpenAIEmbeddings(
    model="all-MiniLM-L6-v2", base_url=f"{url}/v1", api_key="none", check_embedding_ctx_length=False
)
answers = {
    "documents": embeddings.embed_documents(texts),
    "query": embeddings.embed_query(texts[0]),
    "async": asyncio.run(embeddings.aembed_documents(texts)),
}
json.dump(answers, sys.stdout)
