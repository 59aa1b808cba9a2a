"""Ask by our adapters for LlamaIndex, and print the answers as JSON: `llama_index.py ADDRESS TEXT …`."""

from __future__ import annotations

import asyncio
import json
import sys

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import NodeWithScore, TextNode

from bertstream.adapters.llama_index import BertstreamEmbedding, BertstreamRerank

QUERY = "Where does the cat sleep?"
DOCUMENTS = ["It will rain.", "On the roof.", "The stock exchange opens at nine."]

address, *texts = sys.argv[1:]
model = BertstreamEmbedding(address=address, model_name="all-MiniLM-L6-v2")
nodes = [NodeWithScore(node=TextNode(text=text, id_=str(place))) for place, text in enumerate(DOCUMENTS)]
reranker = BertstreamRerank(address=address, model="reranker", options={"function": "sigmoid"})
index = VectorStoreIndex([TextNode(text=text) for text in texts], embed_model=model)
saved = BertstreamEmbedding.from_dict(model.to_dict())
answers = {
    "documents": model.get_text_embedding_batch(texts),
    "query": model.get_query_embedding(texts[0]),
    "async": asyncio.run(model.aget_text_embedding_batch(texts)),
    "saved": saved.get_text_embedding_batch(texts),
    "ranks": [(int(each.node.node_id), each.score) for each in reranker.postprocess_nodes(nodes, query_str=QUERY)],
    "best": len(BertstreamRerank(address=address, model="reranker", top_n=1).postprocess_nodes(nodes, query_str=QUERY)),
    "found": [each.text for each in index.as_retriever(similarity_top_k=1).retrieve(texts[1])],
}
json.dump(answers, sys.stdout)
