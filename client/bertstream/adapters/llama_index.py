"""An embedding and a node post-processor of LlamaIndex."""

from __future__ import annotations

import asyncio
from typing import Any

from bertstream.adapters._embedder import ADDRESS, KEY_VARIABLE, Connection, Embedder
from bertstream.adapters._needs import needs
from bertstream.client import Client

with needs("llama-index-core", __name__):
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import Field, PrivateAttr
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle


class BertstreamEmbedding(BaseEmbedding):
    """Vectors for LlamaIndex's indexes.

    ```python
    Settings.embed_model = BertstreamEmbedding(address="127.0.0.1:50051", model_name="all-MiniLM-L6-v2")
    ```

    Queries and documents get the prompts that the checkpoint has for them. Asynchronous calls run in a thread.

    Args:
        client: a client to use in place of `address`, `tls` and `api_key_env_var`.
        fields: those of this class and of BaseEmbedding.
    """

    address: str = Field(default=ADDRESS, description="as bertstream's Client takes it")
    model_name: str = Field(default="", description="the model; empty for the server's default")
    tls: bool = Field(default=False, description="whether to use TLS with the system's authorities")
    api_key_env_var: str = Field(default=KEY_VARIABLE, description="the environment variable that has the API key")
    options: dict[str, Any] = Field(default_factory=dict, description="further keyword arguments of Client.encode")
    embed_batch_size: int = Field(default=64, description="texts of one call", gt=0)

    _embedder: Embedder = PrivateAttr()

    def __init__(self, *, client: Client | None = None, **fields: Any) -> None:
        super().__init__(**fields)
        connection = Connection(self.address, tls=self.tls, api_key_env_var=self.api_key_env_var, client=client)
        self._embedder = Embedder(connection, {"model": self.model_name, **self.options})

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which LlamaIndex saves this class."""
        return "BertstreamEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        vector: list[float] = self._embedder.queries([query])[0].tolist()
        return vector

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self._embedder.documents(texts).tolist()
        return vectors

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return await asyncio.to_thread(self._get_text_embedding, text)

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._get_text_embeddings, texts)


class BertstreamRerank(BaseNodePostprocessor):
    """The nodes by their relevance to the query, the most relevant first, with a cross-encoder's scores.

    Args:
        client: a client to use in place of `address`, `tls` and `api_key_env_var`.
        fields: those of this class and of BaseNodePostprocessor.
    """

    address: str = Field(default=ADDRESS, description="as bertstream's Client takes it")
    model: str = Field(default="", description="the model; empty for the server's default")
    tls: bool = Field(default=False, description="whether to use TLS with the system's authorities")
    api_key_env_var: str = Field(default=KEY_VARIABLE, description="the environment variable that has the API key")
    top_n: int | None = Field(default=None, description="how many of the best nodes to keep; None for all", gt=0)
    options: dict[str, Any] = Field(default_factory=dict, description="further keyword arguments of Client.rerank")

    _connection: Connection = PrivateAttr()

    def __init__(self, *, client: Client | None = None, **fields: Any) -> None:
        super().__init__(**fields)
        self._connection = Connection(self.address, tls=self.tls, api_key_env_var=self.api_key_env_var, client=client)

    @classmethod
    def class_name(cls) -> str:
        """Return the name by which LlamaIndex saves this class."""
        return "BertstreamRerank"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        if query_bundle is None:
            raise ValueError("reranking needs a query: give query_bundle or query_str")
        if not nodes:
            return []
        texts = [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]
        options = {"model": self.model, "top_k": self.top_n, **self.options}
        ranked = self._connection.client.rerank(query_bundle.query_str, texts, **options)
        return [NodeWithScore(node=nodes[each.index].node, score=each.score) for each in ranked]
