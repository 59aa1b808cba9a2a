"""Ask by LlamaIndex's clients of TEI, and print the answers as JSON: `llama_index.py URL TEXT …`."""

from __future__ import annotations

import json
import sys

from llama_index.core.schema import NodeWithScore, TextNode
from llama_index.embeddings.text_embeddings_inference import TextEmbeddingsInference
from llama_index.postprocessor.tei_rerank import TextEmbeddingInference as Reranker

QUERY = "Where does the cat sleep?"
DOCUMENTS = ["It will rain.", "On the roof.", "The stock exchange opens at nine."]

url, *texts = sys.argv[1:]
# What it puts before queries and texts of models that it knows is not wanted here.
model = TextEmbeddingsInference(model_name="all-MiniLM-L6-v2", base_url=url, query_instruction="", text_instruction="")
nodes = [NodeWithScore(node=TextNode(text=text, id_=str(place))) for place, text in enumerate(DOCUMENTS)]
ranked = Reranker(base_url=url, top_n=len(DOCUMENTS)).postprocess_nodes(nodes, query_str=QUERY)
answers = {
    "documents": model.get_text_embedding_batch(texts),
    "query": model.get_query_embedding(texts[0]),
    "ranks": [(int(each.node.node_id), each.score) for each in ranked],
}
json.dump(answers, sys.stdout)
