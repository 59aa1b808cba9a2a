"""An embedding function of Chroma."""

from __future__ import annotations

from typing import Any, Unpack

import numpy as np
from numpy.typing import NDArray

from bertstream.adapters._embedder import ADDRESS, KEY_VARIABLE, Connection, Embedder
from bertstream.adapters._needs import needs
from bertstream.client import Client, EncodeOptions

with needs("chromadb", __name__):
    from chromadb import Documents, EmbeddingFunction
    from chromadb.utils.embedding_functions import register_embedding_function


@register_embedding_function
class BertstreamEmbeddingFunction(EmbeddingFunction[Documents]):
    """Vectors for a collection of Chroma, which saves how to make it again, without the key.

    ```python
    collection = chroma.create_collection("texts", embedding_function=BertstreamEmbeddingFunction())
    ```

    Queries and documents get the prompts that the checkpoint has for them.

    Args:
        address: as `Client` takes it.
        tls: whether to use TLS with the authorities that the system trusts.
        api_key_env_var: the environment variable that has the API key, if there is one.
        client: a client to use in place of all these. Chroma cannot save it.
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

    def __call__(self, input: Documents) -> list[NDArray[np.float32]]:
        """Return the vectors of documents."""
        return list(self._embedder.documents(input))

    def embed_query(self, input: Documents) -> list[NDArray[np.float32]]:
        """Return the vectors of queries."""
        return list(self._embedder.queries(input))

    @staticmethod
    def name() -> str:
        """Return the name by which Chroma finds this class."""
        return "bertstream"

    def default_space(self) -> str:
        """Return how Chroma compares the vectors of a new collection."""
        return "cosine"

    def get_config(self) -> dict[str, Any]:
        """Return what Chroma saves. Raises ValueError if a client was given."""
        return {**self._embedder.connection.settings(), "options": self._embedder.options}

    @staticmethod
    def build_from_config(config: dict[str, Any]) -> BertstreamEmbeddingFunction:
        """Return a function that is made from what was saved."""
        settings = {name: value for name, value in config.items() if name != "options"}
        return BertstreamEmbeddingFunction(**settings, **config.get("options", {}))

    def validate_config_update(self, old_config: dict[str, Any], new_config: dict[str, Any]) -> None:
        """Raise ValueError for other options: a collection has the vectors of one model alone."""
        if "options" in new_config and new_config["options"] != old_config.get("options", {}):
            raise ValueError("a collection keeps its model and options; make another collection for others")
