"""Ask by Cohere's client, of both versions of its API, and print the answers as JSON: `cohere.py URL`."""

from __future__ import annotations

import json
import sys
from typing import Any

import cohere

QUERY = "Where does the cat sleep?"
DOCUMENTS = ["It will rain.", "On the roof.", "The stock exchange opens at nine."]


def ranks(client: Any, **options: Any) -> list[tuple[int, float]]:
    answer = client.rerank(model="reranker", query=QUERY, documents=DOCUMENTS, **options)
    return [(each.index, each.relevance_score) for each in answer.results]


(url,) = sys.argv[1:]
first, second = cohere.Client("none", base_url=url), cohere.ClientV2("none", base_url=url)
answers = {"v1": ranks(first), "v2": ranks(second), "best": ranks(second, top_n=1)}
json.dump(answers, sys.stdout)
