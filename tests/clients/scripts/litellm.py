"""Ask by LiteLLM, and print the answers as JSON: `litellm.py URL TEXT …`."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it fetches a table of prices

import litellm

QUERY = "Where does the cat sleep?"
DOCUMENTS = ["It will rain.", "On the roof.", "The stock exchange opens at nine."]


def ranks(model: str, base: str) -> list[tuple[int, float]]:
    answer: Any = litellm.rerank(model=model, query=QUERY, documents=DOCUMENTS, api_base=base, api_key="none")
    return [(each["index"], each["relevance_score"]) for each in answer.results]


url, *texts = sys.argv[1:]
vectors: Any = litellm.embedding(
    model="openai/all-MiniLM-L6-v2", input=texts, api_base=f"{url}/v1", api_key="none", encoding_format="float"
)
answers = {
    "vectors": [each["embedding"] for each in vectors.data],
    "cohere": ranks("cohere/reranker", f"{url}/v1/rerank"),
    "jina": ranks("jina_ai/reranker", f"{url}/v1"),
}
json.dump(answers, sys.stdout)
