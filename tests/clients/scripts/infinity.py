"""Ask by infinity's client, and print the answers as JSON: `infinity.py URL TEXT …`."""

from __future__ import annotations

import json
import sys
from typing import Any

from infinity_client import Client
from infinity_client.api.default import embeddings, rerank
from infinity_client.models import OpenAIEmbeddingInputText, RerankInput

QUERY = "Where does the cat sleep?"
DOCUMENTS = ["It will rain.", "On the roof.", "The stock exchange opens at nine."]

url, *texts = sys.argv[1:]
with Client(base_url=f"{url}/v1", raise_on_unexpected_status=True) as client:
    vectors: Any = embeddings.sync(client=client, body=OpenAIEmbeddingInputText(input_=texts, model="all-MiniLM-L6-v2"))
    ranking: Any = rerank.sync(client=client, body=RerankInput(query=QUERY, documents=DOCUMENTS, model="reranker"))
answers = {
    "vectors": [each.embedding for each in vectors.data],
    "ranks": [(each.index, each.relevance_score) for each in ranking.results],
}
json.dump(answers, sys.stdout)
