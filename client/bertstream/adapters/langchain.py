"""An `Embeddings` of LangChain."""

from __future__ import annotations

from typing import Unpack

from bertstream.adapters._embedder import ADDRESS, KEY_VARIABLE, Connection, Embedder
from bertstream.adapters._needs import needs
from bertstream.client import Client, EncodeOptions

with needs("langchain-core", __name__):
    from langchain_core.embeddings import Embeddings


class BertstreamEmbeddings(Embeddings):
    """Vectors for LangChain's vector stores and retrievers.

    ```python
    embeddings = BertstreamEmbeddings("127.0.0.1:50051", model="all-MiniLM-L6-v2")
    ```

    Queries and documents get the prompts that the checkpoint has for them. The asynchronous methods are those of
    LangChain, which runs these in a thread.

    Args:
        address: as `Client` takes it.
        tls: whether to use TLS with the authorities that the system trusts.
        api_key_env_var: the environment variable that has the API key, if there is one.
        client: a client to use in place of all these.
        options: keyword arguments of `Client.encode`, among them `model`.
    """

    def __init__(
        self,
        address: str = ADDRESS,
        *,
        tls: bool = False,
        api_key_env_var: str = KEY_VARIABLE,
        client: Client | None = None,
        **options: Unpack[EncodeOptions],
    ) -> None:
        connection = Connection(address, tls=tls, api_key_env_var=api_key_env_var, client=client)
        self._embedder = Embedder(connection, options)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return the vectors of texts that are searched."""
        vectors: list[list[float]] = self._embedder.documents(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a text that is searched for."""
        vector: list[float] = self._embedder.queries([text])[0].tolist()
        return vector
