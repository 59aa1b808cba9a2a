"""Ask by Haystack's embedders, and print the answers as JSON: `haystack.py URL TEXT …`."""

from __future__ import annotations

import json
import sys
from typing import Any

from haystack import Document
from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
from haystack.utils import Secret

url, *texts = sys.argv[1:]
options: dict[str, Any] = {
    "model": "all-MiniLM-L6-v2",
    "api_base_url": f"{url}/v1",
    "api_key": Secret.from_token("none"),
}
documents = OpenAIDocumentEmbedder(progress_bar=False, **options).run([Document(content=text) for text in texts])
answers = {
    "documents": [document.embedding for document in documents["documents"]],
    "query": OpenAITextEmbedder(**options).run(texts[0])["embedding"],
}
json.dump(answers, sys.stdout)
